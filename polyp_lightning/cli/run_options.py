"""What is decided about a run's options after they are parsed and before anything is built from them.

Each function takes the options of one verb as the parser has them, and completes or refuses them in place.
"""

import atexit
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from polyp_lightning.cli.ckpt_path import LAST_FILE, flatten, list_disagreements
from polyp_lightning.cli.loggers import is_ours
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
        folder = _claim_folder(Path("runs") / f"{options.data.name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}")
    options.trainer.default_root_dir = str(folder)


def _claim_folder(folder: Path) -> Path:
    """Makes a folder that no run has yet, by this name or one with a number; the system lets one process make it."""
    if getattr(rank_zero_only, "rank", 0):
        # The first process of the run makes it.
        return folder
    for number in count(1):
        path = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        with suppress(FileExistsError):
            path.mkdir(parents=True)
            break
    # A run that is refused leaves nothing behind.
    atexit.register(_remove_empty, path.absolute())
    return path


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def give_way(ours: Sequence[Callback], given: Any) -> list[Callback]:
    """Leaves out the default callbacks that the user's options of the Trainer exclude, or whose place theirs take."""
    own = given.callbacks if isinstance(given.callbacks, list) else [given.callbacks]
    out: tuple[type, ...] = ()
    if given.barebones or given.enable_progress_bar is False or any(isinstance(one, ProgressBar) for one in own):
        out += (ProgressBar,)
    if given.barebones or given.enable_checkpointing is False:
        out += (ModelCheckpoint,)
    return [one for one in ours if not isinstance(one, out) and not any(isinstance(user, type(one)) for user in own)]


def clear_defaults(options: Any) -> None:
    """Takes back what is on by default and a barebones Trainer refuses."""
    if is_ours(options.trainer.logger):
        options.trainer.logger = False
    options.trainer.log_every_n_steps = None


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
