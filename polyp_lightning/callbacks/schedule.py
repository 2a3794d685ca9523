"""When to cut, and how much of the way is to go at each cut."""

from dataclasses import dataclass
from math import ceil, inf
from typing import Literal, get_args

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.options import option

Shape = Literal["linear", "cubic", "one_shot"]
Interval = Literal["epoch", "step"]


@dataclass(frozen=True)
class Schedule:
    """Cuts at ``start``, ``start + every``, … up to ``end``, from the dense network to a target.

    Attributes:
        start: epoch or step (from 0) of the first cut; at least 1, since filters are scored before.
        end: latest cut, reached where ``every`` divides the way from ``start``; then comes the fine-tuning tail.
        every: epochs or steps between cuts.
        shape: ``linear``, ``cubic`` (fast at first; Zhu & Gupta 2017, arXiv 1710.01878) or ``one_shot`` (all at
            ``start``).
        interval: ``epoch``, where cuts come at the start of epochs, or ``step``, where they come before the optimizer's
            step of that number (``trainer.global_step``).
    """

    start: int
    end: int
    every: int = 1
    shape: Shape = "cubic"
    interval: Interval = "epoch"

    def __post_init__(self) -> None:
        """Validates the fields."""
        faults = [
            (self.interval not in get_args(Interval), "interval", f"is {self.interval!r}; choose epoch or step"),
            (
                self.start < 1,
                "start",
                f"is {self.start}; a cut needs a scored {self.interval} before it: 1 or more",
            ),
            (self.end < self.start, "end", f"is {self.end}, before start ({self.start}); give end of at least start"),
            (self.every < 1, "every", f"is {self.every}; give 1 {self.interval} or more"),
            (self.shape not in get_args(Shape), "schedule", f"is {self.shape!r}; choose {', '.join(get_args(Shape))}"),
        ]
        for wrong, name, what in faults:
            if wrong:
                msg = f"{option(f'pruning.{name}')} {what}"
                raise ConfigError(msg)

    @property
    def moments(self) -> range:
        """The epochs at whose start there is a cut, or the steps before which there is one."""
        return range(self.start, (self.start if self.shape == "one_shot" else self.end) + 1, self.every)

    @property
    def last(self) -> int:
        """The moment of the last cut."""
        return self.moments[-1]

    def left_at(self, moment: int) -> float | None:
        """Share of the way from dense to target that is still to go after the cut at a moment; None without a cut.

        >>> Schedule(start=2, end=6, every=2, shape="linear").left_at(6)
        0.0
        >>> Schedule(start=1, end=2).left_at(1)
        0.125
        >>> Schedule(start=2, end=6, every=2).left_at(3) is None
        True
        """
        if moment not in self.moments:
            return None
        left = 1 - (self.moments.index(moment) + 1) / len(self.moments)
        return left if self.shape == "linear" else left**3

    def next_after(self, moment: int) -> int | None:
        """The first cut after a moment; None where there is none.

        >>> Schedule(start=2, end=6, every=2).next_after(2)
        4
        """
        later = self.moments[max(0, ceil((moment + 1 - self.start) / self.every)) :]
        return later[0] if later else None

    def latest(self, moment: int) -> int | None:
        """The last cut that is due at a moment; None before the first.

        >>> Schedule(start=2, end=6, every=2).latest(5)
        4
        """
        due = self.moments[: max(0, (moment - self.start) // self.every + 1)]
        return due[-1] if due else None


def check_reached(schedule: Schedule, epochs: float, steps: float, steps_per_epoch: float) -> None:
    """Refuses a schedule whose last cut comes after the end of training.

    Args:
        schedule: when to cut.
        epochs: after how many training ends; infinite if it is not limited.
        steps: likewise of the optimizer's.
        steps_per_epoch: infinite if the loader has no length.

    Raises:
        ConfigError: the target would be missed, or nobody can tell.
    """
    last, by_step = schedule.last, schedule.interval == "step"
    if not by_step and steps < inf and steps_per_epoch == inf:
        msg = (
            f"training ends after {steps:.0f} steps, and the training loader does not tell how many steps an epoch "
            f"has, so that cuts at epochs may never come; count {option('pruning.start')}, {option('pruning.end')} and "
            f"{option('pruning.every')} in steps with {option('pruning.interval', 'step')}, or set "
            f"{option('trainer.limit_train_batches')} to a number of batches"
        )
        raise ConfigError(msg)
    # Infinite where it is not known: no epochs, no steps.
    end = min(steps, epochs * steps_per_epoch) if by_step else min(epochs, ceil_of(steps / steps_per_epoch))
    if last >= end:
        limit = "max_steps" if steps < inf and (by_step or epochs > end) else "max_epochs"
        msg = (
            f"the last cut is at {schedule.interval} {last}, but training ends after {end:.0f} {schedule.interval}s "
            f"(0 to {end - 1:.0f}); lower {option('pruning.end')} or raise {option(f'trainer.{limit}')}"
        )
        raise ConfigError(msg)


def ceil_of(number: float) -> float:
    """Rounds up; infinity and NaN (of infinite steps in infinite epochs) are infinite."""
    return float(ceil(number)) if number < inf else inf
