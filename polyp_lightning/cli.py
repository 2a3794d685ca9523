"""The command line: ``python -m polyp_lightning {fit,validate,test,predict,export,benchmark,stream,data}``."""

import logging
import sys
import warnings
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from polyp_lightning.checkpoint import as_flags, read
from polyp_lightning.data.commands import main as data_main
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.deploy.commands import VERBS as DEPLOY_VERBS
from polyp_lightning.deploy.commands import main as deploy_main
from polyp_lightning.errors import PolypError
from polyp_lightning.files import written_beside
from polyp_lightning.prediction import MaskWriter
from polyp_lightning.pruning.callback import TaylorFOPruning
from polyp_lightning.segmenter import PolypSegmenter
from polyp_lightning.tracking import ProgressBar, RunLogger, RunTracker, StageCheckpoint, StageSummary

USAGE = """\
usage: python -m polyp_lightning VERB [options]

  fit       train, and prune while training          (--help for the options)
  validate  Dice and IoU on the validation images    --ckpt_path FILE
  test      all metrics on the test images           --ckpt_path FILE
  predict   write masks as PNG                       --ckpt_path FILE
  export    write a model for a runtime              --ckpt_path FILE --format onnx
  benchmark measure frames per second                --model FILE --image_size 352
  stream    segment a video                          --model FILE --source FILE
  data      fetch or verify a data set               data fetch kvasir | data verify kvasir
"""

CONFIG_FILE = "config.yaml"


def main(args: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        args: the command line without the program's name; by default that of the process.

    Returns:
        The exit status: 0, or 2 for a mistake that is explained on standard error.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            sys.stdout.write(USAGE)
            return 0
        if arguments[0] == "data":
            return data_main(arguments[1:])
        if arguments[0] in DEPLOY_VERBS:
            return deploy_main(arguments)
        _run(arguments)
    except PolypError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def _run(arguments: list[str]) -> None:
    torch.set_float32_matmul_precision("high")
    _silence()
    checkpoint = _checkpoint_path(arguments)
    inherited = _inherited(arguments, checkpoint) if checkpoint else []
    PolypCLI(
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
            "callbacks": [StageCheckpoint(), RunTracker(), StageSummary(), ProgressBar()],
        },
        seed_everything_default=0,
        # Built at parse time it would hold the dense network's parameters, and a resumed pruned one would never move.
        auto_configure_optimizers=False,
        args=[arguments[0], *inherited, *arguments[1:]],
    )


def _inherited(arguments: Sequence[str], checkpoint: Path) -> list[str]:
    """The options with which a checkpoint's run was made; those that the user gives come later and win."""
    flags = as_flags(read(checkpoint))
    config = checkpoint.parent.parent / CONFIG_FILE
    if arguments[0] == "fit" and config.is_file():
        # Going on needs all of them, schedule and optimizer too; the weights come from the checkpoint.
        return ["--config", str(config), "--model.encoder_weights=null"]
    if any(argument.startswith("--data.name") for argument in arguments):
        # Other data have other splits.
        flags = [flag for flag in flags if not flag.startswith("--data.split")]
    return flags


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


def _checkpoint_path(arguments: Sequence[str]) -> Path | None:
    for here, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if here == "--ckpt_path" or here.startswith("--ckpt_path="):
            return Path(following if here == "--ckpt_path" else here.partition("=")[2])
    return None


class RunConfig(SaveConfigCallback):
    """Writes the resolved configuration beside the checkpoints, and into the tracked run."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Called once, on rank zero. A run that goes on in its own folder keeps the configuration it began with."""
        target = Path(trainer.default_root_dir) / CONFIG_FILE
        if stage != "fit" or (self.config.ckpt_path and target.is_file()):
            return
        text = self.parser.dump(self.config, skip_none=False)
        with written_beside(target) as path:
            path.write_text(text)


class PolypCLI(LightningCLI):
    """Lightning's command line with this project's parts."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Flags of the pruning callback and the mask writer; one image size for all."""
        parser.add_lightning_class_args(TaylorFOPruning, "pruning")
        parser.add_lightning_class_args(MaskWriter, "masks")
        parser.link_arguments("data.image_size", "model.image_size")

    def _parse_ckpt_path(self) -> None:
        """A checkpoint's settings have become flags already, ahead of the user's own.

        Lightning would let the checkpoint win over flags without a word.
        """

    def before_instantiate_classes(self) -> None:
        """Give the run a folder of its own, and never unpickle code."""
        config = self.config[self.subcommand]
        config.weights_only = True
        if config.trainer.default_root_dir is None:
            config.trainer.default_root_dir = str(_run_folder(config))
        logger = config.trainer.logger
        if getattr(logger, "class_path", "").rpartition(".")[2] == RunLogger.__name__:
            # Lightning opens the run before any callback could name the folder.
            logger.init_args.save_dir = logger.init_args.save_dir or config.trainer.default_root_dir
        if self.subcommand == "predict":
            config.trainer.logger = False
            config.return_predictions = False


def _run_folder(config: Any) -> Path:
    """That of the checkpoint, or a new one named after data and time."""
    checkpoint = Path(config.ckpt_path or "")
    if checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent
    return Path("runs") / f"{config.data.name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
