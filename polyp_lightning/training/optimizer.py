"""The optimizer that the user asked for, and its learning-rate schedule."""

from collections.abc import Callable, Iterable

from lightning.pytorch.cli import LRSchedulerCallable
from lightning.pytorch.utilities.types import LRSchedulerConfigType
from torch import nn
from torch.optim import LBFGS, Optimizer, SparseAdam
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from polyp_lightning.common.errors import ConfigError

# PyTorch takes them without a word, and fails in the first step.
_UNFIT = {
    LBFGS: "LBFGS works on one vector of all weights, which weights in channels-last order do not give",
    SparseAdam: "SparseAdam takes sparse gradients only, which no layer has here",
}
_INSTEAD = "take another --model.optimizer, such as torch.optim.AdamW"


def build_optimizer(
    make: Callable[[Iterable[nn.Parameter]], Optimizer], parameters: list[nn.Parameter], lr: float
) -> Optimizer:
    """Makes an optimizer of these parameters.

    A group of parameters that has a learning rate of its own keeps it, all others get ``lr``.

    Raises:
        ConfigError: it can't train them (such as Muon, which is for matrices only).
    """
    try:
        optimizer = make(parameters)
    except (TypeError, ValueError) as error:
        msg = f"{error}; {_INSTEAD}"
        raise ConfigError(msg) from error
    for kind, reason in _UNFIT.items():
        if isinstance(optimizer, kind):
            msg = f"{reason}; {_INSTEAD}"
            raise ConfigError(msg)
    for group in optimizer.param_groups:
        group["lr"] = lr if group["lr"] == optimizer.defaults["lr"] else group["lr"]
    return optimizer


def build_schedule(make: LRSchedulerCallable, optimizer: Optimizer) -> LRSchedulerConfigType:
    """Makes the schedule that the user asked for, stepped once an epoch, as Lightning takes it.

    Raises:
        ConfigError: it would lower the learning rate while the validation Dice rises.
    """
    scheduler = make(optimizer)
    if isinstance(scheduler, ReduceLROnPlateau) and scheduler.mode != "max":
        msg = "ReduceLROnPlateau follows val/dice here: give it mode=max (--model.lr_scheduler.mode max)"
        raise ConfigError(msg)
    return {"scheduler": scheduler, "interval": "epoch", "monitor": "val/dice"}


def build_one_cycle(optimizer: Optimizer, steps: float) -> LRSchedulerConfigType:
    """Makes one cycle over all steps, as Lightning takes it; each group's learning rate is its peak.

    The steps are those of the run, or those that are left; infinite for a run without an end.

    Raises:
        ConfigError: the run has no end.
    """
    if steps == float("inf"):
        msg = "the one-cycle schedule needs an end: set --trainer.max_epochs, or choose another --model.lr_scheduler"
        raise ConfigError(msg)
    cycled = "momentum" in optimizer.defaults or "betas" in optimizer.defaults
    peaks = [group["lr"] for group in optimizer.param_groups]
    cycle = OneCycleLR(optimizer, max_lr=peaks, total_steps=max(int(steps), 1), cycle_momentum=cycled)
    return {"scheduler": cycle, "interval": "step"}
