"""The verb ``study``."""

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from polyp_lightning.cli.parsing import make_parser
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.terminal import show_text
from polyp_lightning.study.cell_runner import CellRunner, OutOfTime, launch_until
from polyp_lightning.study.engines import Submitit
from polyp_lightning.study.plan import read_study
from polyp_lightning.study.results import RESULTS, read_results
from polyp_lightning.study.runner import Runner, alone_with
from polyp_lightning.study.timing import retime


def main(arguments: Sequence[str]) -> int:
    """Runs the verb; see :func:`polyp_lightning.cli.verbs.main`.

    Returns:
        0, or 1 where runs have failed.
    """
    options = _make_parser().parse_args(arguments[1:])
    study = read_study(options.config, dict(options.weights))
    end = math.inf if options.time_limit is None else time.monotonic() + 60 * options.time_limit
    runner = CellRunner(study, options.out, launch_until(end))
    if options.cell:
        # What a job runs; the study that has submitted it collects the rows.
        return 0 if runner.run(study.only(options.cell)[0]) else 1
    cells, engine = study.only(options.only), _choose_engine(options)
    if options.dry_run:
        for cell in cells:
            needs = f" (after {', '.join(cell.needs)})" if cell.needs else ""
            show_text("\n".join([f"{cell.id}{needs}", *(f"  {line}" for line in runner.commands(cell))]))
        show_text(f"{len(cells)} runs; nothing was run")
        return 0
    with alone_with(options.out):
        if options.retime:
            show_text(f"measured {retime(study, options.out)} networks in turns; wrote {options.out / RESULTS}")
            return 0
        try:
            done = Runner(runner, engine).run(cells)
        except OutOfTime:
            left = sum(not runner.progress(cell).done for cell in cells)
            show_text(f"{options.time_limit:g} minutes are over, {left} of {len(cells)} runs are left; call it again")
            return 0
        _ask_for_times(options.out)
    return 0 if done else 1


def _choose_engine(options: argparse.Namespace) -> Submitit | None:
    """Returns what runs the cells; None for this process's own children."""
    if options.executor is None:
        if options.jobs or options.slurm_options:
            msg = "--jobs and --slurm_options are for cells that run as jobs; add --executor slurm or local"
            raise ConfigError(msg)
        return None
    if options.time_limit is not None:
        msg = "--time_limit is for runs that this process makes; of jobs, --slurm_options time=MINUTES is the limit"
        raise ConfigError(msg)
    weights = [text for encoder, path in options.weights for text in ("-w", f"{encoder}={path}")]
    arguments = ["study", "--config", str(options.config.absolute()), "--output", str(options.out), *weights]
    return Submitit(options.executor, options.out, arguments, options.jobs, dict(options.slurm_options))


def _ask_for_times(out: Path) -> None:
    """Asks for --retime where runs side by side left no time that could be trusted."""
    path = out / RESULTS
    untimed = {row.run for row in read_results(path) if math.isnan(row.ms)} if path.is_file() else ()
    if untimed:
        show_text(
            f"{len(untimed)} runs have no milliseconds: the machine had other work. Add --retime when it has none."
        )


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "study",
        "Runs what a configuration lists; skips what is done, goes on with what was interrupted.",
    )
    parser.add_argument("--config", type=Path, required=True, help="what to run: a file, or a name such as study-cpu")
    parser.add_argument(
        "--output", dest="out", type=Path, default=Path("runs/study"), help="the study's folder (default: %(default)s)"
    )
    parser.add_argument("--only", metavar="PATTERN", help="the runs whose name matches, such as '*taylor*_s0'")
    parser.add_argument("--dry_run", action="store_true", help="show the runs and their commands")
    parser.add_argument(
        "--retime", action="store_true", help="run nothing; measure all networks' milliseconds anew, in turns"
    )
    parser.add_argument(
        "--time_limit", type=float, metavar="MINUTES", help="stop after so long; the same command goes on later"
    )
    parser.add_argument(
        "--executor",
        choices=["local", "slurm"],
        help="runs as jobs of submitit, here or on machines that share --output",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="jobs at a time (2 here, all with SLURM)")
    parser.add_argument(
        "--slurm_options",
        nargs="+",
        type=_parse_option,
        default=[],
        metavar="K=V",
        help="of sbatch, such as partition=gpu gpus_per_node=1 time=240 (minutes; 5 if left out)",
    )
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument(
        *("--weights", "-w"),
        action="append",
        type=_parse_weights,
        default=[],
        metavar="ENCODER=FILE",
        help="a local file in place of an encoder's published imagenet weights",
    )
    return parser


def _parse_weights(text: str) -> tuple[str, str]:
    encoder, _, path = text.partition("=")
    if not Path(path).is_file():
        msg = f"{text!r}: give ENCODER=FILE, with a file that exists"
        raise argparse.ArgumentTypeError(msg)
    return encoder, path


def _parse_option(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        msg = f"{text!r}: give KEY=VALUE"
        raise argparse.ArgumentTypeError(msg)
    return key, yaml.safe_load(value)
