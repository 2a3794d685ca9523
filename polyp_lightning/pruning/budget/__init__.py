"""Which components to remove to meet a budget: targets in several units, limits, costs, and the choice itself."""

from polyp_lightning.pruning.budget.allocation import Allocation
from polyp_lightning.pruning.budget.cost import Cost, ProductCost, total
from polyp_lightning.pruning.budget.latency import LatencyTable, TableCost
from polyp_lightning.pruning.budget.limits import Limits
from polyp_lightning.pruning.budget.preview import Preview, PreviewRow, preview
from polyp_lightning.pruning.budget.profiling import measure_table
from polyp_lightning.pruning.budget.recipe import Recipe, build_recipe
from polyp_lightning.pruning.budget.selection import TOLERANCE, check_reachable, select
from polyp_lightning.pruning.budget.target import Dense, Target, choose_target
from polyp_lightning.pruning.budget.timed import FrameTimer, Timed, select_for_time
from polyp_lightning.pruning.budget.timer import Timer, TorchTimer
from polyp_lightning.pruning.budget.units import UNITS, Unit
from polyp_lightning.pruning.budget.units.macs import macs
from polyp_lightning.pruning.budget.units.params import parameters

__all__ = [
    "TOLERANCE",
    "UNITS",
    "Allocation",
    "Cost",
    "Dense",
    "FrameTimer",
    "LatencyTable",
    "Limits",
    "Preview",
    "PreviewRow",
    "ProductCost",
    "Recipe",
    "TableCost",
    "Target",
    "Timed",
    "Timer",
    "TorchTimer",
    "Unit",
    "build_recipe",
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
