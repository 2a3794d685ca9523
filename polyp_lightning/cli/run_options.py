"""What is decided about a run's options after they are parsed and before anything is built from them.

Each function takes the options of one verb as the parser has them, and completes or refuses them in place.
"""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info

from polyp_lightning.cli.ckpt_path import LAST_FILE, flatten, list_disagreements
from polyp_lightning.common.errors import ConfigError


def refuse_random_weights(options: Any, verb: str) -> None:
    """Refuses to score a network that was never trained."""
    if verb != "fit" and not (options.ckpt_path or options.model.init_from):
        msg = (
            f"{verb} needs a trained network, and without a checkpoint its weights are random; give one "
            "that `fit` has written with --ckpt_path FILE (or only its weights with --model.init_from FILE)"
        )
        raise ConfigError(msg)


def show_disagreements(
    options: Any, settings: Mapping[str, Any], parser: LightningArgumentParser, *, resumes: bool
) -> None:
    """Prints where the options differ from the checkpoint's settings, and which of the two wins."""
    plain = yaml.safe_load(parser.dump(options, skip_none=False))
    for line in list_disagreements(settings, flatten(plain), resumes=resumes):
        rank_zero_info(line)


def choose_run_folder(options: Any) -> None:
    """Sets the run's folder where none is given: that of the checkpoint, or a new one named after data and time."""
    if options.trainer.default_root_dir is not None:
        return
    checkpoint = Path(options.ckpt_path or "")
    if checkpoint.parent.name == "checkpoints":
        folder = checkpoint.parent.parent
    else:
        folder = Path("runs") / f"{options.data.name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    options.trainer.default_root_dir = str(folder)


def refuse_taken_folder(options: Any) -> None:
    """Refuses to begin a run where another one has left its checkpoints, which would be overwritten."""
    folder = Path(options.trainer.default_root_dir)
    last = folder / LAST_FILE
    if not options.ckpt_path and last.is_file():
        msg = (
            f"{folder} holds a run already, and a new one would overwrite it; give the new one another folder with "
            f"--trainer.default_root_dir (null: a new one named after data and time), or go on with the old one with "
            f"--ckpt_path {last}"
        )
        raise ConfigError(msg)


def return_nothing(options: Any) -> None:
    """Makes `predict` write masks only: no tracked run, and no predictions kept in memory."""
    options.trainer.logger = False
    options.return_predictions = False
