"""An exponential moving average of the weights that is cut along with them."""

import copy
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging

from polyp_lightning.callbacks.distributed import share_buffers
from polyp_lightning.common.errors import ConfigError


class PrunableEMA(EMAWeightAveraging):
    """Averages the weights while they are trained and pruned: after step t, ema_t = d·ema_{t-1} + (1 - d)·w_t.

    Validation, checkpoints and the module after the fit have the averaged weights; training goes on with its own, also
    when it is resumed. Batch norm's statistics are averaged likewise. At a cut the pruning callback removes the same
    channels from the average, which knows no others, and recalibrates its batch norm. (Lightning's own averages
    keep their old shapes, and their next update fails.)

    Args:
        decay: d, in [0, 1); about 1/(1 - d) steps are averaged.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            msg = f"decay={decay} must be in [0, 1): 0 keeps the latest weights, 0.999 averages about 1000 steps"
            raise ConfigError(msg)
        super().__init__(decay=decay)

    @property
    def average(self) -> LightningModule | None:
        """The module with the averaged weights; None outside a fit."""
        averaged: Any = self._average_model
        return None if averaged is None else averaged.module

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the module to its device and precision, which it has only now."""
        if self.average is not None:
            self.average.to(device=pl_module.device, dtype=next(pl_module.parameters()).dtype)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the averaged weights; in every process rank 0's statistics."""
        if self.average is not None:
            share_buffers(trainer, self.average)
        super().on_validation_epoch_start(trainer, pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the checkpoint's shapes, which the module has by now, and then its averages."""
        if self.average is not None:
            self.average.net = copy.deepcopy(pl_module.net)
        super().on_load_checkpoint(trainer, pl_module, checkpoint)


def averages(trainer: Trainer) -> list[LightningModule]:
    """The averaged copies of the module that have to be cut along with it."""
    found = (c.average for c in trainer.callbacks if isinstance(c, PrunableEMA))  # type: ignore[attr-defined]
    return [average for average in found if average is not None]


def check_averaging(trainer: Trainer) -> None:
    """Refuse averages that keep their old shapes at a cut.

    Raises:
        ConfigError: naming what works.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        averaging = isinstance(callback, (WeightAveraging, StochasticWeightAveraging))
        if averaging and not isinstance(callback, PrunableEMA):
            msg = (
                f"{type(callback).__name__} keeps the dense network's shapes, and fails after the first cut; take "
                f"{PrunableEMA.__module__}.PrunableEMA (--trainer.callbacks), or --pruning.target 1"
            )
            raise ConfigError(msg)
