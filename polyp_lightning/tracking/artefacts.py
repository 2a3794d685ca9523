"""Saved models as W&B artefacts, of runs that are online: checkpoints at the end of `fit`, exports with sidecars."""

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from polyp_lightning.callbacks.stage_checkpoints import PICK, StageCheckpoint
from polyp_lightning.checkpoints.run_folder import read_config
from polyp_lightning.tracking.logger import INIT_TIMEOUT, choose_mode

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9._-]+")


def log_files(run: Any, name: str, files: Sequence[Path], aliases: Sequence[str], metadata: dict[str, Any]) -> None:
    """Adds files to a W&B run as one artefact of type ``model``; does nothing for a run that is not online.

    A later artefact of the same name becomes its next version; the aliases name this one.
    """
    import wandb

    if getattr(run, "offline", True) or getattr(run, "disabled", False) or not files:
        return
    artefact = wandb.Artifact(_NOT_IN_NAMES.sub("-", name), type="model", metadata=metadata)
    for file in files:
        artefact.add_file(str(file), name=file.name, policy="immutable")
    run.log_artifact(artefact, aliases=list(aliases))


def log_model(run: Any, trainer: Trainer) -> None:
    """Adds the best checkpoint of the final stage, and the pick among the stages, at the end of `fit`."""
    callbacks = [one for one in trainer.checkpoint_callbacks if isinstance(one, StageCheckpoint)]
    if not callbacks:
        return
    last = max(callbacks[0].best_per_stage, default=0)
    best = Path(callbacks[0].best_per_stage.get(last, ""))
    files = [path for path in (best, Path(str(callbacks[0].dirpath)) / PICK) if path.is_file()]
    scores = {f"stage{stage}": dice for stage, dice in callbacks[0].best_scores.items()}
    try:
        log_files(run, f"checkpoint-{run.id}", files, ["best"], {"best_dice": scores})
    # The service's errors are of many kinds, and the files are on disk.
    except Exception as error:
        warnings.warn(f"W&B took no checkpoint ({error}); it is at {best}", stacklevel=2)


def log_export(checkpoint: Path, files: Sequence[Path]) -> bool:
    """Adds an exported model and its sidecar to the W&B run that trained the checkpoint, where that is online.

    Returns whether it was added: not without an online run or a login, nor where W&B can't be reached, which warns.
    """
    folder = checkpoint.absolute().parent.parent
    # A folder named run-… is of an online run; those kept offline are named offline-run-….
    found = sorted(folder.glob("wandb/run-*-*/run-*.wandb"))
    options = _logger_options(folder)
    if not found or not options.get("upload_models", True) or choose_mode(None, os.environ) in ("offline", "disabled"):
        return False
    import wandb

    number = found[-1].stem.removeprefix("run-")
    settings = wandb.Settings(silent=True, console="off", init_timeout=INIT_TIMEOUT)
    try:
        with wandb.init(
            project=options.get("project"), id=number, resume="must", dir=str(folder), settings=settings
        ) as run:
            log_files(run, f"export-{number}-{files[0].stem}", files, ["latest"], {"checkpoint": checkpoint.name})
    except Exception as error:
        warnings.warn(f"W&B took no export ({error}); it is at {files[0]}", stacklevel=2)
        return False
    return True


def _logger_options(folder: Path) -> dict[str, Any]:
    """Returns the options of the run's logger, as `fit` saved them."""
    logger = read_config(folder).get("trainer", {}).get("logger")
    options = logger.get("init_args") if isinstance(logger, dict) else None
    return options if isinstance(options, dict) else {}
