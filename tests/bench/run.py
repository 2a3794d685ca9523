"""Measures the product's speed as ratios within one run: ``python tests/bench/run.py [--quick] [names…]``.

Prints one table and writes nothing unless --csv names a file. A missed mark is shown, not an error: on a machine that
does other things at the same time, the ratios of single pairs scatter.
"""

import argparse
import csv
import logging
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import allocator
import cut
import deployed
import loader
import peer
import scoring
import selection
import step
from measuring import Effort, Row, machine
from rich.console import Console
from rich.table import Table

from polyp_lightning.common.files import write_beside
from polyp_lightning.common.malloc import keep_freed_memory

Measurement = Callable[[Effort], list[Row]]

# Each with its effort in full and in quick runs; seconds are for one row.
MEASUREMENTS: dict[str, tuple[Measurement, Effort, Effort]] = {
    "allocator": (allocator.measure, Effort(45, least=3, most=5), Effort(0, least=1)),
    "step": (step.measure, Effort(55, least=5, most=40), Effort(5, least=2)),
    # A few hundredths are to be told apart, which takes more pairs.
    "scoring": (scoring.measure, Effort(90, least=10, most=60), Effort(5, least=2)),
    "cut": (cut.measure, Effort(30, least=3, most=5), Effort(0, least=1)),
    "select": (selection.measure, Effort(10, least=3, most=10), Effort(0, least=2)),
    "peer": (peer.measure, Effort(0, least=5), Effort(0, least=1)),
    "deployed": (deployed.measure, Effort(15, least=5, most=40), Effort(2, least=2)),
    "loader": (loader.measure, Effort(20, least=5, most=15), Effort(3, least=2)),
}


def main(args: Sequence[str] | None = None) -> int:
    """Measures what was asked for, prints the table, and returns 0."""
    options = _parser().parse_args(args)
    _quieten()
    # As `fit` does.
    keep_freed_memory()
    # A pipe has no width of its own; 80 columns would squeeze the first one.
    console = Console(width=None if sys.stdout.isatty() else 140)
    start = time.perf_counter()
    rows: list[Row] = []
    for name in options.names or MEASUREMENTS:
        measurement, full, quick = MEASUREMENTS[name]
        with console.status(f"measuring: {name}"):
            rows += measurement(quick if options.quick else full)
    console.print(table(rows))
    console.print(f"{machine()}; {time.perf_counter() - start:.0f} s in all.", highlight=False)
    console.print("Medians of n pairs of turns (A B B A A B …), of n new processes for the cut.")
    if options.csv:
        write_csv(options.csv, rows)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Measure the speed of polyp_lightning as ratios within one run.")
    parser.add_argument("names", nargs="*", choices=[*MEASUREMENTS, []], help="what to measure; everything if left out")
    parser.add_argument("--quick", action="store_true", help="few repetitions, less than a minute")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="also write every repetition to this file")
    return parser


def _quieten() -> None:
    """Lightning's remarks on devices and on loaders without workers, and smp's on names, are not about speed."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


def table(rows: Sequence[Row]) -> Table:
    """The rows as a table for the terminal."""
    lines = Table(title="Speed")
    lines.add_column("what")
    for heading in ("ours", "reference", "ratio\n(min–max)", "asked", "met"):
        lines.add_column(heading, no_wrap=True)
    for row in rows:
        met = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}[row.met]
        lines.add_row(row.what, row.ours, row.reference, row.spread.replace(" (", "\n("), row.asked, met)
    return lines


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """One line for each repetition."""
    with write_beside(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["what", "repetition", "value", "unit", "median_ours", "median_reference", "asked", "machine"])
        for row in rows:
            for number, value in enumerate(row.values):
                cells = [row.what, number, value, row.unit.strip(), row.ours, row.reference, row.asked, machine()]
                lines.writerow(cells)


if __name__ == "__main__":
    raise SystemExit(main())
