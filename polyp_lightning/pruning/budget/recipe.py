"""From scores to what is removed, whatever the target is measured in."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.budget import Allocation, Cost, Dense, Limits, Target, Timer, select, select_for_time
from polyp_lightning.pruning.budget.geometry import layer_calls
from polyp_lightning.pruning.budget.latency import LatencyTable, TableCost
from polyp_lightning.pruning.budget.profiling import cut_copy, measure_table
from polyp_lightning.pruning.budget.selection import Scores
from polyp_lightning.pruning.graph import ChannelGraph, Removed


@dataclass(frozen=True)
class FrameTimer:
    """What milliseconds are measured with.

    The time that counts is always that of a whole cut network. A table of layer times only makes the widths follow
    what the backend is fast at; without one they follow the MACs.

    Attributes:
        timer: the backend.
        table: file of a latency table, measured and written where there is none; None to do without.
    """

    timer: Timer
    table: Path | None = None

    def dense_ms(self, net: nn.Module, graph: ChannelGraph) -> float:
        """Milliseconds per frame of a network as it is."""
        return self.timer(cut_copy(net, graph, graph.nothing()), _frame(graph))

    def cost(self, net: nn.Module, graph: ChannelGraph) -> Cost | None:
        """The table's predicted milliseconds; None without a table.

        Raises:
            PruningError: the table was measured under other conditions, or is damaged.
        """
        if self.table is None:
            return None
        if not self.table.is_file():
            measure_table(net, graph, _frame(graph), self.timer).save(self.table)
        table = LatencyTable.load(self.table, self.timer.conditions)
        return TableCost(table, layer_calls(net, graph, _frame(graph)), graph)


@dataclass(frozen=True)
class Recipe:
    """How scores become a cut.

    Attributes:
        target: what is to be left.
        limits: what may be done to a single layer.
        allocation: how the widths are found.
        frame_timer: makes what measures milliseconds; only called for a target in milliseconds.
    """

    target: Target
    limits: Limits
    allocation: Allocation
    frame_timer: Callable[[], FrameTimer] | None = None

    def dense(self, net: nn.Module, graph: ChannelGraph) -> Dense:
        """The reference that shares are shares of, the time of a frame included where the target needs it."""
        dense = Dense.of(graph)
        return (
            replace(dense, milliseconds=self._frame_timer().dense_ms(net, graph)) if self.target.unit == "ms" else dense
        )

    def choose(
        self, net: nn.Module, graph: ChannelGraph, scores: Scores, dense: Dense | None = None, left: float = 0.0
    ) -> Removed:
        """Which components go.

        Args:
            net: the network that was traced; it is not touched.
            graph: its graph.
            scores: importance per component.
            dense: the reference of shares; by default ``net`` itself.
            left: share of the way to the target that is still to go, for a schedule.

        Raises:
            PruningError: the target cannot be met.
        """
        dense = dense or self.dense(net, graph)
        if self.target.unit != "ms":
            return select(
                graph, scores, self.target, limits=self.limits, allocation=self.allocation, dense=dense, left=left
            )
        frame_timer = self._frame_timer()
        return select_for_time(
            net,
            graph,
            scores,
            self.target.budget(dense, left),
            frame_timer.timer,
            _frame(graph),
            cost=frame_timer.cost(net, graph),
            limits=self.limits,
            allocation=self.allocation,
            dense=dense,
        ).removed

    def _frame_timer(self) -> FrameTimer:
        if self.frame_timer is None:
            msg = "a target in milliseconds needs a backend to measure with"
            raise PruningError(msg)
        return self.frame_timer()


def _frame(graph: ChannelGraph) -> tuple[int, ...]:
    """The shape of one image."""
    return (1, *graph.input_shape[1:])
