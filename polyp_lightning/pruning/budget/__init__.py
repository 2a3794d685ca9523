"""Which components to remove so that a budget is met: targets, costs, limits, and the choice itself."""

from polyp_lightning.pruning.budget.allocation import Allocation
from polyp_lightning.pruning.budget.cost import Cost, ProductCost, macs, parameters, total
from polyp_lightning.pruning.budget.latency import LatencyTable, TableCost
from polyp_lightning.pruning.budget.limits import Limits
from polyp_lightning.pruning.budget.preview import Preview, PreviewRow, preview
from polyp_lightning.pruning.budget.profiling import measure_table
from polyp_lightning.pruning.budget.selection import TOLERANCE, check_reachable, select
from polyp_lightning.pruning.budget.target import Dense, Target, Unit, choose_target
from polyp_lightning.pruning.budget.timed import Timed, select_for_time
from polyp_lightning.pruning.budget.timer import Timer, TorchTimer

__all__ = [
    "TOLERANCE",
    "Allocation",
    "Cost",
    "Dense",
    "LatencyTable",
    "Limits",
    "Preview",
    "PreviewRow",
    "ProductCost",
    "TableCost",
    "Target",
    "Timed",
    "Timer",
    "TorchTimer",
    "Unit",
    "check_reachable",
    "choose_target",
    "macs",
    "measure_table",
    "parameters",
    "preview",
    "select",
    "select_for_time",
    "total",
]
