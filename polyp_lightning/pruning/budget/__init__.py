"""Which components to remove so that a budget is met: targets, costs, limits, and the choice itself."""

from polyp_lightning.pruning.budget.allocation import Allocation
from polyp_lightning.pruning.budget.cost import Cost, ProductCost, macs, parameters, total
from polyp_lightning.pruning.budget.limits import Limits
from polyp_lightning.pruning.budget.selection import TOLERANCE, check_reachable, select
from polyp_lightning.pruning.budget.target import Dense, Target, Unit, chosen_target

__all__ = [
    "TOLERANCE",
    "Allocation",
    "Cost",
    "Dense",
    "Limits",
    "ProductCost",
    "Target",
    "Unit",
    "check_reachable",
    "chosen_target",
    "macs",
    "parameters",
    "select",
    "total",
]
