"""Prunes every architecture of segmentation-models-pytorch with every family of encoders, and shows what came out.

``python tests/pruning/matrix/run.py [--arch Unet …] [--encoder resnet18 …] [--csv FILE] [--record]``: one worker
process per core unless --workers says otherwise. Exit status 1 if a cell that runs dense is not pruned exactly.
"""

import argparse
import csv
import dataclasses
import logging
import math
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from cells import ARCHITECTURES, CELLS, Cell
from checks import Result, check
from rich.console import Console
from rich.table import Table

from polyp_lightning.common.files import write_beside

FROZEN_SHARES = Path(__file__).with_name("frozen.csv")
"""What no removal can reach of each cell that runs, in per cent of its parameters: the slow tests hold cells to it."""


def main(args: Sequence[str] | None = None) -> int:
    """Checks the cells asked for, prints the table, and returns 1 if one of them failed."""
    options = _parser().parse_args(args)
    cells = [
        cell
        for cell in CELLS
        if (not options.arch or cell[0] in options.arch) and (not options.encoder or cell[1] in options.encoder)
    ]
    start = time.perf_counter()
    results = list(measure(cells, options.workers, onnx=not options.no_onnx))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table(results))
    console.print(summary(results, time.perf_counter() - start, options.workers), highlight=False)
    if options.csv:
        write_csv(options.csv, results)
    if options.record:
        record_frozen(results)
    return int(any(result.status == "failed" for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Prune every architecture with every family of encoders.")
    parser.add_argument("--arch", nargs="+", choices=ARCHITECTURES, help="only these architectures")
    parser.add_argument("--encoder", nargs="+", choices=sorted({e for _, e in CELLS}), help="only these encoders")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes; the cores if left out")
    parser.add_argument("--no-onnx", action="store_true", help="leave out the comparison with ONNX Runtime")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write the table to this file")
    parser.add_argument("--record", action="store_true", help=f"note the frozen shares in {FROZEN_SHARES.name}")
    return parser


def measure(cells: Sequence[Cell], workers: int, *, onnx: bool = True) -> Iterator[Result]:
    """Results in the order of ``cells``, one line to stderr as each is known; ``onnx``: compare ONNX Runtime too."""
    # A forked child could inherit a lock of torch's thread pools that is held.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_prepare) as pool:
        for result in pool.map(check, cells, [onnx] * len(cells)):
            print(result.arch, result.encoder, result.status, result.reason, f"{result.seconds:.1f} s", file=sys.stderr)
            yield result


def frozen_shares() -> dict[Cell, float]:
    """The recorded shares, of all cells that run."""
    with FROZEN_SHARES.open(newline="", encoding="utf-8") as file:
        return {(row["arch"], row["encoder"]): float(row["frozen"]) / 100 for row in csv.DictReader(file)}


def record_frozen(results: Sequence[Result]) -> None:
    """Note the shares of cells that are exact; those of cells that were not run stay."""
    known: Mapping[Cell, float] = frozen_shares() if FROZEN_SHARES.exists() else {}
    run = {(r.arch, r.encoder): r for r in results}
    shares = {**known, **{cell: r.frozen for cell, r in run.items() if r.status == "exact"}}
    with write_beside(FROZEN_SHARES) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("arch", "encoder", "frozen"))
        # Rounded up: the next run may not exceed it.
        rows = ((*cell, f"{math.ceil(shares[cell] * 1e5) / 1e3:.3f}") for cell in CELLS if cell in shares)
        writer.writerows(rows)


def _prepare() -> None:
    """One thread per worker; smp's remarks on names and torch's on exporters are not what is asked."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def table(results: Sequence[Result]) -> Table:
    """One row per cell that runs dense."""
    lines = Table(title="Exact removal, 30 % of every group at random, twice")
    for heading in ("architecture", "encoder", "masked = pruned"):
        lines.add_column(heading)
    for heading in ("ONNX", "frozen", "components", "MACs left", "parameters left", "trace s", "all s"):
        lines.add_column(heading, justify="right", no_wrap=True)
    for r in results:
        if r.status == "refused":
            continue
        exact = f"[green]{r.error:.0e}[/]" if r.status == "exact" else f"[red]{r.reason}[/]"
        shares = (f"{share:.1%}" for share in (r.frozen, r.macs_left, r.parameters_left))
        frozen, macs, parameters = shares
        numbers = (f"{r.onnx:.0e}", frozen, str(r.components), macs, parameters)
        lines.add_row(r.arch, r.encoder, exact, *numbers, f"{r.trace_seconds:.2f}", f"{r.seconds:.1f}")
    return lines


def summary(results: Sequence[Result], seconds: float, workers: int) -> str:
    """What was refused and why, and the totals."""
    refused = [r for r in results if r.status == "refused"]
    ran = [r for r in results if r.status != "refused"]
    exact = [r for r in ran if r.status == "exact"]
    lines = [f"  {r.arch} {r.encoder}: {r.reason}" for r in refused]
    if lines:
        lines.insert(0, "Do not run before any pruning:")
    if exact:
        frozen, trace = (np.median([getattr(r, name) for r in exact]) for name in ("frozen", "trace_seconds"))
        lines.append(f"Medians: {frozen:.1%} frozen, {trace:.2f} s for a trace.")
    lines.append(
        f"{len(exact)} of {len(ran)} exact, {len(refused)} refused, in {seconds:.0f} s by {workers} processes."
    )
    return "\n".join(lines)


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """All columns, refused cells included."""
    with write_beside(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in dataclasses.fields(Result)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(result) for result in results)


if __name__ == "__main__":
    sys.exit(main())
