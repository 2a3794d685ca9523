"""Milliseconds per frame, as measured on the cut network."""

from polyp_lightning.pruning.budget.units.unit import Unit

MS = Unit("ms", "milliseconds", "ms", "milliseconds per frame, more than 0", cost=None)
