"""How narrow and how wide a cut may leave each layer."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np

from polyp_lightning.common.errors import PruningError, join_names
from polyp_lightning.common.options import option
from polyp_lightning.pruning.graph import ChannelGraph


@dataclass(frozen=True)
class Limits:
    """Bounds on the widths of layers.

    Patterns are those of the shell (:mod:`fnmatch`: ``*``, ``?``, ``[…]``; a ``*`` runs across dots), compared with the
    names of layers. One that names a block, such as ``encoder.layer4``, stands for all layers inside. Layers that are
    coupled have one width: a bound on one of them is a bound on all.

    Attributes:
        floor: least share of each dense layer's filters that stays, in [0, 1]; never less than one filter.
        ceiling: greatest share of each dense layer's filters that stays, in (0, 1].
        round_to: the widths of layers that are cut become multiples of this.
        protected: patterns of layers that keep all their filters.
        floors: other floors for some layers, by pattern; the last that fits holds.
        ceilings: other ceilings for some layers, by pattern; the last that fits holds.

    Raises:
        PruningError: a value is outside its range.
    """

    floor: float = 0.1
    ceiling: float = 1.0
    round_to: int = 1
    protected: tuple[str, ...] = ()
    floors: Mapping[str, float] = field(default_factory=dict)
    ceilings: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Validates the fields."""
        for what, share in [("floor", self.floor), *self.floors.items()]:
            if not 0 <= share <= 1:
                msg = f"{option('pruning.limits.floor')} of {what} is {share}; it is a share in [0, 1]"
                raise PruningError(msg)
        for what, share in [("ceiling", self.ceiling), *self.ceilings.items()]:
            if not 0 < share <= 1:
                msg = f"{option('pruning.limits.ceiling')} of {what} is {share}; it is a share in (0, 1]"
                raise PruningError(msg)
        if self.round_to < 1:
            msg = f"{option('pruning.limits.round_to')} is {self.round_to}; give 1 (no rounding) or more"
            raise PruningError(msg)


@dataclass(frozen=True)
class Bounds:
    """How many components one group keeps.

    Attributes:
        least: at least so many.
        most: at most so many.
        step: the width is a multiple of this where the group is cut.
    """

    least: int
    most: int
    step: int = 1


def bounds(
    graph: ChannelGraph,
    limits: Limits,
    dense_widths: Mapping[str, int] | None = None,
    left: float = 0.0,
    step: int = 1,
) -> list[Bounds]:
    """Returns the least and greatest width of each group of ``graph``, in components.

    Args:
        graph: coupled channels.
        limits: shares of the dense widths.
        dense_widths: components per group name in the dense network; by default those of ``graph``.
        left: share of the way to the target that is still to go: ceilings come down along with it.
        step: multiples that cost no more than the widths below them. Layers with room for more than one are rounded to
            it as well; in others the filters count one by one.

    Returns:
        One entry per group. Where floor and ceiling are less than a multiple apart, the floor holds.

    Raises:
        PruningError: a pattern fits no layer, or a floor is above its ceiling.
    """
    shares = _shares(graph, limits)
    result = []
    for group, (floor, ceiling) in zip(graph.groups, shares, strict=True):
        if floor > ceiling:
            msg = f"{group.name} has a floor of {floor} above its ceiling of {ceiling}; change the patterns that fit it"
            raise PruningError(msg)
        # A grouped convolution whose proportions change with a cut may be coupled in another way than it was.
        now = len(group.components)
        dense = (dense_widths or {}).get(group.name, now)
        highest = ceiling + (1 - ceiling) * left
        unit = math.lcm(limits.round_to, step if now >= 2 * step else 1)
        result.append(_round(floor * dense, highest * dense, now, unit))
    return result


def _round(least: float, most: float, now: int, step: int) -> Bounds:
    """Returns bounds that are multiples of ``step``, or the present width where nothing is cut."""
    # What is left of a share in floating point must not cost a filter.
    lowest = min(now, math.ceil(max(1, math.ceil(least - 1e-9)) / step) * step)
    highest = now if most >= now - 1e-9 else max(lowest, math.floor(most + 1e-9) // step * step)
    return Bounds(lowest, min(highest, now), step)


def _shares(graph: ChannelGraph, limits: Limits) -> list[tuple[float, float]]:
    """Returns floor and ceiling of each group."""
    floors = np.full(len(graph.groups), limits.floor)
    ceilings = np.full(len(graph.groups), limits.ceiling)
    layers = _groups_of_layers(graph)
    for pattern, share in limits.floors.items():
        floors[_match(pattern, layers)] = share
    for pattern, share in limits.ceilings.items():
        ceilings[_match(pattern, layers)] = share
    for pattern in limits.protected:
        members = _match(pattern, layers)
        floors[members], ceilings[members] = 1.0, 1.0
    return list(zip(floors.tolist(), ceilings.tolist(), strict=True))


def _groups_of_layers(graph: ChannelGraph) -> dict[str, set[int]]:
    """Returns per layer the groups of the filters that it makes."""
    group_of = np.full(graph.size, -1)
    for number, group in enumerate(graph.groups):
        group_of[group.components] = number
    layers: dict[str, set[int]] = {}
    for name, axes in graph.axes.items():
        if name not in graph.executed:
            continue
        members = layers.setdefault(name.rpartition(".")[0], set())
        for axis, is_input in zip(axes, graph.consumed[name], strict=True):
            if not is_input:
                members.update(np.unique(group_of[axis]).tolist())
    return {name: members - {-1} for name, members in layers.items()}


def _match(pattern: str, layers: Mapping[str, set[int]]) -> list[int]:
    found = [name for name in layers if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
    if not found:
        msg = f"the pattern {pattern!r} fits no layer of this network; {_suggest(pattern, layers)}"
        raise PruningError(msg)
    return sorted(set().union(*(layers[name] for name in found)))


def _suggest(pattern: str, layers: Iterable[str]) -> str:
    plain = pattern.strip("*")
    names = {
        ".".join(parts[: depth + 1]) for name in layers for parts in [name.split(".")] for depth in range(len(parts))
    }
    close = difflib.get_close_matches(plain, sorted(names), n=5, cutoff=0.5)
    return f"near to it are {', '.join(close)}" if close else f"its layers are {join_names(sorted(layers), 8)}"
