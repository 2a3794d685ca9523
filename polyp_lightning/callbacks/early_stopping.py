"""Early stopping of a run that prunes."""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping

from polyp_lightning.training.trainer_facts import cuts_to_come


class TailEarlyStopping(EarlyStopping):
    """Lightning's :class:`EarlyStopping` that counts only in the tail, the epochs after the last cut.

    Every cut costs Dice that the next epochs win back, and the target is reached at the last cut only: before it there
    is nothing to stop for, and the best of a larger network is no measure for a smaller one. In a run without cuts it
    counts from the first epoch.

    Args:
        monitor: the metric, as logged.
        mode: ``max`` or ``min``.
        patience: validations in the tail without a better value after which training stops.
        min_delta: by how much a value has to be better to count.
    """

    def __init__(self, monitor: str = "val/dice", mode: str = "max", patience: int = 3, min_delta: float = 0.0) -> None:
        super().__init__(monitor, mode=mode, patience=patience, min_delta=min_delta)

    def _run_early_stopping_check(self, trainer: Trainer) -> None:
        if not cuts_to_come(trainer):
            super()._run_early_stopping_check(trainer)
