"""The verbs ``export``, ``benchmark`` and ``stream``."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyp_lightning.deploy.bundle import SUFFIXES, model_files, sidecar
from polyp_lightning.deploy.extras import need
from polyp_lightning.errors import PolypError

VERBS = ("export", "benchmark", "stream")


def main(args: Sequence[str]) -> int:
    """Runs a verb.

    Args:
        args: the command line, such as ``["export", "--ckpt_path", "last.ckpt", "--format", "onnx"]``.

    Returns:
        0 where all went well, 1 where a frame budget was missed, 2 for a mistake that is explained on standard error.
    """
    options = _parser().parse_args(args)
    try:
        with _ends_on_termination():
            return int(options.run(options))
    except PolypError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m polyp_lightning", description="From a checkpoint to frames per second."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    _export_options(verbs.add_parser("export", help="write a model that runs without this project"))
    _benchmark_options(verbs.add_parser("benchmark", help="measure frames per second and where the time goes"))
    _stream_options(verbs.add_parser("stream", help="segment a video, camera or stream"))
    return parser


def _export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ckpt_path", type=Path, required=True, help="a checkpoint of `fit` or `prune`")
    parser.add_argument(
        "--format",
        choices=list(SUFFIXES),
        default="onnx",
        metavar="FORMAT",
        help=f"{', '.join(SUFFIXES)} (default: %(default)s)",
    )
    parser.add_argument("--int8", action="store_true", help="8 bits, calibrated on training frames (onnx, openvino)")
    parser.add_argument("--image_size", type=int, help="side in pixels, a multiple of 32 (default: as trained)")
    parser.add_argument("--dynamic_batch", action="store_true", help="take any number of frames at once, not one")
    parser.add_argument("--output", type=Path, help="the model's file (default: in the run's folder export)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    parser.add_argument("--score", action="store_true", help="score the written file on the test images")
    parser.add_argument(
        "--data_root",
        type=Path,
        default=Path(os.environ.get("POLYP_DATA") or "datasets"),
        help="the folder of data sets, for calibration and scores (default: %(default)s)",
    )
    parser.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    # Imports PyTorch and Lightning, which the other verbs can do without.
    from polyp_lightning.deploy.export import ExportOptions, export

    bundle = export(ExportOptions(**_given(options)))
    if any((options.ckpt_path.absolute().parent.parent / "wandb").glob("run-*")):
        from polyp_lightning.tracking.artefacts import log_export

        if log_export(options.ckpt_path, [*model_files(bundle.path), sidecar(bundle.path)]):
            print("W&B: the export is an artefact of its run")
    return 0


def _benchmark_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model", type=Path, action="append", required=True, help="an exported model or a checkpoint; may be repeated"
    )
    parser.add_argument("--image_size", type=int, help="side in pixels (default: the model's)")
    parser.add_argument("--threads", type=int, default=1, help="threads (default: %(default)s)")
    parser.add_argument("--backend", action="append", help="may be repeated (default: all that run the model here)")
    parser.add_argument("--source", help="the video whose frames are decoded (default: drawn phantoms)")
    parser.add_argument("--budget_ms", type=float, help="fail if the 99th percentile of a whole frame exceeds this")
    parser.add_argument("--rounds", type=int, default=10, help="how often all take turns (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=20, help="frames a turn (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="write the table as FILE.csv and the picture as FILE.png")
    parser.add_argument("--no_memory", action="store_true", help="leave out peak memory: a process for each row")
    parser.set_defaults(run=_benchmark)


def _benchmark(options: argparse.Namespace) -> int:
    need("av")
    from rich.console import Console

    from polyp_lightning.deploy import benchmark_report as report
    from polyp_lightning.deploy.benchmark import BenchmarkOptions, benchmark, missed

    wanted = BenchmarkOptions(
        options.model, options.image_size, options.threads, options.backend, options.source,
        options.rounds, options.frames, not options.no_memory,
    )  # fmt: skip
    timings = benchmark(wanted)
    table = report.rows(timings, options.threads)
    # A file or a pipe has no width of its own.
    console = Console() if sys.stdout.isatty() else Console(width=140)
    for shown in report.terminal_tables(table):
        console.print(shown)
    if options.output:
        report.write_csv(table, options.output.with_suffix(".csv"))
        report.write_png(table, options.output.with_suffix(".png"))
    if options.budget_ms is None:
        return 0
    late = missed(timings, options.budget_ms)
    for timing in timings:
        verdict = "FAIL" if timing in late else "pass"
        which = f"{timing.candidate.model.name} in {timing.candidate.backend}"
        print(f"{verdict}: {which}: p99 {timing.percentile('total', 99):.1f} ms of {options.budget_ms:g} ms")
    return 1 if late else 0


def _stream_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, help="a model that `export` has written")
    parser.add_argument("--source", required=True, help="a video, a folder of images, camera[:N] or rtsp://…")
    parser.add_argument("--save", type=Path, help="write the video with contours: .mp4, .mkv or .mov")
    parser.add_argument("--show", action="store_true", help="show a window; q ends")
    parser.add_argument("--backend", help="onnxruntime, openvino, openvino-bf16, torch, … (default: the format's own)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network (default: %(default)s)")
    parser.add_argument("--smooth", type=float, default=0.0, help="weight of the past, 0 to < 1 (default: off)")
    parser.add_argument("--overwrite", action="store_true", help="replace an older video")
    parser.set_defaults(run=_stream)


def _stream(options: argparse.Namespace) -> int:
    need("av")
    from polyp_lightning.deploy.stream import StreamOptions, stream

    stream(StreamOptions(**_given(options)))
    return 0


def _given(options: argparse.Namespace) -> dict[str, Any]:
    return {key: value for key, value in vars(options).items() if key not in ("verb", "run")}


@contextmanager
def _ends_on_termination() -> Iterator[None]:
    """SIGTERM as an exception, so that what is half written is removed or finished."""

    def stop(*_: Any) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:
        # Not in the main thread, which alone receives signals.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
