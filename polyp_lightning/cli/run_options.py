"""What is decided about a run's options after they are parsed and before anything is built from them.

Each function takes the options of one verb as the parser has them, and completes or refuses them in place.
"""

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_info

from polyp_lightning.cli.ckpt_path import flatten, list_disagreements
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.networks.names import is_own
from polyp_lightning.pruning.budget import choose_target
from polyp_lightning.tracking.logger import RunLogger


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


def prepare_logger(options: Any, verb: str) -> None:
    """Gives this project's logger the run's folder and labels; leaves any other logger alone."""
    logger = options.trainer.logger
    if getattr(logger, "class_path", "").rpartition(".")[2] == RunLogger.__name__:
        # Lightning opens the run before any callback could name the folder.
        logger.init_args.save_dir = logger.init_args.save_dir or options.trainer.default_root_dir
        _label_run(logger.init_args, options, verb)


def return_nothing(options: Any) -> None:
    """Makes `predict` write masks only: no tracked run, and no predictions kept in memory."""
    options.trainer.logger = False
    options.return_predictions = False


def _label_run(logger: Any, options: Any, verb: str) -> None:
    """Sets group, job type and tags, by which a dashboard sorts runs, unless user or environment have."""
    model = options.model
    net = [model.arch] if is_own(model.arch) else [model.arch, model.encoder]
    flags = options.pruning
    target = choose_target(
        flags.target, **{name: value for name, value in vars(flags).items() if name.startswith("target_")}
    )
    method = "dense" if target.is_everything else flags.criterion
    tags = [str(options.data.name), *net, *([method] if verb == "fit" else [])]
    labels = {
        "group": ("WANDB_RUN_GROUP", f"{options.data.name}-{options.data.image_size}-{'-'.join(net)}"),
        "job_type": ("WANDB_JOB_TYPE", verb),
        "tags": ("WANDB_TAGS", tags),
    }
    for name, (variable, value) in labels.items():
        if getattr(logger, name) is None and not os.environ.get(variable):
            setattr(logger, name, value)
