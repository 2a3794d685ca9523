"""The options that most people need, on one screen; the whole list, of hundreds of lines, is `--help_all`."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from polyp_lightning.data.sets import DATASETS

ALL = "--help_all"


class Flag(NamedTuple):
    """One option.

    Attributes:
        name: with its dashes.
        default: as it is typed; empty where it has to be given, or where the text says what happens without it.
        text: what it is, with its unit.
    """

    name: str
    default: str
    text: str


_SETS = " or ".join(", ".join(DATASETS).rsplit(", ", 1))
_READING = (
    Flag("--data.root", "", "folder of data sets ($POLYP_DATA, else datasets/); with folder, the folder itself"),
    Flag("--data.batch_size", "8", "frames in a batch"),
    Flag("--data.num_workers", "2", "processes that load batches"),
)
_DATA = (
    Flag("--data.name", "phantom", _SETS),
    Flag("--data.split", "", "the split by name (the data set's honest one)"),
    *_READING,
)
_OTHER_DATA = (
    Flag("--data.name", "", f"{_SETS} (the checkpoint's)"),
    Flag("--data.split", "", "the split by name (the checkpoint's; of other data, the honest one)"),
    *_READING,
)
_TRAINER = (
    Flag("--trainer.accelerator", "auto", "cpu, gpu or auto"),
    Flag("--trainer.precision", "", "bf16-mixed, 16-mixed, … (32)"),
    Flag("--trainer.default_root_dir", "", "the run's folder (runs/DATA-TIME, or the checkpoint's)"),
)
_CHECKPOINT = Flag("--ckpt_path", "", "a checkpoint of fit or prune; it knows network, data and split")

_PAGES: dict[str, tuple[str, tuple[Flag, ...]]] = {
    "fit": (
        "Train, and prune while training.",
        (
            Flag("--config", "", "options from a file, such as configs/kvasir.yaml"),
            Flag("--ckpt_path", "", "go on with this checkpoint, or with: last"),
            Flag("--seed_everything", "0", "of weights, order and augmentation"),
            *_DATA,
            Flag("--data.image_size", "96", "side of the square input, pixels, a multiple of 32"),
            Flag("--model.arch", "Unet", "an architecture of segmentation_models_pytorch"),
            Flag("--model.encoder", "resnet18", "an encoder of segmentation_models_pytorch"),
            Flag("--model.encoder_weights", "", "imagenet, or a file (random)"),
            Flag("--model.init_from", "", "start from this checkpoint's weights and widths"),
            Flag("--model.loss", "dice_bce", "dice_bce, tversky, focal or structure"),
            Flag("--model.lr", "0.001", "peak of the one-cycle learning rate"),
            Flag("--pruning.target", "0.25", "share of the dense MACs to keep; 1: dense"),
            Flag("--pruning.start", "8", "epoch (from 0) of the first cut"),
            Flag("--pruning.end", "12", "epoch of the last cut"),
            Flag("--pruning.schedule", "cubic", "linear, cubic or one_shot"),
            Flag("--pruning.criterion", "taylor", "taylor, magnitude_l1, random, …"),
            Flag("--trainer.max_epochs", "20", "epochs, cuts and fine-tuning included"),
            *_TRAINER,
            Flag("--trainer.logger", "", "false: no W&B (offline unless logged in)"),
        ),
    ),
    "validate": ("Loss, Dice and IoU on the validation images.", (_CHECKPOINT, *_OTHER_DATA, *_TRAINER)),
    "test": ("All metrics on the test images, at their original sizes.", (_CHECKPOINT, *_OTHER_DATA, *_TRAINER)),
    "predict": (
        "Write masks as PNG, at the size of the original images.",
        (
            _CHECKPOINT,
            *_OTHER_DATA,
            Flag("--masks.output", "", "folder for the masks (masks/ in the run's folder)"),
            Flag("--masks.overlay", "false", "true: also the images with the masks' contours"),
            *_TRAINER,
        ),
    ),
    "prune": (
        "Cut a trained network in one step, without training it.",
        (
            Flag("--ckpt_path", "", "a checkpoint of fit or prune"),
            Flag("--target", "0.25", "share of the network's MACs to keep"),
            Flag("--target_params", "", "instead: share of its used parameters"),
            Flag("--target_gmacs", "", "instead: 10⁹ MACs of one image"),
            Flag("--target_ms", "", "instead: milliseconds a frame, measured here"),
            Flag("--criterion", "taylor", "taylor, magnitude_l1, random, …"),
            Flag("--allocation", "global", "global, per_cost or optimal"),
            Flag("--batches", "16", "training batches to score on"),
            Flag("--batch_size", "8", "images in a batch"),
            Flag("--recalibration_batches", "16", "training batches for batch norm afterwards"),
            Flag("--data_root", "", "folder of data sets ($POLYP_DATA, else datasets/)"),
            Flag("--output", "", "the new checkpoint (beside the old one)"),
            Flag("--overwrite", "false", "true: replace an older file"),
            Flag("--dry_run", "false", "true: show what would be cut, write nothing"),
        ),
    ),
}

VERBS = tuple(_PAGES)
_WIDTH, _COLUMN = 80, 29


def flags(verb: str) -> Sequence[Flag]:
    """The options on a verb's page."""
    return _PAGES[verb][1]


def short_help(verb: str) -> str:
    """A verb's page: at most 80 columns and 40 lines."""
    what, options = _PAGES[verb]
    lines = [f"usage: python -m polyp_lightning {verb} [options]", "", what, ""]
    for flag in options:
        text = flag.text + (f" (default: {flag.default})" if flag.default else "")
        wrapped = textwrap.wrap(text, _WIDTH - _COLUMN)
        lines += [f"  {flag.name:<{_COLUMN - 2}}{wrapped[0]}", *(" " * _COLUMN + more for more in wrapped[1:])]
    return "\n".join([*lines, "", f"In parentheses: the default. All options: {verb} {ALL}"]) + "\n"


def answered(arguments: Sequence[str]) -> str | None:
    """The page that a command line asks for; None where it asks for none."""
    asks = len(arguments) == 2 and arguments[1] in ("-h", "--help") and arguments[0] in VERBS
    return short_help(arguments[0]) if asks else None
