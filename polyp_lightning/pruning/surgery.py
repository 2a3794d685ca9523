"""Removing channels from a network, or masking them, in place."""

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from polyp_lightning.common.errors import PruningError, join_names
from polyp_lightning.pruning.fake_copy import runs
from polyp_lightning.pruning.graph import ChannelGraph, Removed

Cut = dict[str, dict[int, npt.NDArray[np.intp]]]
"""Per tensor that shrank, per dimension, the indices that were kept."""


def remove(net: nn.Module, graph: ChannelGraph, removed: Removed) -> Cut:
    """Remove channels for good: every parameter and buffer they touch becomes smaller.

    The parameters stay the same objects, so that an optimizer, its groups and weight averages keep pointing at them;
    their gradients are dropped. An optimizer's state has to be cut likewise, see
    :func:`~polyp_lightning.pruning.optimizer_state.cut_optimizer_state`, and the graph is stale afterwards: trace
    again.

    Args:
        net: the network that was traced.
        graph: what :func:`~polyp_lightning.pruning.tracing.trace.trace` returned for it.
        removed: one flag per component.

    Returns:
        The indices kept, per tensor and dimension.

    Raises:
        PruningError: a layer would be left without a channel, or ``removed`` does not belong to ``graph``.
    """
    if removed.shape != (graph.size,) or removed[0]:
        msg = f"removed has shape {removed.shape}; it needs ({graph.size},) with removed[0] False"
        raise PruningError(msg)
    emptied = graph.emptied(removed)
    if emptied:
        msg = f"the cut would leave no channel in {join_names(emptied)}; keep at least one component of each group"
        raise PruningError(msg)
    return cut(net, graph, removed)


def cut(net: nn.Module, graph: ChannelGraph, removed: Removed) -> Cut:
    """:func:`remove` without its checks, for fake copies."""
    kept = {name: keep for name in graph.axes if (keep := graph.keep(name, removed))}
    tensors = dict(named_tensors(net))
    for name, dims in kept.items():
        _shrink(tensors[name], dims)
    for name, channels in graph.grouped.items():
        layer = net.get_submodule(name.rpartition(".")[0])
        assert isinstance(layer, nn.modules.conv._ConvNd)  # noqa: S101  only these have groups
        # Of a transposed convolution whole groups go, and the channels of one stay as many as they were. A weight that
        # two layers share is named after the first.
        inputs = layer.in_channels // layer.groups if layer.transposed else layer.get_parameter("weight").shape[1]
        layer.groups = int((~removed[channels]).sum()) // inputs
    for size in graph.sizes:
        if removed[size.components].any():
            set_size(net.get_submodule(size.module), size.attribute, int((~removed[size.components]).sum()))
    synchronise(net)
    return kept


def mask(net: nn.Module, graph: ChannelGraph, removed: Removed) -> None:
    """Zero what *produces* the channels and leave every shape alone: the reference for an exact removal.

    The weights that read them are left as they are, so that a channel that were not really zero would still be felt;
    except where it is known not to be zero, behind a sigmoid, say: there it is masked where it is read.
    """
    tensors = dict(named_tensors(net))
    with torch.no_grad():
        for name, axes in graph.axes.items():
            for dim, components in enumerate(axes):
                gone = np.flatnonzero(removed[components])
                if len(gone) and (name in graph.silenced or not graph.consumed[name][dim]):
                    tensors[name].index_fill_(dim, torch.as_tensor(gone, device=tensors[name].device), 0)


def drop_dead(net: nn.Module, graph: ChannelGraph) -> tuple[str, ...]:
    """Drop the parameters and buffers that no forward pass reaches, in either mode; the output stays the same.

    Some encoders own stages that their decoder never asks for. Their tensors become None, so that they are neither
    saved nor exported; ``architecture.describe`` notes it, and a rebuilt network lacks them too.
    Make optimizers afterwards: one that was made before keeps the dropped parameters, and its saved state would not
    fit the rebuilt network.

    Args:
        net: the network that was traced, also if channels were removed since.
        graph: its graph.

    Returns:
        Names of what was dropped.

    Raises:
        PruningError: the network's code asks one of them for its type or size; nothing was changed then.
    """
    tensors = {name: tensor for name, tensor in named_tensors(net) if name in set(graph.dead)}
    for name in tensors:
        drop_tensor(net, name)
    if tensors and not runs(net, graph.example):
        for name, tensor in tensors.items():
            put_tensor(net, name, tensor)
        msg = (
            f"the network's code asks for parameters that it does not use, among {join_names(list(tensors))}; keep them"
        )
        raise PruningError(msg)
    return tuple(tensors)


def drop_tensor(net: nn.Module, name: str) -> None:
    """Put None in the place of a parameter or buffer."""
    put_tensor(net, name, None)


def put_tensor(net: nn.Module, name: str, tensor: Tensor | None) -> None:
    """Put a tensor, or None, in the place of a parameter or buffer."""
    module, _, key = name.rpartition(".")
    owner = net.get_submodule(module)
    setattr(owner, key, tensor)
    if isinstance(owner, nn.modules.batchnorm._BatchNorm) and key == "running_mean":
        # Whoever renews the statistics of all norms asks this first.
        owner.track_running_stats = tensor is not None


_SIZES = "_polyp_sizes"


def set_size(module: nn.Module, attribute: str, value: int) -> None:
    """Change a whole number that a module keeps, and note it for its stored architecture."""
    setattr(module, attribute, value)
    changed: dict[str, int] = getattr(module, _SIZES, {})
    setattr(module, _SIZES, {**changed, attribute: value})


def changed_sizes(net: nn.Module) -> dict[str, dict[str, int]]:
    """By module, the numbers that :func:`set_size` changed."""
    found = ((name, getattr(module, _SIZES, None)) for name, module in net.named_modules())
    return {name: dict(sizes) for name, sizes in found if sizes}


def named_tensors(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers, each once."""
    return itertools.chain(net.named_parameters(), net.named_buffers())


_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def resize(tensor: Tensor, values: Tensor) -> None:
    """Give a parameter or buffer values of another shape; it stays the same object and keeps its memory format."""
    layout = _CHANNELS_LAST.get(tensor.ndim, torch.contiguous_format)
    if tensor.is_contiguous() or not tensor.is_contiguous(memory_format=layout):
        layout = torch.contiguous_format
    tensor.grad = None
    # A parameter's AccumulateGrad node knows its shape, and lives as long as any graph that used the parameter: that of
    # a stored loss, say. Setting ``.data`` drops the node if type or device change, but not for a new shape
    # (VariableHooks::set_data), and the next backward would fail with "returned an invalid gradient". So the type
    # changes for a moment. The parameter's hooks are its own and stay.
    tensor.data = tensor.new_empty(0, dtype=torch.float16 if tensor.dtype == torch.float32 else torch.float32)
    tensor.data = values.contiguous(memory_format=layout)


def _shrink(tensor: Tensor, dims: dict[int, npt.NDArray[np.intp]]) -> None:
    values = tensor.data
    for dim, keep in dims.items():
        values = values.index_select(dim, torch.as_tensor(keep, device=values.device))
    resize(tensor, values)


def synchronise(net: nn.Module) -> None:
    """Make the sizes that modules remember as numbers agree with their parameters' shapes."""
    for module in net.modules():
        weight = getattr(module, "weight", None)
        if not isinstance(weight, Tensor):
            continue
        if isinstance(module, nn.modules.conv._ConvTransposeNd):
            module.in_channels, module.out_channels = weight.shape[0], weight.shape[1] * module.groups
        elif isinstance(module, nn.modules.conv._ConvNd):
            module.out_channels, module.in_channels = weight.shape[0], weight.shape[1] * module.groups
        elif isinstance(module, nn.Linear):
            module.out_features, module.in_features = weight.shape
        elif isinstance(module, nn.Embedding):
            module.embedding_dim = weight.shape[1]
        elif isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)):
            module.num_features = weight.shape[0]
        elif isinstance(module, nn.GroupNorm):
            # Whole groups go, so the channels of one group stay as many as they were.
            module.num_groups = module.num_groups * weight.shape[0] // module.num_channels
            module.num_channels = weight.shape[0]
