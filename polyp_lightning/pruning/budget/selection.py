"""Which components to remove so that a budget is met."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.budget import cost as costs
from polyp_lightning.pruning.budget.allocation import (
    Allocation,
    Window,
    by_score,
    by_score_per_cost,
    give_back,
    take_more,
)
from polyp_lightning.pruning.budget.cost import Cost
from polyp_lightning.pruning.budget.limits import Limits, bounds
from polyp_lightning.pruning.budget.optimal import by_predicted_loss
from polyp_lightning.pruning.budget.steps import Ints, Search, Steps
from polyp_lightning.pruning.budget.target import Dense, Target
from polyp_lightning.pruning.graph import ChannelGraph, Removed

# Share of the dense network's cost by which a cut may miss its budget.
TOLERANCE = 0.01
Scores = npt.NDArray[np.float64]

ALLOCATIONS: dict[Allocation, Callable[[Search, Window], Ints]] = {
    "global": by_score,
    "per_cost": by_score_per_cost,
    "optimal": by_predicted_loss,
}
_NO_LIMITS = Limits()


def select(
    graph: ChannelGraph,
    scores: Scores,
    target: Target | float,
    *,
    limits: Limits = _NO_LIMITS,
    allocation: Allocation = "global",
    dense: Dense | None = None,
    left: float = 0.0,
    cost: Cost | None = None,
) -> Removed:
    """Choose the components whose removal meets the target.

    A schedule passes the dense network's values as ``dense`` and the way that is left; it then gets to intermediate
    budgets between the dense network and the target.

    Args:
        graph: coupled channels and their cost.
        scores: importance per component, shape ``(graph.size,)``; ``scores[0]`` is not used.
        target: what is to be left; a number is a share of the dense MACs.
        limits: what may be done to a single layer.
        allocation: how the widths are found: ``global``, ``per_cost`` or ``optimal``.
        dense: what shares are shares of; by default the network of ``graph`` itself.
        left: share of the way from the dense network to the target that is still to go, for a schedule.
        cost: what the target is measured in, where it is not to be had from the graph: a latency table's.

    Returns:
        One flag per component. What remains costs at most the budget and less than 1 % of the dense network's cost
        below it, or, where no choice does, as near to it as could be found, with a warning beyond 1 %.

    Raises:
        PruningError: the target cannot be met, a limit makes no sense, or the scores are not finite.
    """
    _check(graph, scores, allocation)
    target, dense, search = _posed(graph, scores, target, limits, dense, left, cost)
    budget, tolerance = target.budget(dense, left), TOLERANCE * dense.cost(target.unit)
    forced = search.steps.forced
    if not forced.any() and search.total(forced) <= budget * (1 + 1e-12):
        return graph.nothing()
    if left == 0:
        _check_reachable(graph, search, target, limits, dense)
    window = Window(budget - tolerance, budget)
    choice = _near(search, ALLOCATIONS[allocation](search, window), window)
    # On the way, ceilings may be ahead of the schedule.
    if left == 0 or (choice != forced).any():
        _warn_of_a_miss(search.total(choice), budget, target, dense, limits)
    return search.steps.removed(choice)


def check_reachable(
    graph: ChannelGraph,
    target: Target | float,
    *,
    limits: Limits = _NO_LIMITS,
    dense: Dense | None = None,
    cost: Cost | None = None,
) -> None:
    """Refuse a target that cannot be met whatever the scores; arguments as for :func:`select`.

    Raises:
        PruningError: nothing can be removed, the limits keep more than the target, or a limit makes no sense.
    """
    target, dense, search = _posed(graph, np.zeros(graph.size), target, limits, dense, 0.0, cost)
    _check_reachable(graph, search, target, limits, dense)


def extremes(graph: ChannelGraph, *, limits: Limits, dense: Dense, cost: Cost) -> tuple[float, float]:
    """The least and the greatest cost that the limits allow."""
    search = Search(Steps(graph, np.zeros(graph.size), bounds(graph, limits, dense.widths, step=cost.step)), cost)
    return search.total(search.steps.length), search.total(search.steps.forced)


def _warn_of_a_miss(got: float, budget: float, target: Target, dense: Dense, limits: Limits) -> None:
    """Not worth a night's training: the table shows what was reached."""
    if abs(got - budget) <= TOLERANCE * dense.cost(target.unit):
        return
    remedy = "; lower --pruning.limits.round_to" if limits.round_to > 1 else ""
    warnings.warn(
        f"the nearest to a budget of {target.value_of(budget, dense):.3f} (target {target}) that can be cut is "
        f"{target.value_of(got, dense):.3f}: the layers are too narrow for steps of {limits.round_to} filters{remedy}",
        stacklevel=3,
    )


def _check(graph: ChannelGraph, scores: Scores, allocation: str) -> None:
    if scores.shape != (graph.size,) or not np.isfinite(scores[1:]).all():
        msg = f"scores have shape {scores.shape} or are not finite; need one finite score for each of {graph.size}"
        raise PruningError(msg)
    if allocation not in ALLOCATIONS:
        msg = f"--pruning.allocation is {allocation!r}; choose one of {', '.join(ALLOCATIONS)}"
        raise PruningError(msg)


def _cost_of(graph: ChannelGraph, target: Target) -> Cost:
    if target.unit == "ms":
        msg = "a target in milliseconds needs a cost in milliseconds: that of a latency table"
        raise PruningError(msg)
    return costs.parameters(graph) if target.unit == "params" else costs.macs(graph)


def _posed(
    graph: ChannelGraph,
    scores: Scores,
    target: Target | float,
    limits: Limits,
    dense: Dense | None,
    left: float,
    cost: Cost | None,
) -> tuple[Target, Dense, Search]:
    """The question in full, with what was left to defaults."""
    target = target if isinstance(target, Target) else Target(target)
    cost = _cost_of(graph, target) if cost is None else cost
    dense = Dense.of(graph) if dense is None else dense
    if target.unit == "ms" and dense.milliseconds is None:
        dense = replace(dense, milliseconds=costs.total(cost, graph.nothing()))
    steps = Steps(graph, scores, bounds(graph, limits, dense.widths, left, cost.step))
    return target, dense, Search(steps, cost)


def _check_reachable(graph: ChannelGraph, search: Search, target: Target, limits: Limits, dense: Dense) -> None:
    if not graph.groups:
        msg = (
            f"nothing in this network can be removed (operations not understood: {graph.not_understood or 'none'}); "
            "take another --model.arch or --model.encoder, or train it as it is with --pruning.target 1"
        )
        raise PruningError(msg)
    budget, tolerance = target.budget(dense), TOLERANCE * dense.cost(target.unit)
    least, most = search.total(search.steps.length), search.total(search.steps.forced)
    if least > budget + tolerance:
        steps = f" in multiples of {limits.round_to}" if limits.round_to > 1 else ""
        others = ", or protect less" if limits.protected or limits.floors else ""
        msg = (
            f"target {target} cannot be met: with at least {limits.floor:.0%} of each layer kept{steps} the "
            f"least is {target.value_of(least, dense):.3f}; raise --pruning.target or lower "
            f"--pruning.limits.floor{others}"
        )
        raise PruningError(msg)
    if most < budget - tolerance:
        msg = (
            f"target {target} cannot be met: the ceilings leave at most {target.value_of(most, dense):.3f}; lower "
            "--pruning.target or raise --pruning.limits.ceiling"
        )
        raise PruningError(msg)


def _near(search: Search, choice: Ints, window: Window) -> Ints:
    """The choice itself if it lies within the window, else the nearest to the budget that can be found."""
    budget = window.most
    if window.least <= search.total(choice) <= budget:
        return choice
    # From both sides: below the budget, and above it by as little as one chunk more makes.
    above = give_back(search, choice, search.steps.mean, _above(search, choice, budget))
    starts = [choice, take_more(search, above, budget)]
    found = [other for start in starts for other in (start, *_one_back(search, start))]
    return min(found, key=lambda other: abs(search.total(other) - budget))


def _above(search: Search, choice: Ints, budget: float) -> float:
    """The least cost above the budget that one chunk more would make."""
    after = search.after(choice, search.last_chunks(choice), 1)
    return float(after[after > budget].min(initial=np.inf))


def _one_back(search: Search, choice: Ints) -> list[Ints]:
    """The choice with one chunk back, for each group that may have one."""
    groups = search.steps.group[search.last_chunks(choice)]
    return [choice - (np.arange(len(choice)) == group) for group in groups]
