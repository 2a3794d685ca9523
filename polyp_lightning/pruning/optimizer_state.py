"""What an optimizer and its learning-rate scheduler remember, after a cut."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from polyp_lightning.common.errors import PruningError, join_names
from polyp_lightning.pruning.surgery import Cut


def cut_optimizer_state(optimizers: Iterable[Optimizer], net: nn.Module, cut: Cut) -> None:
    """Keep the same indices of every state tensor (momentum, moments, their maximum) as of its parameter.

    Args:
        optimizers: the optimizers that train ``net``.
        net: the network after :func:`~polyp_lightning.pruning.surgery.remove`.
        cut: what that function returned.

    Raises:
        PruningError: a trainable parameter of ``net`` is in no optimizer: it would silently stop training. Or a state
            is not shaped like its parameter.
    """
    optimizers = list(optimizers)
    parameters = dict(net.named_parameters())
    for optimizer in optimizers:
        for name, dims in cut.items():
            parameter = parameters.get(name)
            if parameter is None or parameter not in optimizer.state:
                continue  # a buffer, or not stepped yet
            state = optimizer.state[parameter]
            for key, value in state.items():
                if torch.is_tensor(value) and value.ndim:
                    _assert_shaped(value, parameter, f"{type(optimizer).__name__}'s {key} of {name}")
                    state[key] = _kept(value, dims, parameter)
    _assert_all_trained(optimizers, parameters)


def forget_plateaus(schedulers: Iterable[Any]) -> None:
    """Let every ``ReduceLROnPlateau`` begin anew: what the larger network reached is no measure for the cut one.

    Otherwise the epochs that the cut network needs to recover count as a plateau. The learning rate stays as it is.
    """
    for scheduler in schedulers:
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.best, scheduler.num_bad_epochs = scheduler.mode_worse, 0


def _assert_shaped(value: torch.Tensor, parameter: nn.Parameter, what: str) -> None:
    if value.ndim != parameter.ndim:
        msg = f"{what} has shape {tuple(value.shape)}, which can't be cut; take another optimizer such as AdamW"
        raise PruningError(msg)


def _kept(value: torch.Tensor, dims: Mapping[int, npt.NDArray[np.intp]], parameter: torch.Tensor) -> torch.Tensor:
    factored = any(value.shape[dim] == 1 for dim in dims) or value.shape[2:] != parameter.shape[2:]
    for dim, keep in dims.items():
        if value.shape[dim] == 1 and len(keep) > 0 and keep[-1] > 0:
            continue  # a row or column sum, as Adafactor keeps
        value = value.index_select(dim, torch.as_tensor(keep, device=value.device))
    if factored:
        return value
    # empty_like keeps the parameter's memory format, which foreach and fused steps rely on.
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _assert_all_trained(optimizers: list[Optimizer], parameters: dict[str, nn.Parameter]) -> None:
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    lost = [name for name, p in parameters.items() if p.requires_grad and id(p) not in held]
    if optimizers and lost:
        msg = f"no optimizer holds {join_names(lost)}; build the optimizer from the network's own parameters"
        raise PruningError(msg)
