"""Averages of the weights, which are cut along with them."""

from collections.abc import Iterator
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel

from polyp_lightning.callbacks.distributed import share_buffers
from polyp_lightning.callbacks.either_lightning import is_a
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.pruning.surgery import named_tensors


class PrunableEMA(EMAWeightAveraging):
    """Averages the weights while they are trained and pruned: after step t, ema_t = d·ema_{t-1} + (1 - d)·w_t.

    Validation, checkpoints and the module after the fit have the averaged weights; training goes on with its own, also
    when it is resumed. Batch norm's statistics are averaged likewise. At a cut the pruning callback removes the same
    channels from the average, as from any of Lightning's, and recalibrates its batch norm. This one also follows the
    module to its device, and shares its statistics among processes.

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
        return _average(self)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Follow the module to its device and precision, which it has only now."""
        if self.average is not None:
            self.average.to(device=pl_module.device, dtype=next(pl_module.parameters()).dtype)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the averaged weights; in every process rank 0's statistics."""
        if self.average is not None:
            share_buffers(trainer, self.average)
        super().on_validation_epoch_start(trainer, pl_module)


def _average(callback: Any) -> LightningModule | None:
    averaged: Any = getattr(callback, "_average_model", None)
    inner: Any = averaged.module if isinstance(averaged, AveragedModel) else averaged
    return inner  # type: ignore[no-any-return]


def averaged_copies(trainer: Trainer) -> list[LightningModule]:
    """The copies of the module in which Lightning's callbacks average its weights."""
    callbacks = [c for c in trainer.callbacks if is_a(c, WeightAveraging, StochasticWeightAveraging)]  # type: ignore[attr-defined]
    return [average for callback in callbacks if (average := _average(callback)) is not None]


def validated_copy(trainer: Trainer, pl_module: LightningModule) -> LightningModule:
    """The module whose weights are validated: an average of a ``WeightAveraging``, or the module itself."""
    callbacks = (c for c in trainer.callbacks if is_a(c, WeightAveraging))  # type: ignore[attr-defined]
    return next((average for c in callbacks if (average := _average(c)) is not None), pl_module)


def places_of(module: nn.Module, target: str) -> list[str]:
    """Names of the network to prune and of its averages (``AveragedModel``) among a module's submodules.

    Raises:
        ConfigError: an average shares part of the network only, or has other shapes.
    """
    net = module.get_submodule(target)
    shapes = {name: tensor.shape for name, tensor in named_tensors(net)}
    places = [target]
    for name, average in module.named_modules():
        if not isinstance(average, AveragedModel):
            continue
        inner = next((n for n in _within(f"{name}.module", target) if _same_names(module, n, shapes)), None)
        if inner is not None and {n: t.shape for n, t in named_tensors(module.get_submodule(inner))} == shapes:
            places.append(inner)
        elif inner is not None or _overlaps(average, shapes):
            msg = (
                f"the module's {name!r} (AveragedModel) averages a part of {target or 'the module'!r}, or has other "
                "shapes, and can't be cut along; let it average that network as a whole, or use WeightAveraging"
            )
            raise ConfigError(msg)
    return places


def _within(average: str, target: str) -> Iterator[str]:
    """Where an average of something that holds the network has the network: by ever shorter ends of its name."""
    yield average
    parts = target.split(".")
    for start in range(len(parts)):
        yield ".".join([average, *parts[start:]])


def _same_names(module: nn.Module, name: str, shapes: dict[str, Any]) -> bool:
    try:
        return {key for key, _ in named_tensors(module.get_submodule(name))} == shapes.keys()
    except AttributeError:
        return False


def _overlaps(average: AveragedModel, shapes: dict[str, Any]) -> bool:
    own = {name: tensor.shape for name, tensor in named_tensors(average.module)}
    return any(own.get(name) == shape for name, shape in shapes.items() if len(shape) > 1)
