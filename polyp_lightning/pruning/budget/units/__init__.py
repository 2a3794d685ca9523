"""What a target can be measured in: one file each, and its line here. ``target`` then takes it: ``12 ms``."""

from polyp_lightning.pruning.budget.units.gmacs import GMACS
from polyp_lightning.pruning.budget.units.macs import MACS
from polyp_lightning.pruning.budget.units.ms import MS
from polyp_lightning.pruning.budget.units.params import PARAMS
from polyp_lightning.pruning.budget.units.unit import Unit

UNITS: dict[str, Unit] = {unit.name: unit for unit in (MACS, PARAMS, GMACS, MS)}
"""Every unit by its name; the first is what ``target`` is in."""

__all__ = ["UNITS", "Unit"]
