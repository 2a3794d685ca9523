"""Making the optimizer that the user asked for."""

from collections.abc import Callable, Iterable

from torch import nn
from torch.optim import LBFGS, Optimizer, SparseAdam

from polyp_lightning.common.errors import ConfigError

# PyTorch takes them without a word, and fails in the first step.
_UNFIT = {
    LBFGS: "LBFGS works on one vector of all weights, which weights in channels-last order do not give",
    SparseAdam: "SparseAdam takes sparse gradients only, which no layer has here",
}
_INSTEAD = "take another --model.optimizer, such as torch.optim.AdamW"


def build_optimizer(make: Callable[[Iterable[nn.Parameter]], Optimizer], parameters: list[nn.Parameter]) -> Optimizer:
    """An optimizer of these parameters.

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
    return optimizer
