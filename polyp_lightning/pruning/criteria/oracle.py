"""The oracle: the change of the loss, measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from polyp_lightning.common.errors import ConfigError, PruningError
from polyp_lightning.common.modes import evaluation_mode
from polyp_lightning.pruning.criteria.base import Batches, Loss, MeanCriterion, run
from polyp_lightning.pruning.graph import ChannelGraph, Removed
from polyp_lightning.pruning.labels import FROZEN
from polyp_lightning.pruning.surgery import mask, named_tensors

Change = Literal["signed", "abs"]


class Oracle(MeanCriterion):
    """Mean over images of L_n(without c) − L_n(with c), each component removed alone.

    The "oracle" of Molchanov et al., ICLR 2017 (arXiv:1611.06440), who call ``signed`` oracle-loss and ``abs``, the
    mean of its absolute value, oracle-abs. Masking is the same as removal, see
    :mod:`~polyp_lightning.pruning.exactness`. One forward pass for each component and batch: for small networks.
    Runs in evaluation mode whatever mode the network is in: its statistics stay as they are.

    Args:
        change: ``signed`` or ``abs``.
        limit: the most components to measure.
    """

    name: ClassVar[str] = "oracle"
    needs_loss: ClassVar[bool] = True

    def __init__(self, change: Change = "signed", limit: int = 2000) -> None:
        if change not in get_args(Change):
            msg = f"change is {change!r}; choose one of {', '.join(get_args(Change))}"
            raise ConfigError(msg)
        super().__init__()
        self.change = change
        self.limit = limit

    @torch.no_grad()
    def gather(self, net: nn.Module, graph: ChannelGraph, batches: Batches, loss: Loss) -> None:
        """Measures every component on every batch.

        Raises:
            PruningError: there are more components than ``limit``.
        """
        if graph.size - 1 > self.limit:
            msg = (
                f"the oracle would need {graph.size - 1} forward passes for each batch, more than its limit of "
                f"{self.limit}; choose another criterion, a smaller network, or raise limit"
            )
            raise PruningError(msg)
        if len(self.total) != graph.size:
            self.reset(graph.size)
        batches, changes = list(batches), torch.zeros(graph.size, dtype=torch.float64)
        with evaluation_mode(net):
            before = [image_losses(run(net, images), masks, loss) for images, masks in batches]
            for component in range(FROZEN + 1, graph.size):
                removed = graph.nothing()
                removed[component] = True
                with masked(net, graph, removed):
                    after = [image_losses(run(net, images), masks, loss) for images, masks in batches]
                change = torch.cat(after) - torch.cat(before)
                changes[component] = (change.abs() if self.change == "abs" else change).sum()
        self._add(changes, sum(len(masks) for _, masks in batches))


def image_losses(output: Any, masks: Tensor, loss: Loss) -> Tensor:
    """Returns the loss of each image by itself: (N,) float64."""
    return split_loss(output, masks, loss).to("cpu", torch.float64)


def split_loss(output: Any, masks: Tensor, loss: Loss) -> Tensor:
    """Returns the loss of each image by itself, (N,), of a network's output: a tensor, or any tree of them."""

    def item(n: int) -> Any:
        return tree_map(lambda leaf: leaf[n : n + 1] if isinstance(leaf, Tensor) and leaf.ndim else leaf, output)

    return torch.stack([loss(item(n), masks[n : n + 1]) for n in range(len(masks))])


@contextmanager
def masked(net: nn.Module, graph: ChannelGraph, removed: Removed) -> Iterator[None]:
    """Masks components inside, and afterwards puts back what every tensor held."""
    touched = {name for name in graph.axes if graph.keep(name, removed)}
    stored = [(tensor, tensor.detach().clone()) for name, tensor in named_tensors(net) if name in touched]
    try:
        mask(net, graph, removed)
        yield
    finally:
        with torch.no_grad():
            for tensor, values in stored:
                tensor.copy_(values)
