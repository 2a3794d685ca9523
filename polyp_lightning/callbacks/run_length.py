"""How long a Trainer's run is, and where in it one is."""

from math import ceil, inf

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn

from polyp_lightning.callbacks.schedule import Schedule, check_reached


def check_run(trainer: Trainer, schedule: Schedule, *, with_data: bool, resumed_at: int | None = None) -> None:
    """Refuses a schedule whose last cut a run does not reach.

    Args:
        trainer: the one that trains.
        schedule: when to cut.
        with_data: whether the training loader is known, and with it the length of an epoch.
        resumed_at: in a resumed run, the moment of the last cut that was made; None in a new one.

    Raises:
        ConfigError: naming what to change.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    epochs = inf if trainer.max_epochs in (None, -1) else float(trainer.max_epochs)
    steps = inf if trainer.max_steps == -1 else float(trainer.max_steps)
    if not with_data:
        check_reached(schedule, epochs, steps if schedule.interval == "step" else inf, inf)
        return
    batches = trainer.num_training_batches
    per_epoch = inf if batches == inf else float(max(1, ceil(batches / trainer.accumulate_grad_batches)))
    if not trainer.lightning_module.automatic_optimization:
        # It may step as often as it likes.
        per_epoch, steps = inf, steps if schedule.interval == "step" else inf
    check_reached(schedule, epochs, steps, per_epoch)


def is_last_batch(trainer: Trainer) -> bool:
    """Whether the batch that was just trained on is the last of its epoch."""
    return bool(trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)


def is_fitting(trainer: Trainer) -> bool:
    """False in sanity checks and in ``trainer.validate``, whose data and weights may be others."""
    return trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
