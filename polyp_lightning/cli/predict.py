"""The verb ``predict``: of a checkpoint by Lightning, of an exported model without PyTorch."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.checkpoints.named import is_named
from polyp_lightning.cli.parsing import find_option, make_parser
from polyp_lightning.cli.termination import raise_on_termination
from polyp_lightning.common.log_lines import announce
from polyp_lightning.deploy.bundle import format_of
from polyp_lightning.deploy.first_use import export_once
from polyp_lightning.deploy.predicting import PredictOptions, predict


def main(arguments: Sequence[str]) -> int:
    """Runs the verb on its options; returns the exit status."""
    model = find_option(arguments, "--model")
    if model is None or (format_of(Path(model)) is None and not is_named(Path(model))):
        announce("predict: loading PyTorch and Lightning")
        from polyp_lightning.cli import fit

        return fit.main(arguments)
    options = _parser().parse_args(arguments[1:])
    with raise_on_termination():
        options.model = export_once(options.model, [options.backend] if options.backend else [])
        predict(PredictOptions(**vars(options)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("predict", "Writes masks as PNG, by an exported model.")
    parser.add_argument("--model", type=Path, required=True, help="a model that `export` has written, or a name")
    parser.add_argument(
        "--source", nargs="+", required=True, help="images, a folder of images, or a pattern such as 'frames/*.png'"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("predicted"), help="the masks' folder (default: %(default)s)"
    )
    parser.add_argument("--overlay", action="store_true", help="also write overlays/NAME.jpg: images with contours")
    parser.add_argument("--threshold", type=float, help="a polyp is where the probability exceeds it (the model's)")
    parser.add_argument("--backend", help="what runs the model (default: the format's own)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace older masks")
    return parser
