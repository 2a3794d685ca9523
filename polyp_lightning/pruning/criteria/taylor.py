"""TaylorFO: the first-order change when a component is removed, with gradient normalisation."""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from polyp_lightning.errors import ConfigError, PruningError
from polyp_lightning.pruning.scores import EPSILON

Reduction = Literal["abs", "square", "signed"]


class TaylorFO:
    """Mean over images of the first-order change of the loss when a component is removed.

    With s[n, c] as in :mod:`polyp_lightning.pruning.scores` and y the network's output, the importance of component c
    is

    - ``abs``: I_c = 1/M Σ_n abs(ŝ[n, c])  (the default),
    - ``square``: I_c = 1/M Σ_n ŝ[n, c]²,
    - ``signed``: I_c = −1/M Σ_n ŝ[n, c], the predicted *increase* of the loss, where components whose removal would
      lower it come first,

    where ŝ[n, c] = s[n, c] / (‖∂L/∂y_n‖₂ + ε) if ``normalise``, else s[n, c]. Normalising makes a well-fitted image
    count as much as a hard one: "gradient-normalised back-propagation" of Sapkota et al., MIUA 2023
    (doi:10.1007/978-3-031-48593-0_22); the formulas of the reductions are those of arXiv:2310.20203. Dividing the
    score is the same as scaling the gradient before it is propagated where images do not mix (batch norm in eval
    mode), and differs from it slightly in training mode, where this runs. A normalised score is free
    of the factor 1/N of a mean loss and of that of a gradient scaler.

    Args:
        size: number of components, the frozen one included.
        reduction: ``abs``, ``square`` or ``signed``.
        normalise: divide by the norm of the gradient at the output.
    """

    def __init__(self, size: int, reduction: Reduction = "abs", *, normalise: bool = True) -> None:
        if reduction not in get_args(Reduction):
            msg = f"--pruning.reduction is {reduction!r}; choose one of {', '.join(get_args(Reduction))}"
            raise ConfigError(msg)
        self.reduction = reduction
        self.normalise = normalise
        self.total = torch.zeros(size, dtype=torch.float64)
        self.images = 0

    def update(self, s: Tensor, norm: Tensor) -> None:
        """Add a batch.

        Args:
            s: (N, size), first-order changes.
            norm: (N,), gradient norms at the output. A batch with a number that is not finite is left out: its
                optimizer step is skipped as well.
        """
        if self.normalise:
            s = s / (norm[:, None] + EPSILON)
        if self.reduction == "abs":
            s = s.abs()
        elif self.reduction == "square":
            s = s.square()
        else:
            s = -s
        batch = s.sum(0, dtype=torch.float64).cpu()
        if torch.isfinite(batch).all():
            self.total += batch
            self.images += len(s)

    def importance(self) -> npt.NDArray[np.float64]:
        """One importance per component, shape (size,).

        Raises:
            PruningError: no image was scored.
        """
        if self.images == 0:
            msg = "no image was scored before the cut: every batch was skipped or gave gradients that are not finite"
            raise PruningError(msg)
        return np.asarray((self.total / self.images).numpy(), np.float64)

    def reset(self, size: int) -> None:
        """Start again, for a network with ``size`` components."""
        self.total = torch.zeros(size, dtype=torch.float64)
        self.images = 0

    def state_dict(self) -> dict[str, Any]:
        """Sum and count as tensors and ints."""
        return {"total": self.total, "images": self.images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        self.total, self.images = state["total"].clone(), int(state["images"])
