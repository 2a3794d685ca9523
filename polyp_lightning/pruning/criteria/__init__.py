"""Importance criteria: one file each. A new one is a class with a name, listed here and nowhere else."""

import inspect
from typing import Any

from polyp_lightning.common.errors import ConfigError, nearest
from polyp_lightning.common.options import option
from polyp_lightning.pruning.criteria.base import Batches, Criterion, Importance, Loss
from polyp_lightning.pruning.criteria.bn_scale import BatchNormScale
from polyp_lightning.pruning.criteria.fpgm import FPGM
from polyp_lightning.pruning.criteria.magnitude import MagnitudeL1, MagnitudeL2
from polyp_lightning.pruning.criteria.oracle import Oracle
from polyp_lightning.pruning.criteria.random import RandomOrder
from polyp_lightning.pruning.criteria.taylor import TaylorFO
from polyp_lightning.pruning.criteria.taylor_filter import TaylorFilter
from polyp_lightning.pruning.criteria.taylor_weight import TaylorWeight
from polyp_lightning.pruning.criteria.uniform import UniformWidth

CRITERIA: dict[str, type[Criterion]] = {
    criterion.name: criterion
    for criterion in (
        *(TaylorFO, TaylorWeight, TaylorFilter, Oracle),
        *(BatchNormScale, MagnitudeL1, MagnitudeL2, FPGM, UniformWidth, RandomOrder),
    )
}
"""Every criterion by the name that it goes by on the command line."""

__all__ = ["CRITERIA", "Batches", "Criterion", "Importance", "Loss", "TaylorFO", "build_criterion"]


def build_criterion(name: str, **options: Any) -> Criterion:
    """Makes a criterion by name.

    Args:
        name: a key of :data:`CRITERIA`.
        options: those of its constructor.

    Raises:
        ConfigError: there is no such criterion, or it has no such option or value.

    >>> build_criterion("taylor", reduction="square").name
    'taylor'
    """
    if name not in CRITERIA:
        msg = f"{option('pruning.criterion', repr(name))} is unknown. {nearest(name, CRITERIA)}"
        raise ConfigError(msg)
    allowed = list(inspect.signature(CRITERIA[name]).parameters)
    unknown = [given for given in options if given not in allowed]
    if unknown:
        msg = f"criterion {name!r} has no option {', '.join(unknown)}; it has {', '.join(allowed) or 'none'}"
        raise ConfigError(msg)
    return CRITERIA[name](**options)
