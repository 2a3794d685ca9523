"""The verbs that Lightning runs: fit, validate, test and predict."""

import logging
import sys
import warnings
from collections.abc import Mapping, Sequence
from signal import Signals
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.exceptions import SIGTERMException

from polyp_lightning.callbacks.together import KeepTogether
from polyp_lightning.cli.ckpt_path import complete_command
from polyp_lightning.cli.lightning_cli import PolypCLI, RunConfig
from polyp_lightning.cli.loggers import complete_logger
from polyp_lightning.cli.moved_classes import accept_old_names
from polyp_lightning.cli.parsing import give_switches_values, use_own_words
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.malloc import keep_freed_memory
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.tracking import ProgressBar, RunLogger, RunTracker, ScoreWriter, StageCheckpoint, StageSummary
from polyp_lightning.training.module import PolypSegmenter

# What stands for other verbs' words here; `--model` is a word of Lightning's own in fit.
_WORDS = {
    "validate": ["--ckpt_path"],
    "test": ["--ckpt_path"],
    "predict": ["--ckpt_path", "--masks.output", "--masks.overlay"],
}
_STRICT = {"exit_on_error": False, "allow_abbrev": False}


def main(arguments: Sequence[str]) -> int:
    """Runs one of these verbs; see :func:`polyp_lightning.cli.verbs.main`.

    Returns:
        The exit status: 0, or 128 and the number of the signal that has stopped it.
    """
    torch.set_float32_matmul_precision("high")
    keep_freed_memory()
    _silence_useless_warnings()
    accept_old_names()
    start = complete_command(
        complete_logger(give_switches_values(use_own_words(arguments, ["--data.root", *_WORDS.get(arguments[0], ())])))
    )
    try:
        run_lightning(start.arguments, start.settings)
    except MisconfigurationException as error:
        # Lightning sees some only once it knows the data, such as shares of less than a batch.
        raise ConfigError(str(error)) from error
    except SystemExit as stop:
        return _explain_stop(stop, arguments[0])
    return 0


def _explain_stop(stop: SystemExit, verb: str) -> int:
    """Says which signal has stopped the process; returns its status, where Lightning's is 0 as if all were done."""
    if isinstance(stop, SIGTERMException):
        number = Signals.SIGTERM
    elif isinstance(stop.__context__, KeyboardInterrupt):
        number = Signals.SIGINT
    else:
        raise stop
    sys.stderr.write("; ".join([f"{verb} was stopped by {number.name}", *getattr(stop, "__notes__", [])]) + "\n")
    return 128 + number


def run_lightning(arguments: Sequence[str], settings: Mapping[str, Any], cli: type[PolypCLI] = PolypCLI) -> None:
    """Runs a verb with this project's network, data, callbacks and defaults.

    The settings are those of the checkpoint that the run starts from, by option.
    """
    cli(
        settings,
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
            "callbacks": [
                StageCheckpoint(),
                RunTracker(),
                StageSummary(),
                ScoreWriter(),
                ProgressBar(),
                KeepTogether(),
            ],
        },
        seed_everything_default=0,
        # Built at parse time it would hold the dense network's parameters, and a resumed pruned one would never move.
        auto_configure_optimizers=False,
        # A mistake becomes a message, and a shortened option none at all: --data.n could be name or num_workers.
        parser_kwargs={verb: _STRICT for verb in cli.subcommands()} | _STRICT,
        args=arguments,
    )


def _silence_useless_warnings() -> None:
    """Filters out warnings that are true, but of no use to the person who reads them."""
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
