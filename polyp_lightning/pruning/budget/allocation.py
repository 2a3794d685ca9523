"""From importances to widths: which layers give how much.

Each coupled layer (a group) gives its least important components first, in *chunks*: one component each, or as many as
the limits round to. A *choice* says how many chunks of each group are removed, shape (groups,). It is found by

- ``global``: one ranking of all chunks by their mean importance, least important first;
- ``per_cost``: the same with the importance divided by what a component costs in the dense network;
- ``optimal``: the least sum of removed importances, see :mod:`polyp_lightning.pruning.budget.optimal`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from polyp_lightning.pruning.budget.cost import Cost, Floats, full_widths
from polyp_lightning.pruning.budget.limits import Bounds
from polyp_lightning.pruning.graph import ChannelGraph, Removed

Allocation = Literal["global", "per_cost", "optimal"]
Ints = npt.NDArray[np.int64]


class Chunks:
    """Chunks of components, numbered group by group, and within a group in the order in which they would go.

    Args:
        graph: coupled channels.
        importance: one number per component.
        bounds: the widths that each group may have; a chunk is what is between one and the next.

    Attributes:
        group: per chunk, its group.
        rank: per chunk, its position within the group.
        loss: per chunk, the sum of its importances.
        size: per chunk, its number of components.
        length: per group, its number of chunks.
        first: per group, the number of its first chunk.
        forced: the choice that the greatest widths ask for.
    """

    def __init__(self, graph: ChannelGraph, importance: Floats, bounds: Sequence[Bounds]) -> None:
        self._size = graph.size
        self.parts: list[npt.NDArray[np.int64]] = []
        lengths, forced = [], []
        for group, bound in zip(graph.groups, bounds, strict=True):
            order = group.components[np.argsort(importance[group.components], kind="stable")]
            ends = _ends(len(order), bound)
            self.parts += [order[a:b] for a, b in zip([0, *ends], ends, strict=False)]
            lengths.append(len(ends))
            forced.append(int(bound.most < len(order)))
        self.length = np.array(lengths, np.int64)
        self.first = np.concatenate([[0], np.cumsum(self.length)])[:-1]
        self.group = np.repeat(np.arange(len(lengths)), self.length)
        self.rank = np.arange(len(self.parts)) - self.first[self.group]
        self.size = np.array([len(part) for part in self.parts], np.int64)
        ordered = importance[np.concatenate(self.parts)] if self.parts else np.zeros(0)
        self.loss = np.add.reduceat(ordered.astype(np.float64), np.cumsum(self.size) - self.size)
        self.forced = np.minimum(np.array(forced, np.int64), self.length)

    @property
    def mean(self) -> Floats:
        """Per chunk, the mean of its importances; within a group it never falls."""
        return self.loss / self.size

    @cached_property
    def of_component(self) -> Ints:
        """Per component, its chunk; −1 where it is always kept."""
        chunk = np.full(self._size, -1, np.int64)
        if self.parts:
            chunk[np.concatenate(self.parts)] = np.repeat(np.arange(len(self.parts)), self.size)
        return chunk

    def taken(self, choice: Ints) -> npt.NDArray[np.bool_]:
        """Returns per chunk whether the choice removes it."""
        return np.asarray(self.rank < choice[self.group])

    def removed(self, choice: Ints) -> Removed:
        """Returns per component whether the choice removes it."""
        taken = np.append(self.taken(choice), False)
        return np.asarray(taken[self.of_component])

    def predicted_loss(self, choice: Ints) -> float:
        """Returns the sum of the removed importances."""
        return float(self.loss[self.taken(choice)].sum())


def _ends(size: int, bound: Bounds) -> list[int]:
    """Returns where the chunks of a group end, in components removed; the first reaches the greatest width."""
    if bound.least >= size:
        return []
    widths = [w for w in range(bound.least, min(bound.most, size - 1) + 1) if w % bound.step == 0]
    return [size - width for width in reversed(widths)]


class Search:
    """A cost seen from the choices: what it is, and what one chunk more or less would make of it."""

    def __init__(self, chunks: Chunks, cost: Cost) -> None:
        self.chunks, self.cost = chunks, cost
        rows, columns = [], []
        for row, axis in enumerate(cost.axes):
            members = chunks.of_component[axis]
            columns.append(members[members >= 0])
            rows.append(np.full(len(columns[-1]), row))
        where = (np.concatenate(rows), np.concatenate(columns)) if rows else (np.zeros(0, int), np.zeros(0, int))
        shape = (len(cost.axes), len(chunks.parts))
        # What each chunk takes from each width; repeated entries add up.
        self.taken_from = csr_array((np.ones(len(where[0])), where), shape=shape)
        self.by_chunk = self.taken_from.T.tocsr()
        self._full = full_widths(cost)

    def widths(self, choice: Ints) -> Floats:
        """Returns the width along each axis of the cost."""
        return np.asarray(self._full - self.taken_from @ self.chunks.taken(choice).astype(np.float64))

    def total(self, choice: Ints) -> float:
        """Returns the cost of a choice."""
        return float(self.cost.of_widths(self.widths(choice)[:, None])[0])

    def after(self, choice: Ints, numbers: Ints, sign: int) -> Floats:
        """Returns the cost if one chunk more goes (sign −1) or comes back (sign 1), for each of ``numbers``."""
        change = self.by_chunk[numbers].toarray().T
        return self.cost.of_widths(self.widths(choice)[:, None] + sign * change)

    def prices(self, choice: Ints) -> Floats:
        """Returns per group what one of its components costs near a choice, on average over its chunks."""
        chunks = self.chunks
        saved = self.by_chunk @ self.cost.slopes(self.widths(choice))
        groups = len(chunks.length)
        per_group = np.bincount(chunks.group, saved, groups)
        return np.asarray(per_group / np.maximum(np.bincount(chunks.group, chunks.size, groups), 1))

    def next_chunks(self, choice: Ints) -> Ints:
        """Returns the chunks that would go next, one for each group that has any left."""
        open_groups = np.flatnonzero(choice < self.chunks.length)
        return self.chunks.first[open_groups] + choice[open_groups]

    def last_chunks(self, choice: Ints) -> Ints:
        """Returns the chunks that would come back first, one for each group that may have one back."""
        open_groups = np.flatnonzero(choice > self.chunks.forced)
        return self.chunks.first[open_groups] + choice[open_groups] - 1


@dataclass(frozen=True)
class Window:
    """What a choice may cost.

    Attributes:
        least: a choice below would miss the target.
        most: the budget.
    """

    least: float
    most: float


def by_importance(search: Search, window: Window) -> Ints:
    """Removes in the order of importance until the budget is met; then gives back what still fits."""
    return by_keys(search, search.chunks.mean, window.most)


def by_importance_per_cost(search: Search, window: Window) -> Ints:
    """Removes in the order of importance ÷ marginal cost, which is infinite for what costs nothing."""
    return by_keys(search, keys_per_cost(search, search.prices(search.chunks.forced)), window.most)


def keys_per_cost(search: Search, prices: Floats) -> Floats:
    """Returns per chunk its mean importance divided by the price of a component of its group."""
    price = prices[search.chunks.group]
    known = price > 0
    return np.where(known, search.chunks.mean / np.where(known, price, 1), np.inf)


def by_keys(search: Search, keys: Floats, budget: float) -> Ints:
    """Removes chunks in the order of their keys, which must not fall within a group, until the budget is met.

    Returns:
        A choice that costs at most the budget if one exists, filled up with chunks that fit, greatest key first.
    """
    return give_back(search, _prefix(search, keys, budget), keys, budget)


def _prefix(search: Search, keys: Floats, budget: float) -> Ints:
    """Returns the shortest way down the ranking by keys that meets the budget; all of it if none does."""
    chunks = search.chunks
    free = np.flatnonzero(chunks.rank >= chunks.forced[chunks.group])
    order = free[np.argsort(keys[free], kind="stable")]
    groups = chunks.group[order]

    def cut(length: int) -> Ints:
        return chunks.forced + np.bincount(groups[:length], minlength=len(chunks.length))

    low, high = -1, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if search.total(cut(middle)) <= budget else (middle, high)
    return cut(high)


def give_back(search: Search, choice: Ints, keys: Floats, budget: float) -> Ints:
    """Gives back the chunks that still fit, those with the greatest key first; in a group the last removed first."""
    choice = choice.copy()
    open_chunks = search.last_chunks(choice)
    # What does not fit now never will: the room shrinks, and what a chunk costs grows with the other widths.
    while len(open_chunks := open_chunks[search.after(choice, open_chunks, 1) <= budget]):
        best = open_chunks[np.argmax(keys[open_chunks])]
        group = search.chunks.group[best]
        choice[group] -= 1
        open_chunks = open_chunks[open_chunks != best]
        if choice[group] > search.chunks.forced[group]:
            open_chunks = np.append(open_chunks, best - 1)
    return choice


def _take_more(search: Search, choice: Ints, budget: float) -> Ints:
    """Removes what leaves the cost at or above the budget, least important first."""
    choice = choice.copy()
    open_chunks = search.next_chunks(choice)
    while len(open_chunks := open_chunks[search.after(choice, open_chunks, -1) >= budget]):
        best = open_chunks[np.argmin(search.chunks.mean[open_chunks])]
        group = search.chunks.group[best]
        choice[group] += 1
        open_chunks = open_chunks[open_chunks != best]
        if choice[group] < search.chunks.length[group]:
            open_chunks = np.append(open_chunks, best + 1)
    return choice


def bring_near(search: Search, choice: Ints, window: Window) -> Ints:
    """Returns the choice itself if it lies within the window, else the nearest to the budget that can be found."""
    budget = window.most
    if window.least <= search.total(choice) <= budget:
        return choice
    # From both sides: below the budget, and above it by as little as one chunk more makes.
    after = search.after(choice, search.last_chunks(choice), 1)
    above = give_back(search, choice, search.chunks.mean, float(after[after > budget].min(initial=np.inf)))
    starts = [choice, _take_more(search, above, budget)]
    found = [other for start in starts for other in (start, *_one_back(search, start))]
    return min(found, key=lambda other: abs(search.total(other) - budget))


def _one_back(search: Search, choice: Ints) -> list[Ints]:
    """Returns the choice with one chunk back, for each group that may have one."""
    groups = search.chunks.group[search.last_chunks(choice)]
    return [choice - (np.arange(len(choice)) == group) for group in groups]
