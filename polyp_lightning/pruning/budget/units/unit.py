"""What every unit of a budget says of itself."""

from collections.abc import Callable
from dataclasses import dataclass

from polyp_lightning.pruning.budget.cost import Cost
from polyp_lightning.pruning.graph import ChannelGraph


@dataclass(frozen=True)
class Unit:
    """A unit in which a target is given.

    Attributes:
        name: what stands behind the value of ``target``.
        quantity: what it measures, as the dense network's values are stored in checkpoints; units may share one.
        words: what comes behind a target's value in messages.
        allowed: which values make sense, for messages.
        cost: the quantity as a function of a network's widths; None where only measuring the cut network tells.
        is_share: whether values are relative to the dense network, in (0, 1].
        scale: how much of the quantity a value of 1 is, where values are no shares.
    """

    name: str
    quantity: str
    words: str
    allowed: str
    cost: Callable[[ChannelGraph], Cost] | None
    is_share: bool = False
    scale: float = 1.0
