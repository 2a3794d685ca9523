"""The verb ``benchmark``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.cli.parsing import add_arch, make_parser
from polyp_lightning.cli.termination import raise_on_termination
from polyp_lightning.common.tables import write_table
from polyp_lightning.deploy.extras import need


def main(args: Sequence[str]) -> int:
    """Runs the verb on its options; returns 0, or 1 where a frame budget was missed."""
    options = _parser().parse_args(args[1:])

    need("av")
    from rich.console import Console

    from polyp_lightning.deploy.benchmark import benchmark_report as report
    from polyp_lightning.deploy.benchmark.measuring import BenchmarkOptions, benchmark, find_late

    with raise_on_termination():
        wanted = BenchmarkOptions(
            options.model, options.image_size, options.threads, options.backend, options.source,
            options.rounds, options.frames, not options.no_memory, options.arch or (),
        )  # fmt: skip
        timings = benchmark(wanted)
    table = report.list_rows(timings, options.threads)
    # A file or a pipe has no width of its own.
    console = Console() if sys.stdout.isatty() else Console(width=140)
    for shown in report.build_tables(table):
        console.print(shown)
    if options.output:
        write_table(options.output.with_suffix(".csv"), report.COLUMNS, (row.values() for row in table))
        try:
            report.write_png(table, options.output.with_suffix(".png"))
        except ModuleNotFoundError as error:
            print(f"no picture: {error} (pip install matplotlib)")
    if options.budget_ms is None:
        return 0
    late = find_late(timings, options.budget_ms)
    for timing in timings:
        verdict = "FAIL" if timing in late else "pass"
        which = f"{timing.candidate.model.name} in {timing.candidate.backend}"
        print(f"{verdict}: {which}: p99 {timing.percentile('total', 99):.1f} ms of {options.budget_ms:g} ms")
    return 1 if late else 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("benchmark", "Measures frames per second, and where the time goes.")
    parser.add_argument(
        "--model",
        type=Path,
        action="append",
        required=True,
        help="exported model, checkpoint or name; repeatable",
    )
    add_arch(parser, action="append")
    parser.add_argument("--image_size", type=int, help="side in pixels (default: the model's)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: %(default)s)")
    parser.add_argument("--backend", action="append", help="may be repeated (default: all that run the model here)")
    parser.add_argument("--source", help="the video whose frames are decoded (default: drawn phantoms)")
    parser.add_argument("--budget_ms", type=float, help="fail if the 99th percentile of a whole frame exceeds this")
    parser.add_argument("--rounds", type=int, default=10, help="how often all take turns (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=20, help="frames a turn (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="write the table as FILE.csv and the picture as FILE.png")
    parser.add_argument("--no_memory", action="store_true", help="leave out peak memory: a process for each row")
    return parser
