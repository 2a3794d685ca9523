"""The verb ``predict``: on a data set by Lightning, on images by the network alone."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.checkpoints.named import is_named
from polyp_lightning.cli.parsing import add_arch, find_option, make_parser
from polyp_lightning.cli.termination import raise_on_termination
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.log_lines import announce
from polyp_lightning.deploy.bundle import format_of
from polyp_lightning.deploy.predicting import PredictOptions, predict


def main(arguments: Sequence[str]) -> int:
    """Runs the verb on its options; returns the exit status."""
    model = find_option(arguments, "--model")
    if find_option(arguments, "--source") is None and (
        model is None or (format_of(Path(model)) is None and not is_named(Path(model)))
    ):
        if find_option(arguments, "--threshold"):
            msg = "--threshold is for images named by --source; of a data set, predict takes the polyps above 0.5"
            raise ConfigError(msg)
        announce("predict: loading PyTorch and Lightning")
        from polyp_lightning.cli import fit

        return fit.main(arguments)
    options = _parser().parse_args(arguments[1:])
    with raise_on_termination():
        predict(PredictOptions(**vars(options)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "predict",
        "Writes masks of images as PNG, by a checkpoint or an exported model.",
        "--model FILE --source FOLDER|IMAGE|PATTERN",
    )
    parser.add_argument(
        "--model", type=Path, required=True, help="a checkpoint or its name, or a model that `export` has written"
    )
    parser.add_argument(
        "--source", nargs="+", required=True, help="images, a folder of images, or a pattern such as 'frames/*.png'"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("predicted"), help="the masks' folder (default: %(default)s)"
    )
    parser.add_argument("--overlay", action="store_true", help="also write overlays/NAME.jpg: images with contours")
    parser.add_argument("--threshold", type=float, help="a polyp is where the probability exceeds it (the model's)")
    parser.add_argument("--backend", help="what runs the model (default: the format's own)")
    parser.add_argument("--threads", type=int, help="threads of the network (1; a checkpoint's: PyTorch's own number)")
    parser.add_argument("--overwrite", action="store_true", help="replace older masks")
    add_arch(parser)
    return parser
