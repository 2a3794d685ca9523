"""Measures a latency table."""

import copy
import statistics
from collections.abc import Sequence

import numpy as np
from torch import nn

from polyp_lightning.pruning.budget.cost import total
from polyp_lightning.pruning.budget.geometry import Geometry, LayerCall, layer_calls
from polyp_lightning.pruning.budget.latency import LatencyTable, LayerTimes, TableCost
from polyp_lightning.pruning.budget.timer import Timer
from polyp_lightning.pruning.graph import ChannelGraph, Removed
from polyp_lightning.pruning.surgery import remove

STEPS = (16, 8, 4, 1)
# Widths between the multiples of each step.
_PROBES = {16: (24, 40, 56, 72), 8: (20, 28, 44, 60), 4: (18, 27, 41, 62)}
_POINTS = 5


def measure_table(
    net: nn.Module, graph: ChannelGraph, input_shape: Sequence[int], timer: Timer, step: int | None = None
) -> LatencyTable:
    """Measures what is needed to predict the time of every network that a cut of ``net`` can lead to.

    Takes one measurement for each layer geometry and point of its grid of widths (up to 25), some for the step, and two
    of whole networks.

    Args:
        net: the dense network, which is not touched.
        graph: its graph.
        input_shape: (1, C, H, W): one frame.
        timer: the machine and backend.
        step: widths are as fast as the next multiple of this; by default found by measuring.
    """
    step = preferred_step(timer) if step is None else step
    calls = layer_calls(net, graph, input_shape)
    layers = {
        geometry.key: _layer_times(geometry, widths, timer, step) for geometry, widths in _widest(calls, graph).items()
    }
    bare = LatencyTable(layers, step, 0.0, 0.0, dict(timer.conditions))
    fixed, per_value = _rest(net, graph, calls, bare, input_shape, timer)
    return LatencyTable(layers, step, fixed, per_value, dict(timer.conditions))


def preferred_step(timer: Timer) -> int:
    """Finds the largest of 16, 8 and 4 whose multiples are no slower than the widths below them; 1 where there is none.

    Measured on 3×3 convolutions with 64 inputs at 28², each width in turn with the multiple above it.
    """
    geometry = Geometry("conv", (28, 28), (3, 3), (1, 1), (1, 1), (1, 1))
    for step in STEPS[:-1]:
        ratios = []
        for width in _PROBES[step]:
            above = -(-width // step) * step
            odd, even = (timer(*_eval(geometry, w, 64)) for w in (width, above))
            ratios.append(odd / even)
        # The median, and two per cent for the timer: one interrupted measurement must not decide.
        if statistics.median(ratios) >= 0.98:
            return step
    return STEPS[-1]


def _eval(geometry: Geometry, first: int, second: int) -> tuple[nn.Module, tuple[int, ...]]:
    layer, shape = geometry.layer(first, second)
    return layer.eval(), shape


def _widest(calls: list[LayerCall], graph: ChannelGraph) -> dict[Geometry, tuple[list[int], list[int]]]:
    """Returns per geometry the dense widths that occur along both dimensions."""
    found: dict[Geometry, tuple[list[int], list[int]]] = {}
    for call in calls:
        firsts, seconds = found.setdefault(call.geometry, ([], []))
        first, second = graph.axes[call.weight][:2]
        firsts.append(len(first))
        # A width that cannot change needs one point.
        seconds.append(len(second) if (second != 0).any() else -len(second))
    return found


def _layer_times(geometry: Geometry, widths: tuple[list[int], list[int]], timer: Timer, step: int) -> LayerTimes:
    unit = max(step, geometry.per_group, geometry.groups)
    first, second = _grid(widths[0], unit), _grid(widths[1], step)
    return LayerTimes(first, second, [[timer(*_eval(geometry, a, b)) for b in second] for a in first])


def _grid(widths: list[int], step: int) -> list[int]:
    """Returns a few multiples of the step between it and the widest, denser where layers are narrow."""
    widest, fixed = max(abs(w) for w in widths), sorted({-w for w in widths if w < 0})
    if len(fixed) == len(set(widths)):
        return fixed
    between = np.geomspace(min(step, widest), widest, _POINTS)
    return sorted({min(int(-(-width // step) * step), widest) for width in between} | {widest})


def _rest(
    net: nn.Module, graph: ChannelGraph, calls: list[LayerCall], bare: LatencyTable, shape: Sequence[int], timer: Timer
) -> tuple[float, float]:
    """Measures the time outside of layers, fixed and per value put out, on the dense and a halved network."""
    cost = TableCost(bare, calls, graph)
    values, missing = [], []
    for removed in (graph.nothing(), _halved(graph)):
        values.append(_values_put_out(calls, graph, removed))
        missing.append(timer(cut_copy(net, graph, removed), shape) - total(cost, removed))
    slope = max(0.0, (missing[0] - missing[1]) / max(values[0] - values[1], 1.0))
    return missing[0] - slope * values[0], slope


def _halved(graph: ChannelGraph) -> Removed:
    removed = graph.nothing()
    for group in graph.groups:
        removed[group.components[: len(group.components) // 2]] = True
    return removed


def _values_put_out(calls: list[LayerCall], graph: ChannelGraph, removed: Removed) -> float:
    return float(sum(c.positions * int((~removed[graph.axes[c.weight][c.output_dim]]).sum()) for c in calls))


def cut_copy(net: nn.Module, graph: ChannelGraph, removed: Removed) -> nn.Module:
    """Returns a copy on the CPU in eval mode with the cut made; ``net`` is not touched."""
    twin = copy.deepcopy(net).to("cpu").eval()
    if removed.any():
        remove(twin, graph, removed)
    return twin
