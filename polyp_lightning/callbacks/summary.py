"""What the terminal says of a run: a table at every cut; at the end results, files and the next command."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from polyp_lightning.callbacks.dense_control import find_dense_dice, place_dense, show_beside
from polyp_lightning.callbacks.picture import pareto_csv, pareto_png
from polyp_lightning.callbacks.stage_checkpoints import PICK, StageCheckpoint
from polyp_lightning.callbacks.table import facts_text, stage_table
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.invocation import command
from polyp_lightning.common.terminal import show, show_text
from polyp_lightning.networks.names import is_own
from polyp_lightning.training.trainer_facts import current_stage, data_facts, image_size, run_folder, stage_history

T = TypeVar("T")


def short_path(path: str | Path) -> str:
    """A path as one would type it: relative to the working folder where it lies below it."""
    full = Path(os.path.realpath(path))
    here = Path.cwd().resolve()
    return str(full.relative_to(here)) if full.is_relative_to(here) else str(full)


def next_command(checkpoint: str | Path, arch: str = "") -> str:
    """The command that tests a checkpoint, ready to be pasted in any folder; names a network of the user's own."""
    named = ["--model.arch", arch] if is_own(arch) else []
    return command("test", "--ckpt_path", Path(checkpoint).resolve(), *named)


def report_command(folder: Path) -> str:
    """The command that writes a report on a run, ready to be pasted into a shell in any folder."""
    whole = folder.resolve()
    return command("report", whole, "-o", whole / "report.html")


def dense_command(folder: Path) -> str:
    """The command that trains the dense network as long as this run, ready to be pasted into a shell in any folder."""
    config, dense = folder.resolve() / "config.yaml", place_dense(folder)
    return command("fit", "--config", config, "--pruning.target", 1, "--trainer.default_root_dir", dense)


def written_files(trainer: Trainer) -> list[tuple[str, str]]:
    """Everything a run has written, as (path, what it is) in the order of interest; only what exists."""
    folder = run_folder(trainer)
    found: list[tuple[Path, str]] = [
        (folder / "pareto.png", "Dice against GMACs, drawn"),
        (folder / "pareto.csv", "the same as numbers"),
        *_checkpoint_files(trainer),
        (folder / "config.yaml", "every option of this run"),
    ]
    found += [
        (written, "W&B run (`wandb sync` uploads it if it is offline)")
        for logger in trainer.loggers
        if (written := getattr(logger, "run_folder", None))
    ]
    return [(short_path(path), text) for path, text in found if path.exists()]


def _checkpoint_files(trainer: Trainer) -> list[tuple[Path, str]]:
    files = []
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, StageCheckpoint):
            for stage, path in callback.best_per_stage.items():
                dice = callback.best_scores.get(stage, float("nan"))
                files.append((Path(path), f"best of stage {stage}, val Dice {dice:.4f}"))
            if callback.dirpath:
                text = "the smallest network within 0.01 of the best Dice"
                files.append((Path(callback.dirpath) / PICK, text))
            if callback.last_model_path:
                files.append((Path(callback.last_model_path), "the last epoch, to resume from"))
    return files


def best_of_final_stage(trainer: Trainer) -> str | None:
    """The best checkpoint of the smallest network; the last epoch's where that was never validated."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, StageCheckpoint):
            return callback.best_per_stage.get(current_stage(trainer)) or callback.last_model_path or None
    return None


class StageSummary(Callback):
    """Prints the stage table at every cut, and at the end the final table, the files written and the next command.

    It belongs after the pruning callback in ``trainer.callbacks``. At the end it also writes ``pareto.csv`` and
    ``pareto.png`` into the run's folder. Only rank zero prints and writes.
    """

    def __init__(self) -> None:
        self._shown = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the stages of a resumed run as already shown."""
        self._shown = max(len(stage_history(trainer)), 1)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the table where the pruning callback has just cut."""
        history = stage_history(trainer)
        if len(history) > self._shown and trainer.is_global_zero:
            title = f"Cut {history[-1].stage}, before epoch {trainer.current_epoch}"
            show(stage_table(history, image_size(trainer), title))
        self._shown = max(self._shown, len(history))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the curve, prints the final table and says where everything is."""
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        history, facts = stage_history(trainer), data_facts(trainer)
        if history:
            folder = run_folder(trainer)
            pareto_csv(history, folder / "pareto.csv")
            caption = picture_caption(facts, image_size(trainer))
            dense = _unless_damaged(lambda: find_dense_dice(folder))
            pareto_png(history, folder / "pareto.png", caption, dense)
            show(stage_table(history, image_size(trainer), "Validation Dice against GMACs", facts))
            if picture := _unless_damaged(lambda: show_beside(folder, caption)):
                show_text(f"The pruned run beside this one shows what pruning costs: {short_path(picture)}")
        _show_ending(trainer)


def _unless_damaged(look: Callable[[], T | None]) -> T | None:
    """Calls what looks at the run beside this one; if that is damaged, says so and goes on."""
    try:
        return look()
    except ConfigError as error:
        rank_zero_warn(f"the run beside this one is not drawn: {error}")
        return None


def picture_caption(facts: Mapping[str, Any], size: int) -> str:
    """The line under the picture's title: the data and the protocol, and the input size in any case."""
    text = facts_text(facts)
    return text if "image_size" in facts or not size else " · ".join(filter(None, [text, f"image size: {size}"]))


def _show_ending(trainer: Trainer) -> None:
    files = written_files(trainer)
    if files:
        width = max(len(path) for path, _ in files)
        show_text("Written:\n" + "\n".join(f"  {path:<{width}}  {text}" for path, text in files))
    arch = str(getattr(trainer.lightning_module, "arch", ""))
    if checkpoint := best_of_final_stage(trainer):
        show_text(f"Next, the test images at their original size:\n  {next_command(checkpoint, arch)}")
    if files:
        folder = run_folder(trainer)
        if len(stage_history(trainer)) > 1 and (folder / "config.yaml").is_file():
            show_text(
                f"A dense run of equal length shows what pruning costs, in pareto.png:\n  {dense_command(folder)}"
            )
        show_text(f"And all of this run as one page (name the dense run's folder too):\n  {report_command(folder)}")
