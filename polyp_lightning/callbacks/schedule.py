"""When to cut, and how much of the way is to go at each cut."""

from dataclasses import dataclass
from typing import Literal, get_args

from polyp_lightning.common.errors import ConfigError

Shape = Literal["linear", "cubic", "one_shot"]


@dataclass(frozen=True)
class Schedule:
    """Cuts at the start of epochs ``start``, ``start + every``, … up to ``end``, from the dense network to a target.

    Attributes:
        start: epoch (from 0) of the first cut; at least 1, since scores are gathered in the epochs before.
        end: latest epoch of a cut, reached where ``every`` divides the way from ``start``; then comes the fine-tuning
            tail.
        every: epochs between cuts.
        shape: ``linear``, ``cubic`` (fast at first; Zhu & Gupta 2017, arXiv 1710.01878) or ``one_shot`` (all at
            ``start``).
    """

    start: int
    end: int
    every: int = 1
    shape: Shape = "cubic"

    def __post_init__(self) -> None:
        """Refuse what can't be."""
        faults = [
            (self.start < 1, f"start is {self.start}; at least one epoch has to be scored before a cut: 1 or more"),
            (self.end < self.start, f"end is {self.end}, before start ({self.start}); give end of at least start"),
            (self.every < 1, f"every is {self.every}; give 1 or more epochs"),
            (self.shape not in get_args(Shape), f"shape is {self.shape!r}; choose one of {', '.join(get_args(Shape))}"),
        ]
        for wrong, what in faults:
            if wrong:
                msg = f"--pruning.{what}"
                raise ConfigError(msg)

    @property
    def epochs(self) -> tuple[int, ...]:
        """The epochs at whose start there is a cut."""
        return (self.start,) if self.shape == "one_shot" else tuple(range(self.start, self.end + 1, self.every))

    def left_at(self, epoch: int) -> float | None:
        """Share of the way from dense to target that is still to go after the cut at ``epoch``; None without a cut.

        >>> Schedule(start=2, end=6, every=2, shape="linear").left_at(6)
        0.0
        >>> Schedule(start=1, end=2).left_at(1)
        0.125
        >>> Schedule(start=2, end=6, every=2).left_at(3) is None
        True
        """
        if epoch not in self.epochs:
            return None
        left = 1 - (self.epochs.index(epoch) + 1) / len(self.epochs)
        return left if self.shape == "linear" else left**3
