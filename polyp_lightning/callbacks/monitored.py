"""Which metric is recorded beside a network's cost: the one that the run itself is judged by."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from polyp_lightning.callbacks.either_lightning import is_a

Mode = Literal["max", "min"]


@dataclass(frozen=True)
class Monitor:
    """A metric.

    Attributes:
        name: as it is logged.
        mode: whether larger values (``max``) or smaller ones (``min``) are better.
    """

    name: str
    mode: Mode

    def value(self, metrics: Mapping[str, Any]) -> float | None:
        """The metric's value; of the first validation loader where there are several."""
        found = metrics.get(self.name, metrics.get(f"{self.name}/dataloader_idx_0"))
        return None if found is None else float(found)

    def better(self, value: float, best: float | None) -> float:
        """The better of two values.

        >>> Monitor("val_loss", "min").better(0.5, 0.4), Monitor("val/dice", "max").better(0.5, None)
        (0.4, 0.5)
        """
        return value if best is None else max(value, best) if self.mode == "max" else min(value, best)


def find_monitor(callbacks: Iterable[Any]) -> Monitor | None:
    """The metric of a run's ModelCheckpoint, else of its EarlyStopping; None where neither has one."""
    callbacks = list(callbacks)
    for kind in (ModelCheckpoint, EarlyStopping):
        for callback in callbacks:
            if is_a(callback, kind) and getattr(callback, "monitor", None):
                return Monitor(callback.monitor, "min" if callback.mode == "min" else "max")
    return None
