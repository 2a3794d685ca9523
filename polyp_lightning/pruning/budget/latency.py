"""A latency table: the time of every layer shape over a grid of widths, measured on one machine and backend.

The time of a network is predicted as Σ layers + the rest, where the rest (norms, activations, resizing, overhead) is a
constant plus a time per value that the layers put out; both come from measuring two whole networks. A prediction ranks
choices; that a target is met is only known from measuring the cut network, see
:func:`~polyp_lightning.pruning.budget.timed.select_for_time`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from polyp_lightning.common.errors import PruningError
from polyp_lightning.common.files import write_beside
from polyp_lightning.pruning.budget.cost import AxisIndex, Floats
from polyp_lightning.pruning.budget.geometry import LayerCall, layer_calls
from polyp_lightning.pruning.budget.timer import Conditions
from polyp_lightning.pruning.graph import ChannelGraph
from polyp_lightning.pruning.labels import Atoms

SCHEMA = 1


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds of one layer geometry.

    Attributes:
        first: widths along the weight's first dimension, rising.
        second: widths along its second dimension, rising.
        ms: one row for each of ``first``, one column for each of ``second``.
    """

    first: list[int]
    second: list[int]
    ms: list[list[float]]


@dataclass(frozen=True)
class LatencyTable:
    """What was measured; plain values.

    Attributes:
        layers: times by the geometry's key.
        step: widths are as fast as the next multiple of this.
        fixed_ms: what a frame takes apart from layers and values.
        ms_per_value: what each value that a layer puts out costs in the operations around it.
        conditions: backend, version, threads and machine.
    """

    layers: Mapping[str, LayerTimes]
    step: int
    fixed_ms: float
    ms_per_value: float
    conditions: Conditions

    def save(self, path: Path) -> None:
        """Write the table as JSON."""
        with write_beside(path) as beside:
            beside.write_text(json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path, conditions: Conditions) -> "LatencyTable":
        """Read a table that was measured under the same conditions.

        Args:
            path: a file that :meth:`save` wrote.
            conditions: those of the timer in use.

        Raises:
            PruningError: there is no such table, it is damaged, or it was measured under other conditions.
        """
        table = cls._parsed(path)
        names = sorted({*table.conditions, *conditions})
        other = [n for n in names if table.conditions.get(n) != conditions.get(n)]
        if other:
            pairs = "; ".join(f"{n} {table.conditions.get(n)!r} instead of {conditions.get(n)!r}" for n in other)
            msg = f"the latency table {path} was measured under other conditions: {pairs}; measure a table here"
            raise PruningError(msg)
        return table

    @classmethod
    def _parsed(cls, path: Path) -> "LatencyTable":
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            schema = values.pop("schema")
            layers = {key: LayerTimes(**times) for key, times in values.pop("layers").items()}
            table = cls(layers=layers, **values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            msg = f"{path} is not a latency table: {error}; measure one"
            raise PruningError(msg) from error
        if schema != SCHEMA:
            msg = f"the latency table {path} has schema {schema!r}; this version reads schema {SCHEMA}"
            raise PruningError(msg)
        return table


class TableCost:
    """Predicted milliseconds per frame, as a :class:`~polyp_lightning.pruning.budget.cost.Cost`.

    Args:
        table: measured times.
        calls: the layers that a frame runs through.
        graph: the components along their weights.

    Raises:
        PruningError: the table lacks a layer of the network.
    """

    name = "ms"

    def __init__(self, table: LatencyTable, calls: list[LayerCall], graph: ChannelGraph) -> None:
        missing = sorted({call.geometry.key for call in calls} - table.layers.keys())
        if missing:
            msg = f"the latency table has no times for {missing[0]} ({len(missing)} such); measure one at this size"
            raise PruningError(msg)
        index = AxisIndex()
        self._terms = [
            (index.add(graph.axes[c.weight][0]), index.add(graph.axes[c.weight][1]), _Surface(table, c.geometry.key))
            for c in calls
        ]
        outputs = [index.add(graph.axes[call.weight][call.output_dim]) for call in calls]
        self.axes: tuple[Atoms, ...] = tuple(index.axes)
        self._fixed, self.step = table.fixed_ms, table.step
        per_value = [table.ms_per_value * call.positions for call in calls]
        self._per_width: Floats = np.bincount(outputs, per_value, len(self.axes)).astype(np.float64)

    @classmethod
    def of(cls, table: LatencyTable, net: nn.Module, graph: ChannelGraph, input_shape: Sequence[int]) -> "TableCost":
        """The cost of what can become of ``net``, with (1, C, H, W) for one frame; a copy of it runs once."""
        return cls(table, layer_calls(net, graph, input_shape), graph)

    def of_widths(self, widths: Floats) -> Floats:
        """See :meth:`~polyp_lightning.pruning.budget.cost.Cost.of_widths`."""
        # Along values the time is taken to be proportional: memory has no steps.
        total = self._fixed + self._per_width @ widths
        whole = widths.astype(np.int64)
        for first, second, surface in self._terms:
            total = total + surface.at(whole[first], whole[second])
        return np.asarray(total)

    def slopes(self, widths: Floats) -> Floats:
        """See :meth:`~polyp_lightning.pruning.budget.cost.Cost.slopes`: over a step up and down."""
        slopes = self._per_width.copy()
        whole = widths.astype(np.int64)
        around = np.array([self.step, -self.step])
        for first, second, surface in self._terms:
            a, b = whole[first], whole[second]
            for row, high_low in ((first, surface.at(a + around, b)), (second, surface.at(a, b + around))):
                slopes[row] += max(0.0, float(high_low[0] - high_low[1])) / (2 * self.step)
        return slopes


class _Surface:
    """Bilinear interpolation of one layer's times, with widths rounded up to what is as fast."""

    def __init__(self, table: LatencyTable, key: str) -> None:
        times = table.layers[key]
        # A wider layer that was measured faster is noise, or a width that is never worse to take.
        values = np.asarray(times.ms, np.float64)
        values = np.minimum.accumulate(values[::-1], 0)[::-1]
        self._values = np.minimum.accumulate(values[:, ::-1], 1)[:, ::-1]
        self._lookups = [_lookup(times.first, table.step), _lookup(times.second, table.step)]

    def at(self, first: Any, second: Any) -> Floats:
        (i, s), (j, t) = (
            (low[(where := np.clip(width, 0, len(low) - 1))], share[where])
            for (low, share), width in zip(self._lookups, (first, second), strict=True)
        )
        v, k, n = self._values, np.minimum(i + 1, len(self._values) - 1), np.minimum(j + 1, self._values.shape[1] - 1)
        return np.asarray((1 - s) * ((1 - t) * v[i, j] + t * v[i, n]) + s * ((1 - t) * v[k, j] + t * v[k, n]))


def _lookup(grid: list[int], step: int) -> tuple[Any, Floats]:
    """Per width, the grid point at or below it and how far it is towards the next one."""
    every = np.arange(grid[-1] + 1)
    # A width that was measured is known better than by the step.
    widths = np.where(np.isin(every, grid), every, np.minimum(-(-every // step) * step, grid[-1]))
    where = np.interp(widths, grid, np.arange(len(grid), dtype=np.float64))
    low = np.floor(where).astype(np.int64)
    return low, where - low
