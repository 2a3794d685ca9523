"""From a trace's atoms to the components, groups and consumers of a graph."""

import itertools
from collections import Counter

import numpy as np
import numpy.typing as npt
from torch import nn

from polyp_lightning.pruning.example import Example
from polyp_lightning.pruning.graph import ChannelGraph, Consumer, FrozenLayer, Group, MacTerm, ModuleSize
from polyp_lightning.pruning.labels import FROZEN, Atoms, Cause
from polyp_lightning.pruning.tracing.recording import Trace

Axes = dict[str, tuple[Atoms, ...]]
Consumed = dict[str, tuple[bool, ...]]


def assemble(record: Trace, net: nn.Module, example: Example) -> tuple[ChannelGraph, Atoms]:
    """The graph, and the component of every atom."""
    component = record.ties.components()
    axes = {name: tuple(component[a] for a in dims) for name, dims in record.parameters.items()}
    is_consumed = np.zeros(record.ties.count, bool)
    for atoms in record.consumed:
        is_consumed[atoms] = True
    consumed = {name: tuple(bool(is_consumed[a].all()) for a in dims) for name, dims in record.parameters.items()}
    inference, *training = record.passes
    reached = set(inference.executed).union(*(p.executed for p in training))
    # Where training mode does not run, what it would use is not known.
    dead = _dead(net, reached) if record.training_known else ()
    parameters = dict(net.named_parameters())
    graph = ChannelGraph(
        axes=axes,
        consumed=consumed,
        consumers=_consumers(record, component, axes, consumed),
        grouped={name: component[a] for name, a in record.grouped.items()},
        macs=tuple(MacTerm(tuple(component[a] for a in m.axes), m.per_unit) for m in inference.macs),
        groups=_groups(axes, consumed),
        size=int(component.max()) + 1,
        executed=frozenset(inference.executed),
        not_understood=dict(record.not_understood),
        buffers=frozenset(name for name, _ in net.named_buffers()),
        silenced=frozenset(record.silenced),
        sizes=_sizes(record, component),
        training_only=frozenset(reached - inference.executed),
        dead=dead,
        dead_parameters=sum(parameters[name].numel() for name in dead if name in parameters),
        example=example,
    )
    return graph, component


def _dead(net: nn.Module, reached: set[str]) -> tuple[str, ...]:
    """Tensors of modules of which no pass reached any; a counter goes with what it counts."""
    tensors = dict(itertools.chain(net.named_parameters(), net.named_buffers()))
    owners = [name.rpartition(".")[0] for name in tensors]
    alive = {owner for owner, name in zip(owners, tensors, strict=True) if name in reached}
    # A module that holds scalars alone may be a learned factor, which is not followed.
    followed = {owner for owner, tensor in zip(owners, tensors.values(), strict=True) if tensor.ndim}
    return tuple(n for owner, n in zip(owners, tensors, strict=True) if owner in followed and owner not in alive)


def _sizes(record: Trace, component: Atoms) -> tuple[ModuleSize, ...]:
    found = {(r.module, r.attribute): component[r.atoms] for r in record.size_records}
    return tuple(ModuleSize(*place, atoms) for place, atoms in found.items() if (atoms != FROZEN).any())


def _consumers(record: Trace, component: Atoms, axes: Axes, consumed: Consumed) -> tuple[Consumer, ...]:
    found = [Consumer(name, component[atoms]) for name, atoms in record.consumers.items()]
    for layer, products in record.outputs.items():
        name = f"{layer}.weight"
        if name in axes:
            # The side of the weight that makes: the first dimension, and the second of a transposed convolution.
            made = axes[name][0] if not consumed[name][0] else axes[name][1]
            read = component[np.concatenate(products)]
            found.append(Consumer(name, np.where(np.isin(made, read), made, FROZEN), "output"))
    return tuple(c for c in found if (c.channels != FROZEN).any())


def _groups(axes: Axes, consumed: Consumed) -> tuple[Group, ...]:
    places = [(name, dim) for name, dims in axes.items() for dim in range(len(dims))]
    if not places:
        return ()
    sizes = [len(axes[name][dim]) for name, dim in places]
    components = np.concatenate([axes[name][dim] for name, dim in places])
    # Which components touch which places, each pair once, in the order of components and then of places.
    pairs = components * len(places) + np.repeat(np.arange(len(places)), sizes)
    pairs = np.sort(pairs[components != FROZEN])
    pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=-1))]  # np.unique takes several times as long
    if not len(pairs):
        return ()
    owner, place = np.divmod(pairs, len(places))
    starts = np.flatnonzero(np.r_[True, owner[1:] != owner[:-1]])
    ends = np.r_[starts[1:], len(owner)]
    named: list[Group] = []
    taken: Counter[str] = Counter()
    for members in _alike(place, starts):
        first = members[0]
        name = _producer([places[p] for p in place[starts[first] : ends[first]]], consumed)
        taken[name] += 1
        # Filters of one layer that go different ways are groups of their own.
        unique = name if taken[name] == 1 else f"{name}#{taken[name]}"
        named.append(Group(unique, owner[starts[members]]))
    return tuple(named)


def _alike(place: npt.NDArray[np.int64], starts: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    """Positions of components that touch the same places, ordered by the first place and the first component."""
    codes = np.random.default_rng(0).integers(0, 2**63, size=int(place.max()) + 1, dtype=np.uint64)
    signature = np.add.reduceat(codes[place], starts)  # wraps around: a hash of the set of places
    _, label = np.unique(signature, return_inverse=True)
    order = np.argsort(label, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return sorted(parts, key=lambda part: (place[starts[part[0]]], part[0]))


def _producer(signature: list[tuple[str, int]], consumed: Consumed) -> str:
    makers = [name for name, dim in signature if name.endswith("weight") and not consumed[name][dim]]
    return (makers or [signature[0][0]])[0].rpartition(".")[0]


def frozen_layers(record: Trace, net: nn.Module, graph: ChannelGraph) -> tuple[FrozenLayer, ...]:
    """The convolutions and linear layers that run and have filters that no removal takes, with the reason for most."""
    stuck: dict[str, tuple[Atoms, Atoms, int]] = {}
    for layer, module in net.named_modules():
        name = f"{layer}.weight" if layer else "weight"
        if name not in graph.executed or not isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            continue
        # Of a grouped transposed convolution the filters lie along the first dimension, in groups.
        side = int(isinstance(module, nn.modules.conv._ConvTransposeNd) and module.groups == 1)
        component = graph.axes[name][side]
        stays = graph.stays[component]
        if stays.any() and len(stays) > 1:
            stuck[layer] = record.parameters[name][side][stays], component[stays], len(stays)
    if not stuck:
        return ()
    causes = iter(record.ties.causes_of(np.concatenate([atoms for atoms, _, _ in stuck.values()])))
    found = []
    for layer, (atoms, components, filters) in stuck.items():
        one_by_one = zip(components, itertools.islice(causes, len(atoms)), strict=True)
        reasons = Counter(cause or (_BESIDE if own == FROZEN else _TOGETHER) for own, cause in one_by_one)
        found.append(FrozenLayer(layer, len(atoms), filters, reasons.most_common(1)[0][0]))
    return tuple(found)


_TOGETHER = Cause("all channels of a layer go together")
_BESIDE = Cause("a concatenation or padding with channels that stay")
