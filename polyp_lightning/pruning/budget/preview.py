"""What a cut would do, layer by layer, without making it."""

from dataclasses import dataclass

import numpy as np

from polyp_lightning.pruning.budget.cost import Cost, Floats, full_widths, total
from polyp_lightning.pruning.budget.units import UNITS
from polyp_lightning.pruning.criteria.base import Importance
from polyp_lightning.pruning.graph import ChannelGraph, Removed


@dataclass(frozen=True)
class PreviewRow:
    """One coupled layer.

    Attributes:
        name: the layer; the first where several are coupled.
        before: its filters now.
        after: those that would be left.
        loss: predicted change of the loss: the sum of the removed importances, in the criterion's unit.
        saved: per cost, what the cut saves through this layer. A saving in a product of widths is shared out among the
            layers that cause it (the average over all proportional ways from here to there: Aumann and Shapley); the
            column adds up to the whole.
    """

    name: str
    before: int
    after: int
    loss: float
    saved: tuple[float, ...]


@dataclass(frozen=True)
class Preview:
    """What a cut would do.

    Attributes:
        rows: one per coupled layer, in the order of the network.
        units: what each entry of ``saved``, ``before`` and ``after`` counts: ``MACs``, ``parameters`` … ``ms``.
        before: per cost, what the network costs now.
        after: per cost, what it would cost.
    """

    rows: tuple[PreviewRow, ...]
    units: tuple[str, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def loss(self) -> float:
        """Predicted change of the loss by the whole cut."""
        return sum(row.loss for row in self.rows)


def preview(graph: ChannelGraph, importance: Importance, removed: Removed, milliseconds: Cost | None = None) -> Preview:
    """Describes a cut.

    Args:
        graph: coupled channels.
        importance: one number per component.
        removed: the choice to describe.
        milliseconds: a latency table's cost, where there is one.
    """
    by_quantity = {unit.quantity: unit.cost for unit in UNITS.values() if unit.cost}
    costs = [cost(graph) for cost in by_quantity.values()] + ([milliseconds] if milliseconds else [])
    saved = [_shares(graph, cost, removed) for cost in costs]
    rows = []
    for number, group in enumerate(graph.groups):
        gone = group.components[removed[group.components]]
        before = len(group.components)
        loss, parts = float(importance[gone].sum()), tuple(float(column[number]) for column in saved)
        rows.append(PreviewRow(group.name, before, before - len(gone), loss, parts))
    return Preview(
        tuple(rows),
        tuple(cost.name for cost in costs),
        tuple(total(cost, graph.nothing()) for cost in costs),
        tuple(total(cost, removed) for cost in costs),
    )


def _shares(graph: ChannelGraph, cost: Cost, removed: Removed, nodes: int = 8) -> Floats:
    """Returns per group its part of what the cut saves."""
    lost = np.zeros((len(cost.axes), len(graph.groups)))
    group_of = np.full(graph.size, -1)
    for number, group in enumerate(graph.groups):
        group_of[group.components] = number
    for row, axis in enumerate(cost.axes):
        lost[row] = np.bincount(group_of[axis[removed[axis]]], minlength=len(graph.groups))
    # Gauss's rule is exact for products of up to 16 widths.
    places, weights = np.polynomial.legendre.leggauss(nodes)
    full, gone = full_widths(cost), lost.sum(1)
    mean_slopes = sum(w / 2 * cost.slopes(full - gone * (p + 1) / 2) for p, w in zip(places, weights, strict=True))
    parts = np.asarray(mean_slopes @ lost)
    whole = total(cost, graph.nothing()) - total(cost, removed)
    # A latency table's slopes are approximate.
    return parts * whole / parts.sum() if parts.sum() > 0 else parts
