"""What is known of each pruning stage: the rows of the Dice-against-GMACs table.

A stage is the time between two cuts: stage 0 is the dense network, stage k follows the k-th cut.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

from polyp_lightning.common.plain import check_fields


@dataclass
class StageRecord:
    """One row of the Dice-against-GMACs table; plain numbers only, so that it can live in a checkpoint.

    Attributes:
        stage: 0 for the dense network, k after the k-th cut.
        epoch: the epoch (from 0) at whose start the stage began.
        gmacs: 10⁹ multiply-accumulates of one image at the run's image size.
        share: ``gmacs`` as a share of the dense network's, in [0, 1].
        params: parameters that the forward pass uses.
        widths: filters kept per block (a top-level part of the network, such as ``encoder.layer3``).
        layers: output filters of every convolution, by module name.
        dice_before: validation Dice of the last validated epoch before the cut that began the stage; None for stage 0.
        dice_after: validation Dice right after that cut and its batch-norm recalibration; None for stage 0.
        dice_end: validation Dice of the stage's last epoch so far; None until an epoch has been validated.
        dice_best: the best validation Dice of the stage so far.
        removed: components removed by the cut that began the stage.
    """

    stage: int
    epoch: int
    gmacs: float
    share: float
    params: int
    widths: dict[str, int]
    layers: dict[str, int]
    dice_before: float | None = None
    dice_after: float | None = None
    dice_end: float | None = None
    dice_best: float | None = None
    removed: int = 0

    def as_dict(self) -> dict[str, Any]:
        """This row as plain Python values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "StageRecord":
        """The inverse of :meth:`as_dict`; unknown keys are dropped, so that a newer file can still be shown.

        Raises:
            TypeError: a value is missing or of another type.
        """
        known = {f.name for f in fields(cls)}
        return check_fields(cls(**{k: v for k, v in values.items() if k in known}))
