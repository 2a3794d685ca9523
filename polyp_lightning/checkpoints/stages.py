"""What is known of each pruning stage: the rows of the Dice-against-GMACs table.

A stage is the time between two cuts: stage 0 is the dense network, stage k follows the k-th cut.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from polyp_lightning.common.plain import check_fields

# The scores' names in records that were written before any metric could be recorded.
_OLD_NAMES = {f"dice_{moment}": f"score_{moment}" for moment in ("before", "after", "end", "best")}


@dataclass
class StageRecord:
    """One row of the Dice-against-GMACs table; plain values only, so that it can live in a checkpoint.

    Attributes:
        stage: 0 for the dense network, k after the k-th cut.
        epoch: the epoch (from 0) in which the stage began: at its start where cuts are counted in epochs.
        gmacs: 10⁹ multiply-accumulates of one image, as ptflops counts them (with one per value that a bias is added
            to).
        share: MACs as a share of the dense network's, in [0, 1]; both as the channel graph counts them (without
            biases), which the budget is kept by.
        params: parameters that the forward pass uses.
        widths: filters kept per block (a top-level part of the network, such as ``encoder.layer3``).
        layers: output filters of every convolution, by module name.
        score_before: the metric's value at the last validation before the cut that began the stage; None for stage 0.
        score_after: Dice on the validation images right after that cut and its batch-norm recalibration, where the
            module says how to find it; None for stage 0.
        score_end: the metric at the stage's last validation so far; None until there has been one.
        score_best: the best value of the stage so far.
        removed: components removed by the cut that began the stage.
        metric: name of the metric in the scores, as it is logged; empty where none is recorded.
        step: steps of the optimizer that had been made when the stage began.
        criterion: by which the cut chose.
        unit: of the target: ``macs`` and ``params`` as shares of the dense network's, ``gmacs`` or ``ms``.
        asked: the most that the cut was to leave, in this unit; None for stage 0.
        left: what it did leave, in this unit; None for stage 0.
        gone: filters removed by the cut, by module name; only layers that lost some.
        frozen: filters that no cut takes, by reason and module name; of the dense network alone.
    """

    stage: int
    epoch: int
    gmacs: float
    share: float
    params: int
    widths: dict[str, int]
    layers: dict[str, int]
    score_before: float | None = None
    score_after: float | None = None
    score_end: float | None = None
    score_best: float | None = None
    removed: int = 0
    metric: str = ""
    step: int = 0
    criterion: str = ""
    unit: str = ""
    asked: float | None = None
    left: float | None = None
    gone: dict[str, int] = field(default_factory=dict)
    frozen: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def frozen_share(self) -> float:
        """Share of the convolutions' filters that no cut takes."""
        stay = {name: count for layers in self.frozen.values() for name, count in layers.items()}
        return sum(stay.get(name, 0) for name in self.layers) / max(sum(self.layers.values()), 1)

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
        named = {_OLD_NAMES.get(key, key): value for key, value in values.items()}
        return check_fields(cls(**{key: value for key, value in named.items() if key in known}))


def join_layers(layers: Collection[str]) -> str:
    """Names the first of several layers, and how many others there are.

    >>> join_layers(["a"]), join_layers(["a", "b", "c"])
    ('a', 'a and 2 more')
    """
    first, *others = layers
    return first + (f" and {len(others)} more" if others else "")


BEST, END, CUT = "best of the stage", "end of the stage", "right after the cut"


def dice_series(history: Sequence[StageRecord]) -> dict[str, list[tuple[float, float]]]:
    """Returns the points (GMACs, validation Dice) of each line of the curve; a line without a point is left out."""
    named = {
        BEST: [(row.gmacs, row.score_best) for row in history if row.score_best is not None],
        END: [(row.gmacs, row.score_end) for row in history if row.score_end is not None],
        CUT: [(row.gmacs, row.score_after) for row in history if row.score_after is not None],
    }
    return {name: points for name, points in named.items() if points}
