"""When to cut, and how far."""

from dataclasses import dataclass
from typing import Literal, get_args

from polyp_lightning.errors import ConfigError

Shape = Literal["linear", "cubic", "one_shot"]


@dataclass(frozen=True)
class Schedule:
    """Cuts at the start of epochs ``start``, ``start + every``, … up to ``end``, from the dense network to ``target``.

    Attributes:
        target: share of the dense MACs left after the last cut, in (0, 1]; 1 means no cut at all.
        start: epoch (from 0) of the first cut; at least 1, since scores are gathered in the epochs before.
        end: latest epoch of a cut, reached where ``every`` divides the way from ``start``; then comes the fine-tuning
        tail.
        every: epochs between cuts.
        shape: ``linear``, ``cubic`` (fast at first; Zhu & Gupta 2017, arXiv 1710.01878) or ``one_shot`` (all at
        ``start``).
    """

    target: float
    start: int
    end: int
    every: int = 1
    shape: Shape = "cubic"

    def __post_init__(self) -> None:
        """Refuse what can't be."""
        faults = [
            (not 0 < self.target <= 1, f"target is {self.target}; it is a share of the dense MACs in (0, 1]"),
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
        if self.target == 1:
            return ()
        return (self.start,) if self.shape == "one_shot" else tuple(range(self.start, self.end + 1, self.every))

    def target_at(self, epoch: int) -> float | None:
        """Share of the dense MACs to cut to at the start of ``epoch``; None where there is no cut.

        >>> Schedule(target=0.25, start=2, end=6, every=2, shape="linear").target_at(4)
        0.5
        >>> Schedule(target=0.25, start=2, end=6, every=2).target_at(3) is None
        True
        """
        if epoch not in self.epochs:
            return None
        progress = (self.epochs.index(epoch) + 1) / len(self.epochs)
        if progress == 1:
            return self.target
        left = 1 - progress if self.shape == "linear" else (1 - progress) ** 3
        return self.target + (1 - self.target) * left
