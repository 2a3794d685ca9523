"""What a run's logger is told: folder, name, labels, and which tracked run goes on."""

import inspect
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import loggers

from polyp_lightning.checkpoints.record import read_record
from polyp_lightning.cli.parsing import find_option
from polyp_lightning.networks.names import list_words
from polyp_lightning.pruning.budget import choose_target
from polyp_lightning.tracking import RunTracker
from polyp_lightning.tracking.logger import RunLogger

_FLAG = "--trainer.logger"
RUN_FOLDER = "the run's folder"
"""Stands for it in an option: of a logger that can't do without one, and in a run's configuration."""

# The environment's variable that wins over each of our labels.
_LABELS = {"name": "WANDB_NAME", "group": "WANDB_RUN_GROUP", "job_type": "WANDB_JOB_TYPE", "tags": "WANDB_TAGS"}


def complete_logger(arguments: Sequence[str]) -> list[str]:
    """Gives a logger of Lightning's, named alone on a command line, the folder that it can't do without.

    And its own default name, in place of this project's logger's.
    """
    name = (find_option(arguments, _FLAG) or "").rpartition(".")[2]
    takes = inspect.signature(vars(loggers)[name]).parameters if name in loggers.__all__ else {}
    if "save_dir" not in takes or takes["save_dir"].default is not inspect.Parameter.empty:
        return list(arguments)
    values = {"save_dir": RUN_FOLDER, "name": takes["name"].default}
    more = [f"{_FLAG}.{key}={value}" for key, value in values.items() if not find_option(arguments, f"{_FLAG}.{key}")]
    return [*arguments, *more]


def prepare_logger(options: Any, verb: str) -> None:
    """Gives this project's logger the run's folder and labels, any other one the folder."""
    given = _arguments(options.trainer.logger)
    if given is None:
        return
    if getattr(given, "save_dir", None) == RUN_FOLDER:
        given.save_dir = options.trainer.default_root_dir
    if is_ours(options.trainer.logger):
        for name, value in _own_values(options, verb).items():
            if getattr(given, name) is None and not os.environ.get(_LABELS.get(name, "")):
                setattr(given, name, value)


def forget_prepared(options: Any, verb: str) -> None:
    """Takes back what :func:`prepare_logger` has decided, so that other options would decide anew."""
    given = _arguments(options.trainer.logger)
    if given is None:
        return
    if is_ours(options.trainer.logger):
        for name, value in _own_values(options, verb).items():
            if getattr(given, name) == value:
                setattr(given, name, None)
    elif getattr(given, "save_dir", None) == options.trainer.default_root_dir:
        given.save_dir = RUN_FOLDER


def go_on_with_tracked_run(found: Iterable[Any], folder: Path, ckpt_path: str | None) -> None:
    """Lets a fit that goes on in its own folder go on in its own W&B run, which its checkpoints name."""
    checkpoint = Path(ckpt_path or "").absolute()
    ours = [logger for logger in found if isinstance(logger, RunLogger)]
    if not ckpt_path or not ours or checkpoint.parent.parent != folder.absolute():
        return
    states = [state for name, state in read_record(checkpoint).callbacks.items() if name == RunTracker.__name__]
    for logger in ours if states else []:
        logger.go_on(states[0].get("run_id"), states[0].get("begun"))


def _arguments(logger: Any) -> Any:
    return getattr(logger, "init_args", None)


def is_ours(logger: Any) -> bool:
    """Whether an option of the Trainer names this project's logger."""
    return str(getattr(logger, "class_path", "")).rpartition(".")[2] == RunLogger.__name__


def _own_values(options: Any, verb: str) -> dict[str, Any]:
    """The run's folder, name, and group, job type and tags, by which a dashboard sorts runs."""
    model, data = options.model, str(options.data.name)
    parts = list_words(model.arch, model.encoder)
    net = "-".join(parts)
    flags = options.pruning
    target = choose_target(
        flags.target, **{name: value for name, value in vars(flags).items() if name.startswith("target_")}
    )
    method = "dense" if target.is_everything else flags.criterion
    words = [data, net, method, *([] if target.is_everything else [str(target)]), f"seed {options.seed_everything}"]
    return {
        # Lightning opens the run before any callback could name the folder.
        "save_dir": options.trainer.default_root_dir,
        "name": " ".join(words if verb == "fit" else [verb, data, Path(str(options.ckpt_path or "")).stem]),
        "group": f"{data}-{options.data.image_size}-{net}",
        "job_type": verb,
        "tags": [data, *parts, *([method] if verb == "fit" else [])],
    }
