"""From a network to its :class:`~polyp_lightning.pruning.graph.ChannelGraph`."""

import copy
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from polyp_lightning.errors import PruningError
from polyp_lightning.pruning import rules  # noqa: F401  registers what operations do to labels
from polyp_lightning.pruning.graph import ChannelGraph, Consumer, Group, MacTerm
from polyp_lightning.pruning.labels import FROZEN, Atoms
from polyp_lightning.pruning.surgery import cut
from polyp_lightning.pruning.tracer import Trace, run_traced


def trace(net: nn.Module, input_shape: Sequence[int]) -> ChannelGraph:
    """Find which channels of a network can be removed, and what must go with them.

    One forward pass on fake tensors: nothing is computed and ``net`` is not touched. Sizes that are constants in the
    net's code (``x.view(n, 64, -1)``) cannot be seen by a trace; a trial cut on the fake copy finds them, and what
    they concern is frozen.

    Args:
        net: any module that runs; whatever it does that is not understood is frozen, never cut wrongly.
        input_shape: (N, C, H, W) with N ≥ 2 (with one image a view could merge batch and channels unseen). The size
            sets the MACs; which channels go together does not depend on it.

    Returns:
        The coupled channels, with their cost for one image.

    Raises:
        PruningError: the net does not run on this shape.
    """
    if len(input_shape) < 2 or input_shape[0] < 2:
        msg = f"input_shape is {tuple(input_shape)}; give (N, C, H, W) with N of at least 2"
        raise PruningError(msg)
    record = _run(net, input_shape)
    graph = _assemble(record, net)
    if not _trial_cut_runs(net, graph, record, input_shape):
        record = _run(net, input_shape, freeze_viewed=True)
        graph = _assemble(record, net)
        if not _trial_cut_runs(net, graph, record, input_shape):
            msg = "the network does not run once a channel of each layer is removed, for a reason the trace cannot see"
            raise PruningError(msg)
    return graph


def _fake_mode() -> FakeTensorMode:
    return FakeTensorMode(allow_non_fake_inputs=True)


def _fake_copy(net: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy in eval mode whose parameters and buffers are fake CPU tensors, whatever the device of the original."""
    memo: dict[int, object] = {}
    with mode:
        for tensor in itertools.chain(net.parameters(), net.buffers()):
            fake = torch.empty(tensor.shape, dtype=tensor.dtype)
            is_parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(fake, requires_grad=False) if is_parameter else fake
    return copy.deepcopy(net, memo).eval()


def _example(net: nn.Module, shape: Sequence[int]) -> Tensor:
    return torch.empty(tuple(shape), dtype=next(net.parameters()).dtype)


def _run(net: nn.Module, shape: Sequence[int], *, freeze_viewed: bool = False) -> Trace:
    mode = _fake_mode()
    fake = _fake_copy(net, mode)
    try:
        with mode, sdpa_kernel(SDPBackend.MATH):
            record = run_traced(fake, (_example(fake, shape),))
    except Exception as error:
        msg = f"the network does not run on an input of shape {tuple(shape)}: {error}"
        raise PruningError(msg) from error
    if freeze_viewed:
        record.ties.freeze(*record.viewed)
    return record


def _trial_cut_runs(net: nn.Module, graph: ChannelGraph, record: Trace, shape: Sequence[int]) -> bool:
    """Whether a fake copy does the same after one component of each group has gone: it runs, on the shapes expected."""
    removed = graph.nothing()
    for group in graph.groups:
        if len(group.components) > 1:
            removed[group.components[0]] = True
    mode = _fake_mode()
    fake = _fake_copy(net, mode)
    try:
        with torch.no_grad(), mode, sdpa_kernel(SDPBackend.MATH):
            cut(fake, graph, removed)
            again = run_traced(fake, (_example(fake, shape),))
    except Exception:
        return False
    component = record.ties.components()
    kept = [
        (name, tuple(s if isinstance(s, int) else int((~removed[component[s]]).sum()) for s in sizes))
        for name, sizes in record.shapes
    ]
    got = [(name, tuple(s if isinstance(s, int) else len(s) for s in sizes)) for name, sizes in again.shapes]
    return got == kept


def _assemble(record: Trace, net: nn.Module) -> ChannelGraph:
    component = record.ties.components()
    axes = {name: tuple(component[a] for a in dims) for name, dims in record.parameters.items()}
    is_consumed = np.zeros(record.ties.count, bool)
    for atoms in record.consumed:
        is_consumed[atoms] = True
    consumed = {name: tuple(bool(is_consumed[a].all()) for a in dims) for name, dims in record.parameters.items()}
    return ChannelGraph(
        axes=axes,
        consumed=consumed,
        consumers=_consumers(record, component),
        grouped={name: component[a] for name, a in record.grouped.items()},
        macs=tuple(MacTerm(tuple(component[a] for a in m.axes), m.per_unit) for m in record.macs),
        groups=_groups(axes, consumed),
        size=int(component.max()) + 1,
        executed=frozenset(record.executed),
        not_understood=dict(record.not_understood),
        buffers=frozenset(name for name, _ in net.named_buffers()),
    )


def _consumers(record: Trace, component: Atoms) -> tuple[Consumer, ...]:
    found = (Consumer(name, component[atoms]) for name, atoms in record.consumers.items())
    return tuple(c for c in found if (c.channels != FROZEN).any())


def _groups(axes: dict[str, tuple[Atoms, ...]], consumed: dict[str, tuple[bool, ...]]) -> tuple[Group, ...]:
    touched: dict[int, list[tuple[str, int]]] = {}
    for name, dims in axes.items():
        for dim, components in enumerate(dims):
            for c in np.unique(components):
                if c != FROZEN:
                    touched.setdefault(int(c), []).append((name, dim))
    by_signature: dict[tuple[tuple[str, int], ...], list[int]] = {}
    for c, where in touched.items():
        by_signature.setdefault(tuple(where), []).append(c)
    named: dict[str, Atoms] = {}
    for signature, members in by_signature.items():
        name = _producer(signature, consumed)
        # Filters of one layer that go different ways are groups of their own.
        taken = sum(other.partition("#")[0] == name for other in named)
        named[f"{name}#{taken + 1}" if taken else name] = np.array(sorted(members), np.int64)
    return tuple(Group(name, members) for name, members in named.items())


def _producer(signature: tuple[tuple[str, int], ...], consumed: dict[str, tuple[bool, ...]]) -> str:
    makers = [name for name, dim in signature if name.endswith("weight") and not consumed[name][dim]]
    return (makers or [signature[0][0]])[0].rpartition(".")[0]
