"""What the pruning callback checks before a run, and in the checkpoint of one that goes on."""

from typing import Any, Literal, get_args

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities import rank_zero_warn

from polyp_lightning.callbacks.either_lightning import is_exactly
from polyp_lightning.callbacks.monitored import Mode
from polyp_lightning.checkpoints.stages import StageRecord
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.options import option
from polyp_lightning.pruning.budget import Dense

Check = Literal["first", "always", "never"]


def check_options(scoring: int, recalibration: int, check: str, mode: str) -> None:
    """Validates options of the callback.

    Raises:
        ConfigError: naming what is allowed.
    """
    faults = [
        (scoring < 1, "scoring_batches", f"is {scoring}; give 1 or more"),
        (recalibration < 0, "recalibration_batches", f"is {recalibration}; give 0 (none) or more"),
        (check not in get_args(Check), "check", f"is {check!r}; choose one of {', '.join(get_args(Check))}"),
        (mode not in get_args(Mode), "mode", f"is {mode!r}; choose max or min"),
    ]
    for wrong, name, what in faults:
        if wrong:
            msg = f"{option(f'pruning.{name}')} {what}"
            raise ConfigError(msg)


def check_criterion(state: Any, criterion: str) -> None:
    """Checks that a run goes on with the criterion that it began with.

    Raises:
        ConfigError: the checkpoint's run had another one.
    """
    scored_by = state.get("scored_by") if isinstance(state, dict) else None
    if scored_by not in (None, criterion):
        msg = (
            f"the checkpoint comes from a run with {option('pruning.criterion', scored_by)}, not {criterion}; a run "
            "that goes on keeps its criterion (to prune its network by another one, begin a new run with its weights"
            f"{' from ' + option('model.init_from') if option('model.init_from').startswith('--') else ''})"
        )
        raise ConfigError(msg)


def check_stages(history: list[StageRecord], dense: Dense | None) -> None:
    """Checks that there is a first stage and each cut makes the next; a run that has not begun has none.

    Raises:
        ValueError: stages are missing.
    """
    if not history and dense is None:
        return
    stages, begun = [row.stage for row in history], [(row.epoch, row.step) for row in history]
    if not history or dense is None or stages != list(range(len(history))) or begun != sorted(set(begun)):
        msg = f"its {len(history)} stages are not whole"
        raise ValueError(msg)


def warn_of_early_stopping(trainer: Trainer) -> None:
    """Warns of Lightning's own EarlyStopping, which counts while the network is cut."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        # Not its subclasses: one of them counts in the tail only.
        if is_exactly(callback, EarlyStopping):
            rank_zero_warn(
                "EarlyStopping takes the dip after a cut for the end, and may stop before the last cut; take "
                "polyp_lightning.callbacks.TailEarlyStopping, which counts after it"
            )
