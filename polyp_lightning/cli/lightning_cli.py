"""Lightning's command line with this project's parts."""

from argparse import ArgumentError
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

from polyp_lightning.callbacks.distributed import check_strategy
from polyp_lightning.callbacks.mask_writer import MaskWriter
from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.callbacks.together import KeepTogether
from polyp_lightning.cli import run_options
from polyp_lightning.cli.ckpt_path import CONFIG_FILE
from polyp_lightning.cli.loggers import forget_prepared, go_on_with_tracked_run, prepare_logger
from polyp_lightning.cli.parser_errors import explain
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.files import hide_home, write_beside
from polyp_lightning.common.locks import alone_in
from polyp_lightning.networks.losses import LOSSES
from polyp_lightning.pruning.criteria import CRITERIA

_CHECKPOINT = "a checkpoint, or a network by name; it knows network, data and split"
# What Lightning's own options mean here, and the names that an option takes, read from the lists of the packages.
_TEXTS = {
    "--config": "options from a file, or by name, such as kvasir",
    "--seed_everything": "of weights, order and augmentation",
    "--model.loss": ", ".join(LOSSES),
    "--pruning.criterion": ", ".join(CRITERIA),
    "--trainer.max_epochs": "epochs, cuts and fine-tuning included",
    "--trainer.accelerator": "cpu, gpu or auto",
    "--trainer.precision": "bf16-mixed, 16-mixed, … (32)",
    "--trainer.default_root_dir": "the run's folder (runs/DATA-TIME, or the checkpoint's)",
    "--trainer.logger": "W&B (offline unless logged in); CSVLogger, TensorBoardLogger or false",
}


class RunConfig(SaveConfigCallback):
    """Writes the resolved configuration beside the checkpoints, and into the tracked run."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes it once, on rank zero. A run that goes on in its own folder keeps the one that it began with."""
        target = Path(trainer.default_root_dir) / CONFIG_FILE
        if stage != "fit" or (self.config.ckpt_path and target.is_file()):
            return
        config = self.config.clone()
        forget_prepared(config, stage)
        # The folders are needed to go on with the run, the user's name in them is not.
        text = hide_home(self.parser.dump(config, skip_none=False))
        with write_beside(target) as path:
            path.write_text(text, encoding="utf-8")


class PolypCLI(LightningCLI):
    """Lightning's command line with this project's parts.

    The settings are those of the checkpoint that the run starts from, by option.
    """

    def __init__(self, settings: Mapping[str, Any], *classes: Any, **options: Any) -> None:
        self._settings = settings
        super().__init__(*classes, **options)

    def setup_parser(self, *options: Any, **more: Any) -> None:
        """Adds all options, with texts that say what they mean here."""
        super().setup_parser(*options, **more)
        for verb, parser in self._subcommand_parsers.items():
            going_on = "go on with this checkpoint, or with: last, auto"
            texts = _TEXTS | {"--ckpt_path": going_on if verb == "fit" else _CHECKPOINT}
            for action in parser._actions:
                action.help = next((texts[name] for name in action.option_strings if name in texts), action.help)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the command line; an error names the option and the nearest right one."""
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            known = {name for parser in self._subcommand_parsers.values() for name, _ in parser.get_defaults().items()}
            raise ConfigError(explain(str(error), known)) from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the flags of the pruning callback and the mask writer; one image size for all."""
        parser.add_lightning_class_args(TaylorFOPruning, "pruning")
        parser.set_defaults({"pruning.monitor": "val/dice"})
        parser.add_lightning_class_args(MaskWriter, "masks")
        parser.link_arguments("data.image_size", "model.image_size")

    def instantiate_classes(self) -> None:
        """Makes module, data and trainer.

        Raises:
            ConfigError: a package is missing that an option needs.
        """
        try:
            super().instantiate_classes()
        except (ModuleNotFoundError, ValueError) as error:
            # The parser wraps the first kind in the second.
            lines = [line.strip() for line in str(error).splitlines() if "pip install" in line]
            if not lines:
                raise
            msg = f"an option needs a package that is not installed: {lines[0]}"
            raise ConfigError(msg) from error

    def instantiate_trainer(self, **options: Any) -> Trainer:
        """Makes the trainer.

        Raises:
            ConfigError: what Lightning does not take, or processes that can't be started with a network to be cut.
        """
        given = self.config_init[self.subcommand].trainer
        self.trainer_defaults["callbacks"] = run_options.give_way(self.trainer_defaults["callbacks"], given)
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
        """Does nothing: a checkpoint's settings have become flags already, ahead of the user's own.

        Lightning would let the checkpoint win over flags without a word.
        """

    def before_instantiate_classes(self) -> None:
        """Completes the options, or refuses them."""
        verb, options = str(self.subcommand), self.config[self.subcommand]
        run_options.refuse_random_weights(options, verb)
        run_options.show_disagreements(options, self._settings, self._parser(verb), resumes=verb == "fit")
        # Never unpickle code.
        options.weights_only = True
        run_options.choose_run_folder(options)
        if verb == "fit":
            run_options.refuse_taken_folder(options)
        prepare_logger(options, verb)
        if options.trainer.barebones:
            run_options.clear_defaults(options)
        if verb == "predict":
            run_options.return_nothing(options)

    def fit(self, **options: Any) -> None:
        """Trains, while no other process may write into the run's folder.

        Raises:
            SystemExit: a signal has stopped it; a note says what is left of it.
        """
        folder = Path(self.trainer.default_root_dir)
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, KeepTogether):
                # Lightning knows it only after `setup`, and then wraps the network without a comparison.
                callback.resumes = bool(options.get("ckpt_path"))
        go_on_with_tracked_run(self.trainer.loggers, folder, options.get("ckpt_path"))
        # One process of the run speaks for all: it starts the others, or is started beside them.
        with alone_in(folder) if self.trainer.is_global_zero else nullcontext():
            try:
                self.trainer.fit(**options)
            except SystemExit as stop:
                stop.add_note(_describe_rest(self.trainer))
                raise

    def after_fit(self) -> None:
        """Refuses to end quietly, as Lightning does, where there was nothing to train on."""
        if self.trainer.global_step == 0:
            msg = (
                "nothing was trained: not one batch was left, so there is no checkpoint either; raise "
                "--trainer.max_time, or see that there are training images"
            )
            raise ConfigError(msg)


def _describe_rest(trainer: Trainer) -> str:
    """Says what a stopped training has left to go on with."""
    folders = [Path(found) for one in trainer.checkpoint_callbacks if (found := getattr(one, "dirpath", None))]
    if not any(path for folder in folders for path in folder.glob("*.ckpt")):
        return "it has written no checkpoint, so start it again"
    if not any((folder / "last.ckpt").is_file() for folder in folders):
        return "its checkpoints are whole"
    return "its checkpoints are whole, and it goes on with --ckpt_path last"


def _check_limits(trainer: Trainer, *, fits: bool) -> None:
    limits = {"accumulate_grad_batches": trainer.accumulate_grad_batches}
    if fits:
        limits |= {name: getattr(trainer, name) for name in ("max_epochs", "max_steps", "limit_train_batches")}
    for name, limit in limits.items():
        # -1 means without an end.
        if limit == 0 or (name == "accumulate_grad_batches" and limit < 1):
            msg = f"--trainer.{name}={limit} is too small: at least 1, or nothing is trained"
            raise ConfigError(msg)
