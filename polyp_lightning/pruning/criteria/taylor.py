"""TaylorFO: the first-order change when a component is removed, with gradient normalisation."""

from collections.abc import Callable
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.pruning.criteria.base import Loss, WatchingCriterion, to_float64
from polyp_lightning.pruning.criteria.taylor_hooks import EPSILON, ConsumerChanges
from polyp_lightning.pruning.graph import ChannelGraph

Reduction = Literal["abs", "square", "signed"]
Signal = Literal["loss", "output", "random"]


class TaylorFO(WatchingCriterion):
    """Mean over images of the first-order change when a component is removed.

    With s[n, c] as in :mod:`polyp_lightning.pruning.criteria.taylor_hooks` and y the network's output, the importance
    of component c is

    - ``abs``: I_c = 1/M Σ_n abs(ŝ[n, c])  (the default),
    - ``square``: I_c = 1/M Σ_n ŝ[n, c]²,
    - ``signed``: I_c = −1/M Σ_n ŝ[n, c], the predicted *increase* of the loss, where components whose removal would
      lower it come first,

    where ŝ[n, c] = s[n, c] / (‖∂L/∂y_n‖₂ + ε) if ``normalise``, else s[n, c]. Normalising makes a well-fitted image
    count as much as a hard one: "gradient-normalised back-propagation" of Sapkota et al., MIUA 2023
    (doi:10.1007/978-3-031-48593-0_22); the formulas of the reductions are those of arXiv:2310.20203. Dividing a change
    is the same as scaling the gradient before it is propagated where images do not mix (batch norm in eval mode), and
    differs from it slightly in training mode. A normalised change is free of the factor 1/N of a mean loss and of that
    of a gradient scaler.

    ``signal`` chooses what changes:

    - ``loss``: the loss L;
    - ``output``: the output itself: L is replaced by Σ_n ½‖y_n‖₂², whose gradient at the output is y_n. Normalised,
      ŝ is then the first-order change of the output's norm ‖y_n‖₂;
    - ``random``: the output along a random direction: the gradient at the output is drawn from N(0, 1)
      (arXiv:2310.20203). In expectation the square of s is the squared norm of the output's first-order change.

    The latter two need passes of their own, and no labels.

    Args:
        reduction: ``abs``, ``square`` or ``signed``.
        normalise: divide by the norm of the gradient at the output.
        signal: ``loss``, ``output`` or ``random``.
        seed: for ``random``.
    """

    name: ClassVar[str] = "taylor"

    def __init__(
        self, reduction: Reduction = "abs", *, normalise: bool = True, signal: Signal = "loss", seed: int = 0
    ) -> None:
        _check("reduction", reduction, get_args(Reduction))
        _check("signal", signal, get_args(Signal))
        super().__init__()
        self.reduction = reduction
        self.normalise = normalise
        self.signal = signal
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def rides_along(self) -> bool:
        """True for the loss, which every training step propagates."""
        return self.signal == "loss"

    def _watch(self, net: nn.Module, graph: ChannelGraph) -> Callable[[], None]:
        hooks = ConsumerChanges(net, graph, self.update)
        hooks.attach()
        return hooks.detach

    def _backward(self, output: Any, masks: Tensor, loss: Loss) -> None:
        if self.signal == "loss":
            super()._backward(output, masks, loss)
            return
        outputs = [tensor for tensor in tree_leaves(output) if isinstance(tensor, Tensor) and tensor.requires_grad]
        torch.autograd.backward(outputs, [self._gradient(tensor) for tensor in outputs])

    def _gradient(self, output: Tensor) -> Tensor:
        if self.signal == "output":
            return output.detach()
        return torch.randn(output.shape, generator=self._generator).to(output)

    def update(self, changes: Tensor, norm: Tensor) -> None:
        """Adds a batch.

        Args:
            changes: (N, size), s[n, c].
            norm: (N,), gradient norms at the output.
        """
        changes = changes / (norm[:, None] + EPSILON if self.normalise else self.loss_scale)
        if self.reduction == "abs":
            changes = changes.abs()
        elif self.reduction == "square":
            changes = changes.square()
        else:
            changes = -changes
        self._add(to_float64(changes).sum(0), len(changes))


def _check(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        msg = f"{option} is {value!r}; choose one of {', '.join(allowed)}"
        raise ConfigError(msg)
