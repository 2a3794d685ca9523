"""TaylorFO per filter, read literally: activation times gradient on each layer's own output."""

from collections.abc import Callable
from functools import partial
from itertools import chain, islice
from typing import Any, ClassVar
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from polyp_lightning.pruning.criteria.base import Batches, Importance, Loss, WatchingCriterion, to_float64
from polyp_lightning.pruning.criteria.filters import components_along, makers, put_unseen_last
from polyp_lightning.pruning.criteria.taylor_hooks import EPSILON, LayerChanges, contract
from polyp_lightning.pruning.graph import ChannelGraph


class TaylorFilter(WatchingCriterion):
    """Mean over images of abs(1/P Σ_space z · ∂L/∂z), z a filter's output at P positions, before norm and activation.

    "Pruning Convolutional Neural Networks for Resource Efficient Inference", Molchanov et al., ICLR 2017
    (arXiv:1611.06440), equation 8; with ``layer_norm`` each layer's values are divided by their L2 norm over the layer,
    as there. A component made by several layers gets the sum over them. Kept for comparison: it is *not* the change of
    the loss in networks with residual streams, concatenations, or a batch norm behind a convolution (whose scale then
    has no gradient); :class:`~polyp_lightning.pruning.criteria.taylor.TaylorFO` is.

    Components that no convolution or linear layer makes come last.

    Args:
        layer_norm: divide by the L2 norm over the layer, to compare layers.
    """

    name: ClassVar[str] = "taylor_filter"

    def __init__(self, layer_norm: bool = True) -> None:
        super().__init__()
        self.layer_norm = layer_norm
        self._overwritten: WeakSet[nn.Module] = WeakSet()

    def _watch(self, net: nn.Module, graph: ChannelGraph) -> Callable[[], None]:
        hooks = self._hooks(net, graph)
        hooks.attach()
        return hooks.detach

    def _hooks(self, net: nn.Module, graph: ChannelGraph) -> LayerChanges:
        def add(changes: Tensor, norm: Tensor) -> None:
            self._add(to_float64(changes).sum(0) / self.loss_scale, len(changes))

        return FilterChanges(net, graph, add, self._overwritten)

    def gather(self, net: nn.Module, graph: ChannelGraph, batches: Batches, loss: Loss) -> None:
        """Runs a forward and backward pass per batch; one more forward pass shows which outputs are overwritten."""
        remaining = iter(batches)
        first = list(islice(remaining, 1))
        with self._hooks(net, graph), torch.enable_grad():
            for images, _ in first:
                net(images)
        super().gather(net, graph, chain(first, remaining), loss)

    def importance(self, net: nn.Module, graph: ChannelGraph) -> Importance:
        """Returns the mean, normalised per layer if asked for."""
        mean = super().importance(net, graph)
        seen = components_along(graph, ((name, dim) for _, name, dim in makers(net, graph)))
        return put_unseen_last(divide_by_group_l2(mean, graph) if self.layer_norm else mean, seen, self.name)


def divide_by_group_l2(importance: Importance, graph: ChannelGraph) -> Importance:
    """Divides by the L2 norm over each group of coupled layers."""
    result = importance.copy()
    for group in graph.groups:
        result[group.components] /= np.linalg.norm(importance[group.components]) + EPSILON
    return result


class FilterChanges(LayerChanges):
    """:class:`LayerChanges` of abs(mean over space of z · ∂L/∂z), summed over layers.

    An activation that works in place overwrites z. Batch norm keeps z as it is, and z is held without a copy;
    a layer whose output is seen to be overwritten gets one from the next forward pass on, and the pass in which that is
    seen adds nothing.

    Args:
        net: the network that was traced.
        graph: its graph.
        on_changes: takes changes and norms.
        overwritten: layers whose outputs need a copy; grows.
    """

    def __init__(
        self,
        net: nn.Module,
        graph: ChannelGraph,
        on_changes: Callable[[Tensor, Tensor], None],
        overwritten: WeakSet[nn.Module],
    ) -> None:
        super().__init__(net, graph, on_changes)
        self._overwritten = overwritten
        self._versions: list[tuple[nn.Module, Tensor, int]] = []

    def _watch_layers(self) -> list[RemovableHandle]:
        handles = []
        for module, name, dim in makers(self._net, self._graph):
            channels = torch.as_tensor(self._graph.axes[name][dim], device=module.weight.device)
            handles.append(module.register_forward_hook(partial(self._see, channels)))
        return handles

    def _begin_forward(self, net: nn.Module, args: tuple[Any, ...]) -> None:
        self._versions.clear()
        super()._begin_forward(net, args)

    def _end_forward(self, net: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
        overwritten = [module for module, z, version in self._versions if z._version != version]
        self._versions.clear()
        self._overwritten.update(overwritten)
        if overwritten and self._forward is not None:
            self._forward.spoiled = True
        return super()._end_forward(net, args, out)

    def _see(self, channels: Tensor, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
        now = self._current()
        if now is None or not out.requires_grad:
            return
        channel_dim = -1 if isinstance(module, nn.Linear) else 1
        z = out.detach().clone() if module in self._overwritten else out.detach()
        held = [z]
        if self._forward is not None:
            self._versions.append((module, z, z._version))

        def add(gradient: Tensor) -> None:
            if held:
                now.add(mean_product(held.pop(), gradient, channel_dim), channels)

        out.register_hook(add)


def mean_product(z: Tensor, gradient: Tensor, channel_dim: int) -> Tensor:
    """Returns abs(1/P Σ_space z · gradient): (N, C)."""
    positions = z.numel() // (len(z) * z.shape[channel_dim])
    return contract(z, gradient, channel_dim).abs() / positions
