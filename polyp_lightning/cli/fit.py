"""The verbs that Lightning runs: fit, validate, test and predict."""

import logging
import os
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from signal import Signals
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException

from polyp_lightning.callbacks.distributed import check_strategy
from polyp_lightning.callbacks.mask_writer import MaskWriter
from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.cli.ckpt_path import CONFIG_FILE, Start, complete_command, disagreements, flatten
from polyp_lightning.cli.parser_errors import explain
from polyp_lightning.cli.short_help import ALL
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.files import hide_home, write_beside
from polyp_lightning.common.locks import alone_in
from polyp_lightning.common.malloc import keep_freed_memory
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.pruning.budget import choose_target
from polyp_lightning.tracking import ProgressBar, RunLogger, RunTracker, ScoreWriter, StageCheckpoint, StageSummary
from polyp_lightning.training.module import PolypSegmenter

_STRICT = {"exit_on_error": False, "allow_abbrev": False}


def main(arguments: Sequence[str]) -> int:
    """Runs one of these verbs.

    Args:
        arguments: the verb and its options.

    Raises:
        PolypError: a mistake in options, data or checkpoint.

    Returns:
        The exit status: 0, or 128 and the number of the signal that has stopped it.
    """
    torch.set_float32_matmul_precision("high")
    keep_freed_memory()
    _silence()
    arguments = ["--help" if argument == ALL else argument for argument in arguments]
    start = complete_command(arguments)
    try:
        _run(start)
    except MisconfigurationException as error:
        # Lightning sees some only once it knows the data, such as shares of less than a batch.
        raise ConfigError(str(error)) from error
    except SystemExit as stop:
        return _stopped(stop, start.arguments[0])
    return 0


def _stopped(stop: SystemExit, verb: str) -> int:
    """The status of a process that a signal has stopped: Lightning's own is 0 for SIGTERM, as if all were done."""
    if isinstance(stop, SIGTERMException):
        number = Signals.SIGTERM
    elif isinstance(stop.__context__, KeyboardInterrupt):
        number = Signals.SIGINT
    else:
        raise stop
    how = "; its checkpoints are whole, and after its first epoch it goes on with --ckpt_path last"
    sys.stderr.write(f"{verb} was stopped by {number.name}{how if verb == 'fit' else ''}\n")
    return 128 + number


def _run(start: Start) -> None:
    PolypCLI(
        start.settings,
        PolypSegmenter,
        PolypDataModule,
        save_config_callback=RunConfig,
        save_config_kwargs={"save_to_log_dir": False},
        trainer_defaults={
            "max_epochs": 20,
            "log_every_n_steps": 10,
            "logger": {"class_path": f"{RunLogger.__module__}.{RunLogger.__name__}"},
            # Lightning's own counts no MACs here: its column says 0.
            "enable_model_summary": False,
            "callbacks": [StageCheckpoint(), RunTracker(), StageSummary(), ScoreWriter(), ProgressBar()],
        },
        seed_everything_default=0,
        # Built at parse time it would hold the dense network's parameters, and a resumed pruned one would never move.
        auto_configure_optimizers=False,
        # A mistake becomes a message, and a shortened option none at all: --data.n could be name or num_workers.
        parser_kwargs={verb: _STRICT for verb in PolypCLI.subcommands()} | _STRICT,
        args=start.arguments,
    )


def _silence() -> None:
    """Warnings that are true, but of no use to the person who reads them."""
    # The arguments are those of the command line, with a checkpoint's settings ahead of them.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended")
    # Lightning advertises other services at every start.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: "Tip:" not in record.getMessage()
    )
    # Lightning 2.6 meets torch 2.15.
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    # The `timm-` encoders keep their names in smp 0.6, and their weights have no other.
    warnings.filterwarnings("ignore", message="`timm-` encoders are deprecated")


class RunConfig(SaveConfigCallback):
    """Writes the resolved configuration beside the checkpoints, and into the tracked run."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called once, on rank zero. A run that goes on in its own folder keeps the configuration it began with."""
        target = Path(trainer.default_root_dir) / CONFIG_FILE
        if stage != "fit" or (self.config.ckpt_path and target.is_file()):
            return
        # The folders are needed to go on with the run, the user's name in them is not.
        text = hide_home(self.parser.dump(self.config, skip_none=False))
        with write_beside(target) as path:
            path.write_text(text, encoding="utf-8")


class PolypCLI(LightningCLI):
    """Lightning's command line with this project's parts.

    Args:
        settings: those of the checkpoint that the run starts from, by option.
        options: see :class:`LightningCLI`.
    """

    def __init__(self, settings: Mapping[str, Any], *classes: Any, **options: Any) -> None:
        self._settings = settings
        super().__init__(*classes, **options)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the command line.

        Raises:
            ConfigError: naming the option and the nearest right one.
        """
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            known = {name for parser in self._subcommand_parsers.values() for name, _ in parser.get_defaults().items()}
            raise ConfigError(explain(str(error), known)) from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Flags of the pruning callback and the mask writer; one image size for all."""
        parser.add_lightning_class_args(TaylorFOPruning, "pruning")
        parser.add_lightning_class_args(MaskWriter, "masks")
        parser.link_arguments("data.image_size", "model.image_size")

    def instantiate_trainer(self, **options: Any) -> Trainer:
        """Makes the trainer.

        Raises:
            ConfigError: what Lightning does not take, or processes that can't be started with a network to be cut.
        """
        try:
            trainer: Trainer = super().instantiate_trainer(**options)
        except (MisconfigurationException, ValueError) as error:
            msg = f"{error} (--trainer)"
            raise ConfigError(msg) from error
        _check_limits(trainer, fits=self.subcommand == "fit")
        # Others are refused in `setup`, which processes of this kind don't reach.
        if getattr(trainer.strategy, "_start_method", None) not in (None, "popen"):
            check_strategy(trainer)
        return trainer

    def _parse_ckpt_path(self) -> None:
        """A checkpoint's settings have become flags already, ahead of the user's own.

        Lightning would let the checkpoint win over flags without a word.
        """

    def before_instantiate_classes(self) -> None:
        """Give the run a folder of its own, and never unpickle code."""
        config = self.config[self.subcommand]
        if self.subcommand != "fit" and not (config.ckpt_path or config.model.init_from):
            msg = (
                f"{self.subcommand} needs a trained network, and without a checkpoint its weights are random; give one "
                "that `fit` has written with --ckpt_path FILE (or only its weights with --model.init_from FILE)"
            )
            raise ConfigError(msg)
        options = yaml.safe_load(self._parser(self.subcommand).dump(config, skip_none=False))
        for line in disagreements(self._settings, flatten(options), resumes=self.subcommand == "fit"):
            rank_zero_info(line)
        config.weights_only = True
        if config.trainer.default_root_dir is None:
            config.trainer.default_root_dir = str(_run_folder(config))
        if config.trainer.enable_progress_bar is False:
            # Lightning refuses the two together.
            ours = self.trainer_defaults["callbacks"]
            self.trainer_defaults["callbacks"] = [c for c in ours if not isinstance(c, ProgressBar)]
        logger = config.trainer.logger
        if getattr(logger, "class_path", "").rpartition(".")[2] == RunLogger.__name__:
            # Lightning opens the run before any callback could name the folder.
            logger.init_args.save_dir = logger.init_args.save_dir or config.trainer.default_root_dir
            _describe(logger.init_args, config, str(self.subcommand))
        if self.subcommand == "predict":
            config.trainer.logger = False
            config.return_predictions = False

    def fit(self, **options: Any) -> None:
        """Trains, while no other process may write into the run's folder.

        Raises:
            ConfigError: another one does.
        """
        folder = Path(self.trainer.default_root_dir)
        # One process of the run speaks for all: it starts the others, or is started beside them.
        with alone_in(folder) if self.trainer.is_global_zero else nullcontext():
            self.trainer.fit(**options)

    def after_fit(self) -> None:
        """Lightning ends quietly where it has nothing to train on.

        Raises:
            ConfigError: not one step was made.
        """
        if self.trainer.global_step == 0:
            msg = (
                "nothing was trained: not one batch was left, so there is no checkpoint either; raise "
                "--trainer.max_time, or see that there are training images"
            )
            raise ConfigError(msg)


def _check_limits(trainer: Trainer, *, fits: bool) -> None:
    limits = {"accumulate_grad_batches": trainer.accumulate_grad_batches}
    if fits:
        limits |= {name: getattr(trainer, name) for name in ("max_epochs", "max_steps", "limit_train_batches")}
    for name, limit in limits.items():
        # -1 means without an end.
        if limit == 0 or (name == "accumulate_grad_batches" and limit < 1):
            msg = f"--trainer.{name}={limit} is too small: at least 1, or nothing is trained"
            raise ConfigError(msg)


def _describe(logger: Any, config: Any, verb: str) -> None:
    """Group, job type and tags by which a dashboard sorts runs, unless the user or the environment has named them."""
    net = f"{config.model.arch}-{config.model.encoder}"
    flags = config.pruning
    target = choose_target(
        flags.target, **{name: value for name, value in vars(flags).items() if name.startswith("target_")}
    )
    method = "dense" if target.is_everything else flags.criterion
    found = {
        "group": f"{config.data.name}-{config.data.image_size}-{net}",
        "job_type": verb,
        "tags": [str(config.data.name), config.model.arch, config.model.encoder, *([method] if verb == "fit" else [])],
    }
    for name, value in found.items():
        variable = {"group": "WANDB_RUN_GROUP", "job_type": "WANDB_JOB_TYPE", "tags": "WANDB_TAGS"}[name]
        if getattr(logger, name) is None and not os.environ.get(variable):
            setattr(logger, name, value)


def _run_folder(config: Any) -> Path:
    """That of the checkpoint, or a new one named after data and time."""
    checkpoint = Path(config.ckpt_path or "")
    if checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent
    return Path("runs") / f"{config.data.name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
