"""Gradient scalers (16-mixed) and fused optimizers, which undo the scale and skip steps by themselves."""

import torch
from lightning.pytorch import Trainer
from torch.amp import GradScaler
from torch.optim import SGD, Optimizer

from polyp_lightning.common.errors import ConfigError


def scaler_of(trainer: Trainer) -> GradScaler | None:
    """Returns the gradient scaler of a trainer; None where gradients are not scaled."""
    scaler: GradScaler | None = getattr(trainer.precision_plugin, "scaler", None)
    return scaler


def prepare_for_scaler(trainer: Trainer, optimizer: Optimizer) -> None:
    """Prepares a new optimizer for scaled gradients; refuses one that sees scaled gradients only, to be clipped."""
    fused = any(group.get("fused") for group in optimizer.param_groups)
    if scaler_of(trainer) is None or not fused:
        return
    if trainer.gradient_clip_val:
        msg = (
            f"a fused {type(optimizer).__name__} undoes the scale of 16-mixed gradients inside its step: they can't be "
            "clipped before; drop --trainer.gradient_clip_val, or the optimizer's fused=True"
        )
        raise ConfigError(msg)
    if isinstance(optimizer, SGD):
        _begin_momentum(optimizer)


def _begin_momentum(optimizer: SGD) -> None:
    """Starts momentum at 0, which leaves the first step as it is.

    If the scaler skips that step, fused SGD keeps uninitialised memory as momentum (torch 2.15).
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["momentum"] else []:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
