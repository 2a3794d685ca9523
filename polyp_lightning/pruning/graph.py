"""The result of a trace: which filters of a network go together, who reads them, and what they cost."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from polyp_lightning.pruning.example import Example
from polyp_lightning.pruning.labels import FROZEN, Atoms, Cause

Removed = npt.NDArray[np.bool_]
"""One flag per component: True if it is to be removed. ``removed[0]``, the frozen component, is always False."""


@dataclass(frozen=True)
class Consumer:
    """A convolution or linear layer at which components are scored.

    Attributes:
        weight: name of its weight, such as ``encoder.layer1.0.conv1.weight``.
        channels: component of every channel of the side named (0 = not scored here).
        side: ``input``: the layer reads the components. ``output``: it makes them, and a product of two activations
            (queries times keys) reads them, where there is no layer to hook: Σ y·∂L/∂y over its outputs.
    """

    weight: str
    channels: Atoms
    side: Literal["input", "output"] = "input"


@dataclass(frozen=True)
class ModuleSize:
    """A whole number that a module keeps for its own code, such as the number of heads, and that follows a cut.

    Attributes:
        module: its name.
        attribute: name of the number.
        components: as many as the number counts, with their components.
    """

    module: str
    attribute: str
    components: Atoms


@dataclass(frozen=True)
class MacTerm:
    """Multiply-accumulates of one operation for one image: ``per_unit × Π kept(axis)``.

    Attributes:
        axes: the components along each width that the cost is proportional to.
        per_unit: MACs with every width 1 (kernel size × positions).
    """

    axes: tuple[Atoms, ...]
    per_unit: float


@dataclass(frozen=True)
class FrozenLayer:
    """A convolution or linear layer with filters that no removal takes.

    Attributes:
        layer: its name.
        frozen: how many of its filters stay.
        filters: how many it has.
        cause: of most of them.
    """

    layer: str
    frozen: int
    filters: int
    cause: Cause


def group_by_cause(layers: Iterable[FrozenLayer]) -> dict[Cause, list[FrozenLayer]]:
    """Groups layers by what keeps their filters, the cause of most filters first."""
    found: dict[Cause, list[FrozenLayer]] = {}
    for layer in layers:
        found.setdefault(layer.cause, []).append(layer)
    return dict(sorted(found.items(), key=lambda pair: -sum(layer.frozen for layer in pair[1])))


@dataclass(frozen=True)
class Group:
    """Components that touch the same dimensions of the same parameters: the filters of one coupled layer.

    Attributes:
        name: the module that produces them, the first one where several are coupled; unique within a graph, and the
            same after a cut unless a grouped convolution's proportions changed how it is coupled.
        components: their numbers.
    """

    name: str
    components: Atoms


_SHOWN = 5
"""Layers that a printed graph lists."""


@dataclass(frozen=True, repr=False)
class ChannelGraph:
    """Coupled channels of a network.

    Attributes:
        axes: per parameter and buffer, the component of every index of every dimension (0 = frozen).
        consumed: per parameter and buffer and dimension, whether it is the *input* side of a weight. Masking zeroes the
            other dimensions only.
        consumers: the layers at which components are scored.
        grouped: weights of grouped convolutions, with the components of their input channels.
        macs: what the operations cost.
        groups: coupled layers.
        size: number of components, the frozen one included.
        executed: names of the parameters and buffers that the forward pass reaches.
        not_understood: operations without a rule, with their counts; whatever passed through them is frozen.
        buffers: names of the tensors in ``axes`` that are no parameters.
        silenced: weights whose input side is masked as well, because a masked channel that they read is not 0 (behind a
            sigmoid, say): removing such a channel means that nothing reads it.
        sizes: numbers that modules keep and that follow a cut.
        training_only: parameters and buffers that only training mode reaches, such as those of an auxiliary head.
        dead: parameters and buffers that neither mode reaches; see :func:`~polyp_lightning.pruning.surgery.drop_dead`.
        dead_parameters: how many numbers the parameters among them hold.
        example: what the network was traced with, without values.
        frozen_layers: the layers with filters that stay, in the order of the network; see :meth:`why_frozen`.
    """

    axes: dict[str, tuple[Atoms, ...]]
    consumed: dict[str, tuple[bool, ...]]
    consumers: tuple[Consumer, ...]
    grouped: dict[str, Atoms]
    macs: tuple[MacTerm, ...]
    groups: tuple[Group, ...]
    size: int
    executed: frozenset[str]
    not_understood: dict[str, int]
    buffers: frozenset[str] = frozenset()
    silenced: frozenset[str] = frozenset()
    sizes: tuple[ModuleSize, ...] = ()
    training_only: frozenset[str] = frozenset()
    dead: tuple[str, ...] = ()
    dead_parameters: int = 0
    example: Example = field(default_factory=lambda: Example(()))
    frozen_layers: tuple[FrozenLayer, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input that the network was traced with; ``()`` if it does not take one tensor alone."""
        return self.example.shape

    def nothing(self) -> Removed:
        """A selection that removes nothing."""
        return np.zeros(self.size, bool)

    def widths(self) -> dict[str, int]:
        """Components of each group, by the group's name."""
        return {group.name: len(group.components) for group in self.groups}

    def total_macs(self, removed: Removed | None = None) -> float:
        """MACs for one image once ``removed`` is gone."""
        kept = np.ones(self.size, bool) if removed is None else ~removed
        return float(sum(term.per_unit * np.prod([kept[axis].sum() for axis in term.axes]) for term in self.macs))

    def unread(self) -> Removed:
        """Components that no layer reads: what a decoder leaves of its encoder's last features, say.

        Nothing depends on them, so that there is no layer to score them at and their score is 0, exactly. They cost
        MACs all the same, since the layers that make them do run. One whose values did come out is frozen instead.
        """
        unread = np.ones(self.size, bool)
        unread[[FROZEN, *(c for consumer in self.consumers for c in consumer.channels)]] = False
        return unread

    def keep(self, name: str, removed: Removed) -> dict[int, npt.NDArray[np.intp]]:
        """Per dimension of a tensor that shrinks, the indices to keep."""
        flags = ((dim, removed[components]) for dim, components in enumerate(self.axes[name]))
        return {dim: np.flatnonzero(~gone) for dim, gone in flags if gone.any()}

    def emptied(self, removed: Removed) -> list[str]:
        """Names of the tensors of which a dimension would have no index left."""
        return [name for name, axes in self.axes.items() if any(len(a) and removed[a].all() for a in axes)]

    @cached_property
    def stays(self) -> Removed:
        """Per component, whether no removal takes it: it is frozen, or fills a dimension of a tensor by itself."""
        stays = self.nothing()
        stays[FROZEN] = True
        for axis in (axis for axes in self.axes.values() for axis in axes if len(axis)):
            # The ends first, which tell most of them apart.
            if axis[0] == axis[-1] and (axis == axis[0]).all():
                stays[axis[0]] = True
        return stays

    def why_frozen(self) -> list[FrozenLayer]:
        """Layers with filters that no removal takes, and why, those with most of them first."""
        return sorted(self.frozen_layers, key=lambda layer: -layer.frozen)

    def frozen_share(self, is_parameter: frozenset[str]) -> float:
        """Share of the executed parameters' elements that no removal can reach."""
        total = frozen = 0
        for name in self.executed & is_parameter:
            axes = self.axes[name]
            total += int(np.prod([len(a) for a in axes]))
            frozen += int(np.prod([self.stays[a].sum() for a in axes]))
        return frozen / total if total else 1.0

    def __repr__(self) -> str:
        """Describes the graph on a screen: totals, the largest layers, and what stays."""
        used = self.executed - self.buffers
        shapes = {name: tuple(map(len, axes)) for name, axes in self.axes.items() if name in used}
        counts = {name: int(np.prod(shape)) for name, shape in shapes.items()}
        largest = sorted((name for name in shapes if len(shapes[name]) > 1), key=lambda name: -counts[name])
        lines = [
            f"ChannelGraph: {self.size - 1:,} components in {len(self.groups)} coupled layers",
            f"GMACs of an image: {self.total_macs() / 1e9:.3g}",
            f"parameters in use: {sum(counts.values()):,}, {self.frozen_share(frozenset(shapes)):.1%} of them frozen",
            f"largest of {len(largest)} weights:",
            *(f"  {counts[name]:>11,}  {name} {shapes[name]}" for name in largest[:_SHOWN]),
        ]
        if self.frozen_layers:
            lines.append(f"{len(self.frozen_layers)} layers with filters that stay (why_frozen() says why):")
            lines += [f"  {one.frozen} of {one.filters}  {one.layer}" for one in self.why_frozen()[:_SHOWN]]
        if self.not_understood:
            lines.append(f"not understood: {', '.join(self.not_understood)}")
        return "\n".join(lines)
