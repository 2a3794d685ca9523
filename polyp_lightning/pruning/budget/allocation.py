"""From scores to widths: which layers give how much.

``global``: one ranking of all components by their score, least important first.
``per_cost``: the same with the score divided by what a component costs in the dense network.
``optimal``: the least sum of removed scores at the budget, see :mod:`polyp_lightning.pruning.budget.optimal`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from polyp_lightning.pruning.budget.cost import Floats
from polyp_lightning.pruning.budget.steps import Ints, Search

Allocation = Literal["global", "per_cost", "optimal"]


@dataclass(frozen=True)
class Window:
    """What a choice may cost.

    Attributes:
        least: a choice below would miss the target.
        most: the budget.
    """

    least: float
    most: float


def by_score(search: Search, window: Window) -> Ints:
    """Remove in the order of the scores until the budget is met; then give back what still fits."""
    return by_keys(search, search.steps.mean, window.most)


def by_score_per_cost(search: Search, window: Window) -> Ints:
    """Remove in the order of score ÷ marginal cost; the score of what costs nothing counts as infinite."""
    return by_keys(search, keys_per_cost(search, search.prices(search.steps.forced)), window.most)


def keys_per_cost(search: Search, prices: Floats) -> Floats:
    """Per chunk, its mean score divided by the price of a component of its group."""
    price = prices[search.steps.group]
    known = price > 0
    return np.where(known, search.steps.mean / np.where(known, price, 1), np.inf)


def by_keys(search: Search, keys: Floats, budget: float) -> Ints:
    """Remove chunks in the order of their keys, which must not fall within a group, until the budget is met.

    Returns:
        A choice that costs at most the budget if one exists, filled up with chunks that fit, greatest key first.
    """
    return give_back(search, prefix(search, keys, budget), keys, budget)


def prefix(search: Search, keys: Floats, budget: float) -> Ints:
    """The shortest way down the ranking by keys that meets the budget; all of it if none does."""
    steps = search.steps
    free = np.flatnonzero(steps.rank >= steps.forced[steps.group])
    order = free[np.argsort(keys[free], kind="stable")]
    groups = steps.group[order]

    def cut(length: int) -> Ints:
        return steps.forced + np.bincount(groups[:length], minlength=len(steps.length))

    low, high = -1, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if search.total(cut(middle)) <= budget else (middle, high)
    return cut(high)


def give_back(search: Search, choice: Ints, keys: Floats, budget: float) -> Ints:
    """Give back the chunks that still fit, those with the greatest key first; within a group the last removed first."""
    choice = choice.copy()
    chunks = search.last_chunks(choice)
    # What does not fit now never will: the room shrinks, and what a chunk costs grows with the other widths.
    while len(chunks := chunks[search.after(choice, chunks, 1) <= budget]):
        best = chunks[np.argmax(keys[chunks])]
        group = search.steps.group[best]
        choice[group] -= 1
        chunks = chunks[chunks != best]
        if choice[group] > search.steps.forced[group]:
            chunks = np.append(chunks, best - 1)
    return choice


def take_more(search: Search, choice: Ints, budget: float) -> Ints:
    """Remove what leaves the cost at or above the budget, least score first."""
    choice = choice.copy()
    chunks = search.next_chunks(choice)
    while len(chunks := chunks[search.after(choice, chunks, -1) >= budget]):
        best = chunks[np.argmin(search.steps.mean[chunks])]
        group = search.steps.group[best]
        choice[group] += 1
        chunks = chunks[chunks != best]
        if choice[group] < search.steps.length[group]:
            chunks = np.append(chunks, best + 1)
    return choice
