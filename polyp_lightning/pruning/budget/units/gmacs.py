"""Billions of multiply-accumulates for one image of the traced size."""

from polyp_lightning.pruning.budget.units.macs import macs
from polyp_lightning.pruning.budget.units.unit import Unit

GMACS = Unit("gmacs", "macs", "GMACs", "10⁹ MACs for one image at the traced size, more than 0", macs, scale=1e9)
