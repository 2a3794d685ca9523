"""The choices that a cut has: how many steps down each coupled layer goes."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from polyp_lightning.pruning.budget.cost import Cost, Floats, full_widths
from polyp_lightning.pruning.budget.limits import Bounds
from polyp_lightning.pruning.graph import ChannelGraph, Removed

Ints = npt.NDArray[np.int64]


class Steps:
    """Chunks of components, per group in the order in which they would go: least important first.

    A *choice* says how many chunks of each group are removed, shape (groups,). Chunks are numbered group by group.

    Args:
        graph: coupled channels.
        scores: importance per component.
        bounds: the widths that each group may have; a chunk is what is between one and the next.

    Attributes:
        group: per chunk, its group.
        rank: per chunk, its position within the group.
        loss: per chunk, the sum of its scores.
        size: per chunk, its number of components.
        length: per group, its number of chunks.
        first: per group, the number of its first chunk.
        forced: the choice that the greatest widths ask for.
    """

    def __init__(self, graph: ChannelGraph, scores: Floats, bounds: Sequence[Bounds]) -> None:
        self._size = graph.size
        self.parts: list[npt.NDArray[np.int64]] = []
        lengths, forced = [], []
        for group, bound in zip(graph.groups, bounds, strict=True):
            order = group.components[np.argsort(scores[group.components], kind="stable")]
            ends = _ends(len(order), bound)
            self.parts += [order[a:b] for a, b in zip([0, *ends], ends, strict=False)]
            lengths.append(len(ends))
            forced.append(int(bound.most < len(order)))
        self.length = np.array(lengths, np.int64)
        self.first = np.concatenate([[0], np.cumsum(self.length)])[:-1]
        self.group = np.repeat(np.arange(len(lengths)), self.length)
        self.rank = np.arange(len(self.parts)) - self.first[self.group]
        self.size = np.array([len(part) for part in self.parts], np.int64)
        ordered = scores[np.concatenate(self.parts)] if self.parts else np.zeros(0)
        self.loss = np.add.reduceat(ordered.astype(np.float64), np.cumsum(self.size) - self.size)
        self.forced = np.minimum(np.array(forced, np.int64), self.length)

    @property
    def mean(self) -> Floats:
        """Per chunk, the mean of its scores; within a group it never falls."""
        return self.loss / self.size

    @cached_property
    def chunk(self) -> Ints:
        """Per component, its chunk; −1 where it is always kept."""
        chunk = np.full(self._size, -1, np.int64)
        if self.parts:
            chunk[np.concatenate(self.parts)] = np.repeat(np.arange(len(self.parts)), self.size)
        return chunk

    def taken(self, choice: Ints) -> npt.NDArray[np.bool_]:
        """Per chunk, whether the choice removes it."""
        return np.asarray(self.rank < choice[self.group])

    def removed(self, choice: Ints) -> Removed:
        """Per component, whether the choice removes it."""
        taken = np.append(self.taken(choice), False)
        return np.asarray(taken[self.chunk])

    def predicted_loss(self, choice: Ints) -> float:
        """The sum of the removed scores."""
        return float(self.loss[self.taken(choice)].sum())


def _ends(size: int, bound: Bounds) -> list[int]:
    """Where the chunks of a group end, in components removed; the first reaches the greatest width."""
    if bound.least >= size:
        return []
    widths = [w for w in range(bound.least, min(bound.most, size - 1) + 1) if w % bound.step == 0]
    return [size - width for width in reversed(widths)]


class Search:
    """A cost seen from the choices: what it is, and what one step more or less would make of it."""

    def __init__(self, steps: Steps, cost: Cost) -> None:
        self.steps, self.cost = steps, cost
        rows, columns = [], []
        for row, axis in enumerate(cost.axes):
            chunks = steps.chunk[axis]
            columns.append(chunks[chunks >= 0])
            rows.append(np.full(len(columns[-1]), row))
        where = (np.concatenate(rows), np.concatenate(columns)) if rows else (np.zeros(0, int), np.zeros(0, int))
        shape = (len(cost.axes), len(steps.parts))
        # What each chunk takes from each width; repeated entries add up.
        self.taken_from = csr_array((np.ones(len(where[0])), where), shape=shape)
        self.by_chunk = self.taken_from.T.tocsr()
        self._full = full_widths(cost)

    def widths(self, choice: Ints) -> Floats:
        """Width along each axis of the cost."""
        return np.asarray(self._full - self.taken_from @ self.steps.taken(choice).astype(np.float64))

    def total(self, choice: Ints) -> float:
        """The cost of a choice."""
        return float(self.cost.of_widths(self.widths(choice)[:, None])[0])

    def after(self, choice: Ints, chunks: Ints, sign: int) -> Floats:
        """The cost if one chunk more goes (sign −1) or comes back (sign 1), for each of ``chunks``."""
        change = self.by_chunk[chunks].toarray().T
        return self.cost.of_widths(self.widths(choice)[:, None] + sign * change)

    def prices(self, choice: Ints) -> Floats:
        """Per group, what one of its components costs near a choice, on average over its chunks."""
        steps = self.steps
        saved = self.by_chunk @ self.cost.slopes(self.widths(choice))
        groups = len(steps.length)
        per_group = np.bincount(steps.group, saved, groups)
        return np.asarray(per_group / np.maximum(np.bincount(steps.group, steps.size, groups), 1))

    def next_chunks(self, choice: Ints) -> Ints:
        """The chunks that would go next, one for each group that has any left."""
        open_groups = np.flatnonzero(choice < self.steps.length)
        return self.steps.first[open_groups] + choice[open_groups]

    def last_chunks(self, choice: Ints) -> Ints:
        """The chunks that would come back first, one for each group that may have one back."""
        open_groups = np.flatnonzero(choice > self.steps.forced)
        return self.steps.first[open_groups] + choice[open_groups] - 1
