"""What a gradient scaler (16-mixed) asks of fused optimizers, which undo its factor and skip steps by themselves."""

import torch
from lightning.pytorch import Trainer
from torch.amp import GradScaler
from torch.optim import SGD, Optimizer

from polyp_lightning.common.errors import ConfigError


def scaler_of(trainer: Trainer) -> GradScaler | None:
    """The gradient scaler of a trainer; None where gradients are not scaled."""
    scaler: GradScaler | None = getattr(trainer.precision_plugin, "scaler", None)
    return scaler


def prepare_for_scaler(trainer: Trainer, optimizer: Optimizer) -> None:
    """Makes a new optimizer fit for gradients that are scaled; does nothing without a scaler.

    Raises:
        ConfigError: the optimizer sees scaled gradients only, and they are to be clipped.
    """
    fused = any(group.get("fused") for group in optimizer.param_groups)
    if scaler_of(trainer) is None or not fused:
        return
    if trainer.gradient_clip_val:
        msg = (
            f"a fused {type(optimizer).__name__} undoes the scale of 16-mixed gradients inside its step, so that they "
            "can't be clipped before; drop --trainer.gradient_clip_val, or the optimizer's fused=True"
        )
        raise ConfigError(msg)
    if isinstance(optimizer, SGD):
        _begin_momentum(optimizer)


def _begin_momentum(optimizer: SGD) -> None:
    """Momentum from 0, which makes the first step the same.

    If the scaler skips the first step, fused SGD keeps memory that nobody has written to as momentum (torch 2.15).
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else []:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
