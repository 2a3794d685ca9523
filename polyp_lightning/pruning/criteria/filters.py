"""What data-free criteria share: the filters that make a component, and how several of them become one number.

A component may be made by several layers (a residual stream by every convolution that adds to it; an expanded channel
by its expansion and its depthwise convolution), and by several filters of one layer (the channels of one group of a
group norm). Each filter gets its number; a component's is the **mean over its filters** of a layer, then the **mean
over the layers** that make it. To compare layers with each other, the result is divided by the mean of its group of
coupled layers: weights of different layers differ in scale for reasons that have nothing to do with importance (fan-in,
a batch norm behind them). Mean over the coupled layers and division by the group's mean are the defaults of DepGraph
(Fang et al., CVPR 2023, arXiv:2301.12900). Within a group all components are made by the same layers: sum and mean rank
alike.

Components that a criterion cannot see are **never removed before those it sees**: all get the same importance, above
every other.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from polyp_lightning.common.errors import PruningError
from polyp_lightning.common.options import option
from polyp_lightning.pruning.criteria.base import Importance
from polyp_lightning.pruning.graph import ChannelGraph
from polyp_lightning.pruning.labels import FROZEN, Atoms

Layer = nn.modules.conv._ConvNd | nn.Linear
Values = npt.NDArray[np.float64]


def makers(net: nn.Module, graph: ChannelGraph) -> Iterator[tuple[Layer, str, int]]:
    """Yields the layers that make components, with the weight's name and the dimension along which it makes them.

    Depthwise and transposed convolutions are among them.
    """
    for module_name, module in net.named_modules():
        name = f"{module_name}.weight"
        if isinstance(module, Layer) and (dim := making_dim(graph, name)) is not None:
            yield module, name, dim


def making_dim(graph: ChannelGraph, name: str) -> int | None:
    """Returns the dimension of a parameter along which it makes components; None where there is none.

    A weight that two layers share goes by the name of the first.
    """
    axes, consumed = graph.axes.get(name, ()), graph.consumed.get(name, ())
    dims = (d for d, (axis, read) in enumerate(zip(axes, consumed, strict=True)) if not read and (axis != FROZEN).any())
    return next(dims, None)


def components_along(graph: ChannelGraph, places: Iterable[tuple[str, int]]) -> npt.NDArray[np.bool_]:
    """Returns which components are made along the given dimensions of parameters, (size,)."""
    seen = graph.nothing()
    for name, dim in places:
        seen[graph.axes[name][dim]] = True
    seen[FROZEN] = False
    return seen


def mean_per_component(layers: Iterable[tuple[Atoms, Values]], size: int) -> tuple[Importance, npt.NDArray[np.bool_]]:
    """Takes the mean over filters, then over layers.

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


def divide_by_group_mean(importance: Importance, seen: npt.NDArray[np.bool_], graph: ChannelGraph) -> Importance:
    """Divides by the mean of each group of coupled layers, which is then 1; a group of zeros stays."""
    result = importance.copy()
    for group in graph.groups:
        members = group.components[seen[group.components]]
        if len(members) and (mean := importance[members].mean()) > 0:
            result[members] /= mean
    return result


def put_unseen_last(importance: Importance, seen: npt.NDArray[np.bool_], criterion: str) -> Importance:
    """Puts the components that a criterion cannot see above all that it sees.

    Raises:
        PruningError: it sees none.
    """
    if not seen[1:].any():
        msg = f"criterion {criterion!r} sees no component of this network; choose another {option('pruning.criterion')}"
        raise PruningError(msg)
    # Finite, because selections add and interpolate importances; 1 more than the highest is above it even if that is 0.
    return np.where(seen, importance, importance[seen].max() + 1.0)


def importance_by_filter(
    net: nn.Module, graph: ChannelGraph, criterion: str, number: Callable[[Values], Values]
) -> Importance:
    """Returns the importance by a number for each filter, comparable between layers.

    Args:
        net: the network.
        graph: its graph.
        criterion: its name, for errors.
        number: of each filter of a layer, from (filters, weights of one filter) to (filters,).
    """

    def matrix(weight: Tensor, dim: int) -> Values:
        return np.asarray(weight.detach().to("cpu", torch.float64).movedim(dim, 0).flatten(1).numpy())

    layers = ((graph.axes[name][dim], number(matrix(layer.weight, dim))) for layer, name, dim in makers(net, graph))
    importance, seen = mean_per_component(layers, graph.size)
    return put_unseen_last(divide_by_group_mean(importance, seen, graph), seen, criterion)
