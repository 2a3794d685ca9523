"""Which components to remove so that a share of the MACs remains.

One global ranking: components are removed in the order of their score, least important first, until the target is
met. The cost of a convolution is the product of two widths, so MACs are recomputed for every prefix of the ranking,
not summed.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from polyp_lightning.errors import PruningError
from polyp_lightning.pruning.graph import ChannelGraph, Removed

# Share of the dense MACs by which a cut may miss its target.
TOLERANCE = 0.01
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Chunks of components in the order in which they would be removed.

    Attributes:
        chunk: per component, the position of its chunk in the order; −1 where it is always kept.
        length: number of chunks.
        group: per chunk, its coupled layer.
    """

    chunk: npt.NDArray[np.int64]
    length: int
    group: npt.NDArray[np.int64]


def select(
    graph: ChannelGraph,
    scores: Scores,
    target: float,
    *,
    reference_macs: float | None = None,
    dense_widths: Mapping[str, int] | None = None,
    floor: float = 0.1,
    round_to: int = 1,
) -> Removed:
    """Choose the least important components so that ``target`` of the reference MACs remains.

    Args:
        graph: coupled channels and their cost.
        scores: importance per component, shape ``(graph.size,)``; ``scores[0]`` is not used.
        target: share of ``reference_macs`` to keep, in (0, 1].
        reference_macs: MACs of the dense network for one image; by default those of ``graph`` itself.
        dense_widths: components per group name that ``floor`` is a share of; by default those of ``graph`` itself.
        floor: least share of a coupled layer's filters that stays, in [0, 1]; never less than one filter.
        round_to: widths become multiples of this where a layer is cut.

    Returns:
        One flag per component. What remains is within 1 % of ``reference_macs`` of the target; a warning says so
        where the network's layers are too narrow for that.

    Raises:
        PruningError: the target cannot be met, or the scores are not finite.
    """
    _check(graph, scores, target)
    dense = graph.total_macs() if reference_macs is None else reference_macs
    budget = target * dense
    if graph.total_macs() <= budget * (1 + 1e-12):
        return graph.nothing()
    check_reachable(graph, target, dense_widths=dense_widths, floor=floor, round_to=round_to, reference_macs=dense)
    ranking = _rank(graph, scores, _least(graph, dense_widths or graph.widths(), floor), round_to)
    macs = _macs_of_prefixes(graph, ranking)
    removed = _closest(graph, ranking, macs, budget)
    got = graph.total_macs(removed) / dense
    if abs(got - target) > TOLERANCE:
        # Not worth a night's training: the table shows what was reached.
        warnings.warn(
            f"the nearest to target {target:.3f} of the MACs that can be cut is {got:.3f}: the layers are too narrow "
            f"for steps of {round_to} filters; lower --pruning.round_to",
            stacklevel=2,
        )
    return removed


def check_reachable(
    graph: ChannelGraph,
    target: float,
    *,
    reference_macs: float | None = None,
    dense_widths: Mapping[str, int] | None = None,
    floor: float = 0.1,
    round_to: int = 1,
) -> None:
    """Refuse a target that cannot be met whatever the scores; arguments as for :func:`select`.

    Raises:
        PruningError: nothing can be removed, or the floors keep more than the target.
    """
    if not graph.groups:
        msg = f"nothing in this network can be removed; operations not understood: {graph.not_understood or 'none'}"
        raise PruningError(msg)
    dense = graph.total_macs() if reference_macs is None else reference_macs
    ranking = _rank(graph, np.zeros(graph.size), _least(graph, dense_widths or graph.widths(), floor), round_to)
    least = graph.total_macs(_removed(graph, ranking, ranking.length)) / dense
    if least > target + TOLERANCE:
        steps = f" in multiples of {round_to}" if round_to > 1 else ""
        msg = (
            f"target {target:.3f} of the MACs cannot be met: with at least {floor:.0%} of each layer kept{steps} the "
            f"least is {least:.3f}; raise --pruning.target or lower --pruning.floor"
        )
        raise PruningError(msg)


def _check(graph: ChannelGraph, scores: Scores, target: float) -> None:
    if not 0 < target <= 1:
        msg = f"target is {target}; it is the share of the dense MACs to keep, in (0, 1]"
        raise PruningError(msg)
    if scores.shape != (graph.size,) or not np.isfinite(scores[1:]).all():
        msg = f"scores have shape {scores.shape} or are not finite; need one finite score for each of {graph.size}"
        raise PruningError(msg)


def _least(graph: ChannelGraph, dense_widths: Mapping[str, int], floor: float) -> list[int]:
    """The number of components that each group keeps at least."""
    # A grouped convolution whose proportions change with a cut may be coupled in another way than it was.
    dense = [dense_widths.get(group.name, len(group.components)) for group in graph.groups]
    return [max(1, math.ceil(floor * width - 1e-9)) for width in dense]


def _rank(graph: ChannelGraph, scores: Scores, least: Sequence[int], round_to: int) -> Ranking:
    """Order the chunks of all groups by their mean score; ties keep the order of the network."""
    pieces: list[tuple[float, int, npt.NDArray[np.int64]]] = []
    for number, group in enumerate(graph.groups):
        order = group.components[np.argsort(scores[group.components], kind="stable")]
        for part in _chunks(order, least[number], round_to):
            pieces.append((float(scores[part].mean()), number, part))
    # Within a group the means rise already, so a stable sort keeps the group's own order.
    pieces.sort(key=lambda piece: piece[0])
    chunk = np.full(graph.size, -1, np.int64)
    for position, (_, _, part) in enumerate(pieces):
        chunk[part] = position
    return Ranking(chunk, len(pieces), np.array([number for _, number, _ in pieces], np.int64))


def _chunks(order: npt.NDArray[np.int64], least: int, round_to: int) -> list[npt.NDArray[np.int64]]:
    """The removable parts of one group, least important first: each leaves a multiple of ``round_to``."""
    size = len(order)
    least = math.ceil(least / round_to) * round_to
    if least >= size:
        return []
    first = size % round_to or round_to
    starts = [0, *range(first, size - least, round_to)]
    return [order[a:b] for a, b in zip(starts, [*starts[1:], size - least], strict=True)]


def _macs_of_prefixes(graph: ChannelGraph, ranking: Ranking) -> npt.NDArray[np.float64]:
    """MACs after removing the first 0, 1, …, all chunks."""
    total = np.zeros(ranking.length + 1)
    widths: dict[int, npt.NDArray[np.int64]] = {}
    for term in graph.macs:
        cost = np.full(ranking.length + 1, term.per_unit)
        for axis in term.axes:
            if id(axis) not in widths:
                widths[id(axis)] = _width_of_prefixes(axis, ranking)
            cost *= widths[id(axis)]
        total += cost
    return total


def _width_of_prefixes(axis: npt.NDArray[np.int64], ranking: Ranking) -> npt.NDArray[np.int64]:
    positions = ranking.chunk[axis]
    lost = np.bincount(positions[positions >= 0], minlength=ranking.length)
    return len(axis) - np.concatenate([[0], np.cumsum(lost)])


def _closest(graph: ChannelGraph, ranking: Ranking, macs: npt.NDArray[np.float64], budget: float) -> Removed:
    """The prefix that ends nearest to the budget; if that is coarse, the last chunks are chosen to fit."""
    if ranking.length == 0:
        return graph.nothing()
    crossing = int(np.argmax(macs <= budget)) if macs[-1] <= budget else len(macs) - 1
    prefixes = [_removed(graph, ranking, k) for k in (crossing, crossing - 1)]
    filled = _fill(graph, ranking, crossing - 1, budget)
    return min([*prefixes, filled], key=lambda removed: abs(graph.total_macs(removed) - budget))


def _removed(graph: ChannelGraph, ranking: Ranking, length: int) -> Removed:
    return (ranking.chunk >= 0) & (ranking.chunk < length)


def _fill(graph: ChannelGraph, ranking: Ranking, start: int, budget: float, most: int = 400) -> Removed:
    """From a prefix that is still too dear, go on down the ranking and skip what would overshoot."""
    removed = _removed(graph, ranking, start)
    closed: set[int] = set()
    for position in range(start, min(start + most, ranking.length)):
        group = int(ranking.group[position])
        if group in closed:
            continue  # its cheaper chunk was skipped: the order within a layer is kept
        trial = removed | (ranking.chunk == position)
        if graph.total_macs(trial) >= budget:
            removed = trial
        else:
            closed.add(group)
    return removed
