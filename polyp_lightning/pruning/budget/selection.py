"""Which components to remove to meet a budget."""

import warnings
from collections.abc import Callable

import numpy as np
from torch import Tensor

from polyp_lightning.common.errors import PruningError
from polyp_lightning.common.options import option
from polyp_lightning.pruning.budget.allocation import (
    Allocation,
    Chunks,
    Ints,
    Search,
    Window,
    bring_near,
    by_importance,
    by_importance_per_cost,
)
from polyp_lightning.pruning.budget.cost import Cost, total
from polyp_lightning.pruning.budget.limits import Limits, bounds
from polyp_lightning.pruning.budget.optimal import by_predicted_loss
from polyp_lightning.pruning.budget.target import Dense, Target
from polyp_lightning.pruning.budget.units import UNITS
from polyp_lightning.pruning.criteria.base import Importance
from polyp_lightning.pruning.graph import ChannelGraph, Removed

# Share of the dense network's cost by which a cut may miss its budget.
TOLERANCE = 0.01

ALLOCATIONS: dict[Allocation, Callable[[Search, Window], Ints]] = {
    "global": by_importance,
    "per_cost": by_importance_per_cost,
    "optimal": by_predicted_loss,
}
_NO_LIMITS = Limits()


def select(
    graph: ChannelGraph,
    importance: Importance | Tensor,
    target: Target | float,
    *,
    limits: Limits = _NO_LIMITS,
    allocation: Allocation = "global",
    dense: Dense | None = None,
    left: float = 0.0,
    cost: Cost | None = None,
) -> Removed:
    """Chooses the components whose removal meets the target.

    A schedule passes the dense network's values as ``dense`` and the way that is left; it then gets to intermediate
    budgets between the dense network and the target.

    Args:
        graph: coupled channels and their cost.
        importance: one number per component, an array or tensor of shape ``(graph.size,)``; ``importance[0]`` is not
            used.
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
        PruningError: the target cannot be met, a limit makes no sense, or the importances are not finite.
    """
    if isinstance(importance, Tensor):
        importance = importance.detach().double().cpu().numpy()
    _check(graph, importance, allocation)
    target, dense, search = _pose(graph, importance, target, limits, dense, left, cost)
    budget, tolerance = target.budget(dense, left), TOLERANCE * dense.cost(target.unit)
    forced = search.chunks.forced
    if not forced.any() and search.total(forced) <= budget * (1 + 1e-12):
        return graph.nothing()
    if left == 0:
        _check_reachable(graph, search, target, limits, dense)
    window = Window(budget - tolerance, budget)
    choice = bring_near(search, ALLOCATIONS[allocation](search, window), window)
    # On the way, ceilings may be ahead of the schedule.
    if left == 0 or (choice != forced).any():
        _warn_of_a_miss(search.total(choice), budget, target, dense, limits)
    return search.chunks.removed(choice)


def check_reachable(
    graph: ChannelGraph,
    target: Target | float,
    *,
    limits: Limits = _NO_LIMITS,
    dense: Dense | None = None,
    cost: Cost | None = None,
) -> None:
    """Checks that a target can be met, whatever the importances; arguments as for :func:`select`.

    Raises:
        PruningError: nothing can be removed, the limits keep more than the target, or a limit makes no sense.
    """
    target, dense, search = _pose(graph, np.zeros(graph.size), target, limits, dense, 0.0, cost)
    _check_reachable(graph, search, target, limits, dense)


def least_cost(graph: ChannelGraph, limits: Limits, dense: Dense, cost: Cost) -> float:
    """Returns the least cost that the limits allow."""
    chunks = Chunks(graph, np.zeros(graph.size), bounds(graph, limits, dense.widths, step=cost.step))
    return Search(chunks, cost).total(chunks.length)


def _check(graph: ChannelGraph, importance: Importance, allocation: str) -> None:
    if importance.shape != (graph.size,) or not np.isfinite(importance[1:]).all():
        msg = f"importance of shape {importance.shape} or not finite; need one finite number for each of {graph.size}"
        raise PruningError(msg)
    if allocation not in ALLOCATIONS:
        msg = f"{option('pruning.allocation')} is {allocation!r}; choose one of {', '.join(ALLOCATIONS)}"
        raise PruningError(msg)


def _pose(
    graph: ChannelGraph,
    importance: Importance,
    target: Target | float,
    limits: Limits,
    dense: Dense | None,
    left: float,
    cost: Cost | None,
) -> tuple[Target, Dense, Search]:
    """Returns the question in full, with what was left to defaults."""
    target = target if isinstance(target, Target) else Target(target)
    unit = UNITS[target.unit]
    if cost is None:
        if unit.cost is None:
            msg = f"a target in {unit.quantity} needs a cost in {unit.quantity}: that of a latency table"
            raise PruningError(msg)
        cost = unit.cost(graph)
    dense = dense or Dense.of(graph)
    if unit.cost is None and unit.quantity not in dense.costs:
        dense = Dense({**dense.costs, unit.quantity: total(cost, graph.nothing())}, dense.widths)
    chunks = Chunks(graph, importance, bounds(graph, limits, dense.widths, left, cost.step))
    return target, dense, Search(chunks, cost)


def _check_reachable(graph: ChannelGraph, search: Search, target: Target, limits: Limits, dense: Dense) -> None:
    if not graph.groups:
        msg = (
            f"nothing in this network can be removed (operations not understood: {graph.not_understood or 'none'}); "
            f"take another network, or train this one as it is with {option('pruning.target', 1)}"
        )
        raise PruningError(msg)
    budget, tolerance = target.budget(dense), TOLERANCE * dense.cost(target.unit)
    least, most = search.total(search.chunks.length), search.total(search.chunks.forced)
    if least > budget + tolerance:
        steps = f" in multiples of {limits.round_to}" if limits.round_to > 1 else ""
        others = ", or protect less" if limits.protected or limits.floors else ""
        msg = (
            f"target {target} cannot be met: with at least {limits.floor:.0%} of each layer kept{steps} the "
            f"least is {target.value_of(least, dense):.3f}; raise {option('pruning.target')} or lower "
            f"{option('pruning.limits.floor')}{others}"
        )
        raise PruningError(msg)
    if most < budget - tolerance:
        msg = (
            f"target {target} cannot be met: the ceilings leave at most {target.value_of(most, dense):.3f}; lower "
            f"{option('pruning.target')} or raise {option('pruning.limits.ceiling')}"
        )
        raise PruningError(msg)


def _warn_of_a_miss(got: float, budget: float, target: Target, dense: Dense, limits: Limits) -> None:
    """Warns only: a miss is not worth a night's training, and the table shows what was reached."""
    if abs(got - budget) <= TOLERANCE * dense.cost(target.unit):
        return
    remedy = f"; lower {option('pruning.limits.round_to')}" if limits.round_to > 1 else ""
    warnings.warn(
        f"the nearest to a budget of {target.value_of(budget, dense):.3f} (target {target}) that can be cut is "
        f"{target.value_of(got, dense):.3f}: the layers are too narrow for steps of {limits.round_to} filters{remedy}",
        stacklevel=3,
    )
