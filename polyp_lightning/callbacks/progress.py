"""The progress bar: loss, Dice, GMACs and stage, and nothing else."""

import sys
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from polyp_lightning.common.terminal import show_text
from polyp_lightning.training.trainer_facts import stage_history

# Reading a loss waits for the device, so that a refresh at every step would slow short steps down.
_REFRESH_EVERY = 5


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with ``loss``, ``dice``, ``GMACs`` and ``stage``.

    Where the output is no terminal (a log file, a pipe), it writes one plain line per epoch instead of a bar.

    Args:
        refresh_rate: steps between two refreshes of the bar; 0 hides it, and the lines too.
    """

    def __init__(self, refresh_rate: int = _REFRESH_EVERY) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._lines = not sys.stdout.isatty()

    @property
    def is_enabled(self) -> bool:
        """Whether bars are drawn."""
        return super().is_enabled and not self._lines

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """The numbers behind the bar, as short strings; those that do not exist yet are left out."""
        logged = trainer.callback_metrics
        shown = {}
        loss = logged.get("train/loss_step", logged.get("train/loss"))
        if loss is not None:
            shown["loss"] = f"{float(loss):.3f}"
        if "val/dice" in logged:
            shown["dice"] = f"{float(logged['val/dice']):.4f}"
        if history := stage_history(trainer):
            shown |= {"GMACs": f"{history[-1].gmacs:.3f}", "stage": f"{history[-1].stage:d}"}
        return shown

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refreshes the bar, or writes the epoch's line."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._lines and self._enabled and self.refresh_rate > 0:
            metrics = self.get_metrics(trainer, pl_module)
            show_text(f"Epoch {trainer.current_epoch}: " + ", ".join(f"{k}={v}" for k, v in metrics.items()))
