"""The verbs ``export``, ``benchmark`` and ``stream``."""

import argparse
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyp_lightning.deploy.bundle import SUFFIXES
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
    parser = argparse.ArgumentParser(prog="polyp_lightning", description="From a checkpoint to frames per second.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    _export_options(verbs.add_parser("export", help="write a model that runs without this project"))
    _stream_options(verbs.add_parser("stream", help="segment a video, camera or stream"))
    return parser


def _export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ckpt_path", type=Path, required=True, help="a checkpoint of `fit` or `prune`")
    parser.add_argument("--format", choices=list(SUFFIXES), default="onnx")
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

    export(ExportOptions(**_given(options)))
    return 0


def _stream_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, help="a model that `export` has written")
    parser.add_argument("--source", required=True, help="a video, a folder of images, camera[:N] or rtsp://…")
    parser.add_argument("--save", type=Path, help="write the video with contours: .mp4, .mkv, .mov or .avi")
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
