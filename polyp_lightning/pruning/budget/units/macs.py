"""The share of the dense network's multiply-accumulates."""

from polyp_lightning.pruning.budget.cost import ProductCost
from polyp_lightning.pruning.budget.units.unit import Unit
from polyp_lightning.pruning.graph import ChannelGraph


def macs(graph: ChannelGraph) -> ProductCost:
    """Multiply-accumulates for one image of the traced size."""
    return ProductCost(((term.axes, term.per_unit) for term in graph.macs), "MACs")


MACS = Unit("macs", "macs", "of the MACs", "the share of the dense MACs to keep, in (0, 1]", macs, is_share=True)
