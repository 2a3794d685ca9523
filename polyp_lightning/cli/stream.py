"""The verb ``stream``."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from polyp_lightning.cli.parsing import make_parser
from polyp_lightning.cli.termination import raise_on_termination
from polyp_lightning.deploy.extras import need
from polyp_lightning.deploy.formats import FORMATS


def main(args: Sequence[str]) -> int:
    """Runs the verb on its options; returns 0."""
    options = _parser().parse_args(args[1:])

    need("av")
    from polyp_lightning.deploy.video.pipeline import StreamOptions
    from polyp_lightning.deploy.video.stream import stream

    with raise_on_termination():
        stream(StreamOptions(**vars(options)), partial(print, flush=True))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("stream", "Segments a video, camera or stream.")
    parser.add_argument("--model", type=Path, required=True, help="a model that `export` has written, or a name")
    parser.add_argument("--source", required=True, help="a video, a folder of images, camera[:N] or rtsp://…")
    live = "drop frames to keep up; wait 60 s for a source that stands still (default: cameras, rtsp, rtmp, udp, srt)"
    parser.add_argument("--live", action=argparse.BooleanOptionalAction, help=live)
    parser.add_argument("--output", type=Path, help="write the video with contours: .mp4, .mkv or .mov")
    parser.add_argument("--results", type=Path, help="write a line for each frame: .csv or .jsonl")
    parser.add_argument("--masks", type=Path, help="write a mask for each frame into this folder")
    parser.add_argument("--threshold", type=float, help="a polyp is where the probability exceeds it (the model's)")
    parser.add_argument("--min_area", type=int, default=0, help="leave out patches of fewer pixels")
    parser.add_argument("--show", action="store_true", help="show a window; q ends")
    backends = ", ".join(dict.fromkeys(backend for kind in FORMATS.values() for backend in kind.backends))
    parser.add_argument("--backend", help=f"{backends} (default: the format's own)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network (default: %(default)s)")
    parser.add_argument("--smooth", type=float, default=0.0, help="weight of the past, 0 to < 1 (default: off)")
    parser.add_argument(
        "--alarm_frames", type=int, default=5, help="frames that have to show a polyp … (default: %(default)s)"
    )
    parser.add_argument(
        "--alarm_window",
        type=int,
        default=8,
        help="… of the last so many, for an alarm; 1 and 1: each alone (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an older video")
    return parser
