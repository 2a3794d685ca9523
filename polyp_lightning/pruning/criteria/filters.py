"""What data-free criteria share: the filters that make a component, and how several of them become one number.

A component may be made by several layers (a residual stream by every convolution that adds to it; an expanded channel
by its expansion and its depthwise convolution), and by several filters of one layer (the channels of one group of a
group norm). Each filter gets its number; a component's is the **mean over its filters** of a layer, then the **mean
over the layers** that make it. Where layers are compared with each other, the result is divided by the mean of its
group of coupled layers: weights of different layers differ in scale for reasons that are none of importance (fan-in, a
batch norm behind them). Mean over the coupled layers and division by the group's mean are the defaults of DepGraph
(Fang et al., CVPR 2023, arXiv:2301.12900). Within a group all components are made by the same layers, so that sum and
mean rank alike.

Components that a criterion cannot see are **never removed before those it sees**: all get the same importance, above
every other.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.criteria.base import Importance
from polyp_lightning.pruning.graph import ChannelGraph
from polyp_lightning.pruning.labels import FROZEN, Atoms

Layer = nn.modules.conv._ConvNd | nn.Linear
Values = npt.NDArray[np.float64]


class Filters(NamedTuple):
    """The filters of one convolution or linear layer.

    Attributes:
        weight: the weight's name.
        matrix: (filters, weights of one filter).
        components: the component of each filter, 0 where it is frozen.
    """

    weight: str
    matrix: Values
    components: Atoms


def filters(net: nn.Module, graph: ChannelGraph) -> Iterator[Filters]:
    """The filters of the layers that make components."""
    for module, name, dim in makers(net, graph):
        weight: Tensor = module.weight.detach().to("cpu", torch.float64)
        yield Filters(name, weight.movedim(dim, 0).flatten(1).numpy(), graph.axes[name][dim])


def makers(net: nn.Module, graph: ChannelGraph) -> Iterator[tuple[Layer, str, int]]:
    """Layers that make components, with the weight's name and the dimension along which it makes them.

    Depthwise and transposed convolutions are among them.
    """
    for module_name, module in net.named_modules():
        name = f"{module_name}.weight"
        if isinstance(module, Layer) and (dim := made(graph, name)) is not None:
            yield module, name, dim


def made(graph: ChannelGraph, name: str) -> int | None:
    """The dimension of a parameter along which components are made, not read; None where there is none.

    A weight that two layers share goes by the name of the first.
    """
    axes, consumed = graph.axes.get(name, ()), graph.consumed.get(name, ())
    dims = (d for d, (axis, read) in enumerate(zip(axes, consumed, strict=True)) if not read and (axis != FROZEN).any())
    return next(dims, None)


def made_along(graph: ChannelGraph, places: Iterable[tuple[str, int]]) -> npt.NDArray[np.bool_]:
    """Which components are made along the given dimensions of parameters, (size,)."""
    seen = graph.nothing()
    for name, dim in places:
        seen[graph.axes[name][dim]] = True
    seen[FROZEN] = False
    return seen


def mean_per_component(layers: Iterator[tuple[Atoms, Values]], size: int) -> tuple[Importance, npt.NDArray[np.bool_]]:
    """Mean over filters, then over layers.

    Args:
        layers: of each layer, the component and the number of each filter.
        size: number of components.

    Returns:
        The means, 0 where there is none, and where there is one.
    """
    total, count = np.zeros(size), np.zeros(size)
    for components, values in layers:
        filters_here = np.bincount(components, minlength=size)
        here = filters_here > 0
        total[here] += np.bincount(components, values, size)[here] / filters_here[here]
        count += here
    seen = count > 0
    seen[FROZEN] = False
    return np.divide(total, count, out=np.zeros(size), where=seen), seen


def per_layer(importance: Importance, seen: npt.NDArray[np.bool_], graph: ChannelGraph) -> Importance:
    """Divides by the mean of each group of coupled layers, which is then 1; a group of zeros stays."""
    result = importance.copy()
    for group in graph.groups:
        members = group.components[seen[group.components]]
        if len(members) and (mean := importance[members].mean()) > 0:
            result[members] /= mean
    return result


def unseen_last(importance: Importance, seen: npt.NDArray[np.bool_], criterion: str) -> Importance:
    """Puts the components that a criterion cannot see above all that it sees.

    Raises:
        PruningError: it sees none.
    """
    if not seen[1:].any():
        msg = f"criterion {criterion!r} finds nothing to judge in this network; choose another (--pruning.criterion)"
        raise PruningError(msg)
    # Finite, because selections add and interpolate importances; 1 more than the highest is above it even if that is 0.
    return np.where(seen, importance, importance[seen].max() + 1.0)


def judged(net: nn.Module, graph: ChannelGraph, criterion: str, number: Callable[[Values], Values]) -> Importance:
    """The importance by a number for each filter of a layer, normalised per layer.

    Args:
        net: the network.
        graph: its graph.
        criterion: its name, for errors.
        number: from (filters, weights) to (filters,).
    """
    layers = ((layer.components, number(layer.matrix)) for layer in filters(net, graph))
    importance, seen = mean_per_component(layers, graph.size)
    return unseen_last(per_layer(importance, seen, graph), seen, criterion)
