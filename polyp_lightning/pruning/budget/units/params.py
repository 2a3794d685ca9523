"""The share of the dense network's parameters."""

from polyp_lightning.pruning.budget.cost import ProductCost
from polyp_lightning.pruning.budget.units.unit import Unit
from polyp_lightning.pruning.graph import ChannelGraph


def parameters(graph: ChannelGraph) -> ProductCost:
    """Elements of the parameters that the forward pass reaches; those without dimensions are not counted."""
    names = sorted(graph.executed - graph.buffers)
    return ProductCost(((graph.axes[name], 1.0) for name in names), "parameters")


PARAMS = Unit(
    "params",
    "parameters",
    "of the parameters",
    "the share of the dense parameters to keep, in (0, 1]",
    parameters,
    is_share=True,
)
