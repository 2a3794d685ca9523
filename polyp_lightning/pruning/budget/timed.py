"""Meeting a time: choose by a predicted cost, measure the cut network, correct."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from polyp_lightning.common.errors import PruningError
from polyp_lightning.common.options import option
from polyp_lightning.pruning.budget.allocation import Allocation
from polyp_lightning.pruning.budget.cost import Cost, total
from polyp_lightning.pruning.budget.geometry import layer_calls
from polyp_lightning.pruning.budget.latency import LatencyTable, TableCost
from polyp_lightning.pruning.budget.limits import Limits
from polyp_lightning.pruning.budget.profiling import cut_copy, measure_table
from polyp_lightning.pruning.budget.selection import least_cost, select
from polyp_lightning.pruning.budget.target import Dense, Target
from polyp_lightning.pruning.budget.timer import Timer
from polyp_lightning.pruning.budget.units.macs import macs
from polyp_lightning.pruning.criteria.base import Importance
from polyp_lightning.pruning.graph import ChannelGraph, Removed

# Share of the target by which the measured time may miss it.
TOLERANCE = 0.05
# The search goes on until it is this near: the next measurement then is within the tolerance too.
_CLOSE = 0.02


@dataclass(frozen=True)
class FrameTimer:
    """What milliseconds per frame are measured with.

    The time that counts is always that of a whole cut network. A table of layer times only makes the widths follow
    what the backend is fast at; without one they follow the MACs.

    Attributes:
        timer: the backend.
        table: file of a latency table, measured and written where there is none; None to do without.
    """

    timer: Timer
    table: Path | None = None

    def dense_ms(self, net: nn.Module, graph: ChannelGraph) -> float:
        """Measures the milliseconds per frame of a network as it is."""
        return self.timer(cut_copy(net, graph, graph.nothing()), frame_shape(graph))

    def cost(self, net: nn.Module, graph: ChannelGraph) -> Cost | None:
        """Returns the table's predicted milliseconds; None without a table.

        Raises:
            PruningError: the table was measured under other conditions, or is damaged.
        """
        if self.table is None:
            return None
        if not self.table.is_file():
            measure_table(net, graph, frame_shape(graph), self.timer).save(self.table)
        table = LatencyTable.load(self.table, self.timer.conditions)
        return TableCost(table, layer_calls(net, graph, frame_shape(graph)), graph)


def frame_shape(graph: ChannelGraph) -> tuple[int, ...]:
    """Returns the shape of one image, (1, C, H, W)."""
    return (1, *graph.input_shape[1:])


@dataclass(frozen=True)
class Timed:
    """A choice and its measured time.

    Attributes:
        removed: one flag per component.
        ms: measured milliseconds per frame of the cut network.
        dense_ms: those of the network as it was.
        tried: (predicted cost as a share of the network's, measured ms) of each network that was measured.
    """

    removed: Removed
    ms: float
    dense_ms: float
    tried: tuple[tuple[float, float], ...]


def select_for_time(
    net: nn.Module,
    graph: ChannelGraph,
    importance: Importance,
    ms: float,
    timer: Timer,
    input_shape: Sequence[int],
    *,
    cost: Cost | None = None,
    limits: Limits | None = None,
    allocation: Allocation = "global",
    dense: Dense | None = None,
    tries: int = 6,
) -> Timed:
    """Chooses what to remove for a frame to take ``ms``, as measured on the cut network.

    Args:
        net: the network that was traced; copies of it are cut and measured, it is not touched.
        graph: its graph.
        importance: one number per component.
        ms: milliseconds per frame.
        timer: the machine and backend that count.
        input_shape: (1, C, H, W): one frame.
        cost: what widths are chosen by: a latency table's, or by default the MACs.
        limits: as for :func:`~polyp_lightning.pruning.budget.selection.select`.
        allocation: likewise.
        dense: the widths that limits are shares of; by default those of ``graph``.
        tries: cut networks that are measured at most.

    Returns:
        The measured choice nearest to ``ms``; nothing is removed where the network is fast enough. A warning says so
        where it misses by more than 5 %.

    Raises:
        PruningError: ``ms`` cannot be met.
    """
    target = Target(ms, "ms")
    dense_ms = _measure(net, graph, graph.nothing(), timer, input_shape)
    if dense_ms <= ms:
        return Timed(graph.nothing(), dense_ms, dense_ms, ())
    cost, limits = cost or macs(graph), limits or Limits()
    now = total(cost, graph.nothing())
    # In shares of whatever cost it is: only the time counts.
    here = Dense({"macs": now}, dense.widths if dense else graph.widths())
    bracket = Bracket(least_cost(graph, limits, here, cost) / now, ms, dense_ms)
    found: list[tuple[float, Removed]] = []
    for _ in range(tries):
        share = bracket.next()
        with warnings.catch_warnings():
            # What counts is the time, and that is looked at below.
            warnings.simplefilter("ignore", UserWarning)
            removed = select(
                graph, importance, Target(share), limits=limits, allocation=allocation, dense=here, cost=cost
            )
        found.append((_measure(net, graph, removed, timer, input_shape), removed))
        bracket.add(share, found[-1][0])
        if bracket.done:
            break
    best, removed = min(found, key=lambda pair: abs(pair[0] - ms))
    _check_met(best, target, limits, bracket)
    return Timed(removed, best, dense_ms, tuple(bracket.tried))


def _measure(net: nn.Module, graph: ChannelGraph, removed: Removed, timer: Timer, shape: Sequence[int]) -> float:
    """Returns the lesser of two measurements: whatever else the machine does can only slow it down."""
    twin = cut_copy(net, graph, removed)
    return min(timer(twin, shape) for _ in range(2))


class Bracket:
    """Regula falsi for a rising function that can only be measured with noise: time of a share of the cost.

    Args:
        least: the least share there is.
        wanted: milliseconds.
        dense_ms: those of share 1.
    """

    def __init__(self, least: float, wanted: float, dense_ms: float) -> None:
        self.least, self.wanted = least, wanted
        self.low: tuple[float, float] | None = None
        self.high = (1.0, dense_ms)
        self.tried: list[tuple[float, float]] = []

    @property
    def done(self) -> bool:
        """Whether it is near enough, or at its end."""
        share, ms = self.tried[-1]
        return abs(ms / self.wanted - 1) <= _CLOSE or (share <= self.least and ms > self.wanted)

    def next(self) -> float:
        """Returns the share to measure next."""
        (right, high_ms) = self.high
        # Below the first measurement, a time in proportion to the cost: cost 0 takes no time.
        left, low_ms = self.low or (0.0, 0.0)
        share = left + (right - left) * (self.wanted - low_ms) / max(high_ms - low_ms, 1e-9)
        # Away from the ends: noise must not stop the search.
        inside = min(max(share, left + 0.1 * (right - left)), right - 0.1 * (right - left))
        return min(max(inside, self.least), 1.0)

    def add(self, share: float, ms: float) -> None:
        """Notes a measurement."""
        self.tried.append((share, ms))
        if ms <= self.wanted:
            self.low = (share, ms)
        else:
            self.high = (share, ms)


def _check_met(ms: float, target: Target, limits: Limits, bracket: Bracket) -> None:
    if abs(ms / target.value - 1) <= TOLERANCE:
        return
    if ms > target.value and any(share <= bracket.least for share, _ in bracket.tried):
        msg = (
            f"target {target} cannot be met: with at least {limits.floor:.0%} of each layer kept a frame takes "
            f"{ms:.3g} ms; raise {option('pruning.target')} or lower {option('pruning.limits.floor')}"
        )
        raise PruningError(msg)
    warnings.warn(f"the nearest to target {target} that was measured takes {ms:.3g} ms", stacklevel=3)
