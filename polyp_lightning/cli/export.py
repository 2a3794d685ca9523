"""The verb ``export``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.cli.parsing import add_arch, add_data_root, make_parser
from polyp_lightning.cli.termination import raise_on_termination
from polyp_lightning.deploy.bundle import list_files
from polyp_lightning.deploy.extras import need
from polyp_lightning.deploy.formats import FORMATS


def main(args: Sequence[str]) -> int:
    """Runs the verb on its options; returns 0."""
    options = _parser().parse_args(args[1:])

    if FORMATS[options.format].packages:
        # Before PyTorch, which the same extra brings.
        need("onnx")
    # Imports PyTorch and Lightning, which `stream` and `benchmark` can do without.
    from polyp_lightning.deploy.export import ExportOptions, export

    with raise_on_termination():
        bundle = export(ExportOptions(**vars(options)))
    if any((options.ckpt_path.absolute().parent.parent / "wandb").glob("run-*")):
        from polyp_lightning.tracking.artefacts import log_export

        if log_export(options.ckpt_path, list_files(bundle.path)):
            print("W&B: the export is an artefact of its run")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("export", "Writes a model that runs without this project.")
    parser.add_argument("--ckpt_path", type=Path, required=True, help="a checkpoint of `fit` or `prune`, or a name")
    add_arch(parser)
    parser.add_argument(
        "--format",
        choices=list(FORMATS),
        default="onnx",
        metavar="FORMAT",
        help=f"{', '.join(FORMATS)} (default: %(default)s)",
    )
    able = ", ".join(kind.name for kind in FORMATS.values() if kind.quantises)
    parser.add_argument("--int8", action="store_true", help=f"8 bits, calibrated on training frames ({able})")
    parser.add_argument("--image_size", type=int, help="side in pixels, a multiple of 32 (default: as trained)")
    parser.add_argument("--dynamic_batch", action="store_true", help="take any number of frames at once, not one")
    parser.add_argument("--output", type=Path, help="the model's file (default: in the run's folder export)")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export")
    parser.add_argument("--score", action="store_true", help="score the written file on the test images")
    add_data_root(parser, ", for calibration and scores")
    return parser
