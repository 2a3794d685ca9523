"""From importances to what is removed, whatever the target is measured in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.budget.allocation import Allocation
from polyp_lightning.pruning.budget.cost import Cost
from polyp_lightning.pruning.budget.limits import Limits
from polyp_lightning.pruning.budget.selection import select
from polyp_lightning.pruning.budget.target import Dense, Target, choose_target
from polyp_lightning.pruning.budget.timed import FrameTimer, frame_shape, select_for_time
from polyp_lightning.pruning.budget.timer import Timer
from polyp_lightning.pruning.criteria.base import Importance
from polyp_lightning.pruning.graph import ChannelGraph, Removed


@dataclass(frozen=True)
class Recipe:
    """How importances become a cut.

    Attributes:
        target: what is to be left.
        limits: what may be done to a single layer.
        allocation: how the widths are found.
        make_timer: makes what measures milliseconds; only called for a target that is measured.
    """

    target: Target
    limits: Limits
    allocation: Allocation
    make_timer: Callable[[], FrameTimer] | None = None

    def dense(self, net: nn.Module, graph: ChannelGraph) -> Dense:
        """Returns the reference that shares are shares of, the time of a frame included where the target needs it."""
        if not self.target.is_measured:
            return Dense.of(graph)
        return Dense.of(graph, milliseconds=self._frame_timer().dense_ms(net, graph))

    def choose(
        self, net: nn.Module, graph: ChannelGraph, importance: Importance, dense: Dense | None = None, left: float = 0.0
    ) -> Removed:
        """Chooses which components go.

        Args:
            net: the network that was traced; it is not touched.
            graph: its graph.
            importance: one number per component.
            dense: the reference of shares; by default ``net`` itself.
            left: share of the way to the target that is still to go, for a schedule.

        Raises:
            PruningError: the target cannot be met.
        """
        dense = dense or self.dense(net, graph)
        limits, allocation = self.limits, self.allocation
        if not self.target.is_measured:
            return select(graph, importance, self.target, limits=limits, allocation=allocation, dense=dense, left=left)
        frame_timer, ms = self._frame_timer(), self.target.budget(dense, left)
        timer, shape, cost = frame_timer.timer, frame_shape(graph), frame_timer.cost(net, graph)
        return select_for_time(
            net, graph, importance, ms, timer, shape, cost=cost, limits=limits, allocation=allocation, dense=dense
        ).removed

    def predicted_ms(self, net: nn.Module, graph: ChannelGraph) -> Cost | None:
        """Returns the cost by which widths follow a measured target; None where they follow the MACs."""
        return self._frame_timer().cost(net, graph) if self.target.is_measured else None

    def _frame_timer(self) -> FrameTimer:
        if self.make_timer is None:
            msg = "a target in milliseconds needs a backend to measure with"
            raise PruningError(msg)
        return self.make_timer()


def build_recipe(
    target: float | str,
    *,
    limits: Limits,
    allocation: Allocation,
    make_timer: Callable[[], Timer],
    latency_table: str | None,
    **others: float | None,
) -> Recipe:
    """Builds the recipe of a set of options.

    Args:
        target: share of the MACs, or a value with its unit.
        limits: what may be done to a single layer.
        allocation: how the widths are found.
        make_timer: makes the backend that measures milliseconds; only called for a target that is measured.
        latency_table: file of a latency table by which the widths are chosen for a measured target.
        others: values of the options ``target_<unit>``; see :func:`choose_target`.
    """
    table = Path(latency_table) if latency_table else None
    return Recipe(choose_target(target, **others), limits, allocation, lambda: FrameTimer(make_timer(), table))
