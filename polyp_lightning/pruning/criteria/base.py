"""What every criterion does, whether it watches training steps, runs passes of its own or needs no data."""

# ruff: noqa: B027  nothing to do is the right default: each criterion overrides what it needs.

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.compiled import run_uncompiled
from polyp_lightning.pruning.graph import ChannelGraph

Importance = npt.NDArray[np.float64]
"""One number per component, (graph.size,): the higher, the more important. Entry 0, the frozen component, is unused."""

Inputs = Tensor | Callable[[nn.Module], Any]
"""What a network takes, (N, C, H, W); or a function that runs the network and returns its output."""

Batches = Iterable[tuple[Inputs, Tensor]]
"""Network inputs, with their masks."""

Loss = Callable[[Any, Tensor], Tensor]
"""Loss of the network's output and the masks, a scalar."""


class Criterion(ABC):
    """Finds how important each component of a network is.

    A data-free criterion only implements :meth:`importance`. One that gathers does so either while it is attached, from
    the training's own backward passes (:attr:`rides_along`), or in :meth:`gather`, from passes of its own:

    - training: ``attach`` → training steps → ``detach`` → ``importance`` → cut → ``reset``;
    - one-shot, or if it does not ride along: ``gather`` → ``importance``.

    Attributes:
        name: what it is called on the command line.
        needs_loss: whether :meth:`gather` asks for the loss.
        loss_scale: what the loss is multiplied with before a backward pass that it watches, and all gradients with it
            (a gradient scaler's factor); importances are free of it.
    """

    name: ClassVar[str]
    needs_loss: ClassVar[bool] = False
    loss_scale: float = 1.0

    @property
    def rides_along(self) -> bool:
        """Whether it gathers from ordinary training steps; if not, :meth:`attach` does nothing."""
        return False

    @property
    def has_passes(self) -> bool:
        """Whether it needs :meth:`gather` before :meth:`importance` in a training."""
        return not self.rides_along and type(self).gather is not Criterion.gather

    def attach(self, net: nn.Module, graph: ChannelGraph) -> None:
        """Begins to watch the network's backward passes; keeps what was gathered on a graph of the same size."""

    def detach(self) -> None:
        """Stops watching and leaves no hook behind; may be called at any time."""

    def gather(self, net: nn.Module, graph: ChannelGraph, batches: Batches, loss: Loss) -> None:
        """Runs the passes that the criterion needs, with the network in the mode that it is in.

        Parameters and their ``.grad`` are afterwards as they were. Data-free criteria don't touch ``batches``.

        Args:
            net: the network that was traced.
            graph: its graph.
            batches: a few of them.
            loss: of output and masks.
        """

    @abstractmethod
    def importance(self, net: nn.Module, graph: ChannelGraph) -> Importance:
        """Returns the importance of every component.

        Raises:
            PruningError: nothing was gathered, or the criterion sees no component of this network.
        """

    def reset(self, size: int) -> None:
        """Forgets what was gathered and goes on with a graph of ``size`` components."""

    def clear(self) -> None:
        """Forgets what was gathered and goes on with a graph of the same size."""

    def keep(self) -> None:
        """Makes what was gathered until now count."""

    def take_back(self) -> None:
        """Forgets what was gathered since the last :meth:`keep`."""

    def reduce(self, all_reduce_sum: Callable[[Tensor], Tensor]) -> None:
        """Adds up what the processes of a distributed training gathered; once, before :meth:`importance`.

        Args:
            all_reduce_sum: takes a float64 CPU tensor of the same shape in every process and returns the sum over all.
        """

    def state_dict(self) -> dict[str, Any]:
        """Returns what was gathered, as plain values and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned."""


class MeanCriterion(Criterion):
    """A criterion that is a mean over what was gathered.

    Sums stay on the device that they were made on. Reading one waits for the device, which would make every step that
    is watched as slow as the launches of its kernels; so they are read before a cut and for a checkpoint only.

    Attributes:
        counted: what :attr:`count` counts, in the plural.
    """

    counted: ClassVar[str] = "images"

    def __init__(self) -> None:
        self.reset(1)

    @property
    def total(self) -> Tensor:
        """The sum of what was gathered: (size,), float64, on the CPU."""
        return self._total.cpu()

    @property
    def count(self) -> int:
        """Over how many."""
        return int(self._count)

    def _set(self, total: Tensor, count: int) -> None:
        self._total, self._count = total, torch.tensor(count)

    def _add(self, batch: Tensor, count: int) -> None:
        """Adds a batch's sum (size,); leaves out one that is not finite: its optimizer step is skipped as well."""
        batch = to_float64(batch.detach())
        finite = batch.isfinite().all()
        # Not in place: what was kept stays what it was.
        self._total = self._total.to(batch.device) + batch.masked_fill(~finite, 0)
        self._count = self._count.to(batch.device) + count * finite

    def importance(self, net: nn.Module, graph: ChannelGraph) -> Importance:
        """Returns the mean of what was gathered.

        Raises:
            PruningError: nothing was gathered, or on another graph.
        """
        total, count = self.total, self.count
        if count == 0:
            msg = (
                f"criterion {self.name!r} saw no {self.counted}: there was no batch, or every batch was skipped or "
                "gave numbers that are not finite"
            )
            raise PruningError(msg)
        if len(total) != graph.size:
            msg = f"{len(total)} components were watched, but the network has {graph.size}: gather again"
            raise PruningError(msg)
        return np.asarray((total / count).numpy(), np.float64)

    def reset(self, size: int) -> None:
        """Forgets what was gathered and goes on with a graph of ``size`` components."""
        self._set(torch.zeros(size, dtype=torch.float64), 0)
        self.keep()

    def clear(self) -> None:
        """Forgets what was gathered and goes on with a graph of the same size."""
        self.reset(len(self._total))

    def keep(self) -> None:
        """Makes what was gathered until now count."""
        self._kept = self._total, self._count

    def take_back(self) -> None:
        """Forgets what was gathered since the last :meth:`keep`."""
        self._total, self._count = self._kept

    def reduce(self, all_reduce_sum: Callable[[Tensor], Tensor]) -> None:
        """Adds up sums and counts of all processes, in one call."""
        total = self.total
        summed = all_reduce_sum(torch.cat([total, total.new_tensor([self.count])]))
        self._set(summed[:-1].clone(), round(float(summed[-1])))

    def state_dict(self) -> dict[str, Any]:
        """Returns sum and count as tensor and int."""
        return {"total": self.total, self.counted: self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state_dict` returned.

        Raises:
            ValueError: these are not sums and a count.
        """
        total, count = state["total"].clone(), int(state[self.counted])
        if total.ndim != 1 or total.dtype != torch.float64 or not total.isfinite().all() or count < 0:
            msg = f"sums of shape {tuple(total.shape)} and type {total.dtype} over {count} {self.counted}"
            raise ValueError(msg)
        self._set(total, count)
        self.keep()


class WatchingCriterion(MeanCriterion):
    """A mean over what hooks see of backward passes: subclasses implement :meth:`_watch`, whose hooks ``_add``."""

    def __init__(self) -> None:
        super().__init__()
        self._unwatch: list[Callable[[], None]] = []

    @property
    def rides_along(self) -> bool:
        """Always: ordinary training steps are enough."""
        return True

    @abstractmethod
    def _watch(self, net: nn.Module, graph: ChannelGraph) -> Callable[[], None]:
        """Attaches hooks and returns what removes them."""

    def attach(self, net: nn.Module, graph: ChannelGraph) -> None:
        """Begins to watch the network's backward passes; keeps what was gathered on a graph of the same size."""
        self.detach()
        if len(self._total) != graph.size:
            self.reset(graph.size)
        self._unwatch = [self._watch(net, graph), run_uncompiled(net)]

    def detach(self) -> None:
        """Stops watching and leaves no hook behind; may be called at any time."""
        for undo in self._unwatch:
            undo()
        self._unwatch = []

    def gather(self, net: nn.Module, graph: ChannelGraph, batches: Batches, loss: Loss) -> None:
        """Runs one forward and backward pass for each batch."""
        self.attach(net, graph)
        try:
            with keep_gradients(net), torch.enable_grad():
                for images, masks in batches:
                    self._backward(run(net, images), masks, loss)
        finally:
            self.detach()

    def _backward(self, output: Any, masks: Tensor, loss: Loss) -> None:
        loss(output, masks).backward()


def to_float64(tensor: Tensor) -> Tensor:
    """Widens to float64, where the tensor is; on the CPU if its device has no such type (Apple's)."""
    return (tensor.cpu() if tensor.is_mps else tensor).double()


def run(net: nn.Module, inputs: Inputs) -> Any:
    """The network's output."""
    return net(inputs) if isinstance(inputs, Tensor) else inputs(net)


@contextmanager
def keep_gradients(net: nn.Module) -> Iterator[None]:
    """Sets parameters' ``.grad`` to None inside, and afterwards back to what it was."""
    gradients = [(parameter, parameter.grad) for parameter in net.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient
