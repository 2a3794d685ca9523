"""The verb ``taylor-check``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.cli.parsing import add_arch, make_parser
from polyp_lightning.study.taylor_check import check


def main(arguments: Sequence[str]) -> int:
    """Runs the verb; see :func:`polyp_lightning.cli.verbs.main`."""
    check(**vars(_make_parser().parse_args(arguments[1:])))
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("taylor-check", "Draws how well each criterion predicts what removal really does to the loss.")
    parser.add_argument("--ckpt_path", type=Path, help="a checkpoint of ours; left out, a small network is trained")
    add_arch(parser)
    parser.add_argument(
        "--data_root", dest="root", help="the folder of data sets, for the checkpoint's data (else $POLYP_DATA)"
    )
    parser.add_argument("--images", type=int, default=24, help="the first validation images (default: %(default)s)")
    parser.add_argument("--components", type=int, default=300, help="removed one by one (default: %(default)s)")
    parser.add_argument(
        "--output",
        dest="out",
        type=Path,
        default=Path("runs/taylor-check"),
        help="folder for what is written (default: %(default)s)",
    )
    return parser
