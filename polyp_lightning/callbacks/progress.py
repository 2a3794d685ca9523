"""The progress bar: loss, Dice, GMACs and stage, and nothing else."""

import sys
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar

from polyp_lightning.common.log_lines import EVERY, Pace, duration
from polyp_lightning.common.terminal import show_text
from polyp_lightning.training.trainer_facts import stage_history

# Reading a loss waits for the device, so that a refresh at every step would slow short steps down.
_REFRESH_EVERY = 5
# Seconds: an epoch's own line is soon enough where epochs are short.
_EVERY_LATER = 300.0


class ProgressBar(TQDMProgressBar):
    """Lightning's bar with ``loss``, ``dice``, ``GMACs`` and ``stage``.

    Where the output is no terminal (a log file, a pipe), it writes plain lines instead of a bar: what begins, how far
    the first epoch has come, and one line per epoch with the time that is left.

    Args:
        refresh_rate: steps between two refreshes of the bar; 0 hides it, and the lines too.
    """

    def __init__(self, refresh_rate: int = _REFRESH_EVERY) -> None:
        super().__init__(refresh_rate=refresh_rate)
        self._lines = not sys.stdout.isatty()
        self._pace: Pace | None = None
        self._begun = 0.0

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

    @property
    def _writes(self) -> bool:
        return self._lines and self._enabled and self.refresh_rate > 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the bar, or says what begins."""
        super().on_train_start(trainer, pl_module)
        if self._writes:
            of_all = f" of {trainer.max_epochs}" if (trainer.max_epochs or 0) > 0 else ""
            steps = trainer.num_training_batches
            show_text(f"Training begins with epoch {trainer.current_epoch}{of_all}, {steps} steps each")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins the epoch's bar, or takes the time."""
        super().on_train_epoch_start(trainer, pl_module)
        self._begun, steps = time.monotonic(), trainer.num_training_batches
        if self._writes and isinstance(steps, int):
            every = EVERY if self._pace is None else _EVERY_LATER
            self._pace = Pace(f"Epoch {trainer.current_epoch}, step", steps, show_text, every)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Moves the bar, or says how far a long epoch has come."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._pace is not None:
            self._pace.reach(batch_idx + 1)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refreshes the bar, or writes the epoch's line."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._writes:
            metrics = self.get_metrics(trainer, pl_module)
            epochs_to_go = (trainer.max_epochs or -1) - trainer.current_epoch - 1
            if epochs_to_go > 0:
                metrics["left"] = duration((time.monotonic() - self._begun) * epochs_to_go)
            show_text(f"Epoch {trainer.current_epoch}: " + ", ".join(f"{k}={v}" for k, v in metrics.items()))
