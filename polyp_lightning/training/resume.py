"""The training progress that a checkpoint holds: epochs, optimizers, schedules, random numbers."""

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from torch.utils._pytree import keystr, tree_flatten_with_path

from polyp_lightning.checkpoints.record import Record, restore_rng
from polyp_lightning.common.errors import ANOTHER_CHECKPOINT, ConfigError, PolypError, join_names

# No run has as many epochs or steps; a larger count would keep training forever.
_HUGE = 2**40


class Progress:
    """The training progress of a checkpoint: checked before Lightning takes it up, and completed afterwards.

    Args:
        checkpoint: what was read. Its optimizer and schedule are taken out where they are to start afresh.
        record: what it says.
        trainer: the one that is to go on.
        with_optimizer: whether the optimizer and its schedule go on too; a schedule that starts afresh does not cover
            the ``skipped_steps``.
    """

    def __init__(self, checkpoint: dict[str, Any], record: Record, trainer: Trainer, *, with_optimizer: bool) -> None:
        check_resumable(checkpoint, trainer)
        self.with_optimizer = with_optimizer
        self.skipped_steps = 0 if with_optimizer else int(checkpoint["global_step"])
        self._optimizers, self._rng = record.optimizers, record.rng
        if not with_optimizer:
            # Lightning restores as many of each as it finds.
            checkpoint["optimizer_states"], checkpoint["lr_schedulers"] = [], []
        self._states: list[Any] | None = checkpoint["optimizer_states"] if with_optimizer else None
        self._schedules: list[Any] = checkpoint["lr_schedulers"]

    def check_states(self, trainer: Trainer) -> None:
        """Checks the states of optimizers and schedules against those of this run, once they were made."""
        if self._states is not None:
            _check_same_optimizer(trainer, self._optimizers)
            _rehearse_step(trainer, self._states, self._schedules)
        # They are as large as the weights.
        self._states = None

    def begin(self, trainer: Trainer, steps: float) -> None:
        """Restores the random numbers, last of all that is restored; checks that the schedule covers the steps.

        Raises:
            ConfigError: the random numbers are damaged, or the run is longer than its one-cycle schedule.
        """
        restore_rng(self._rng)
        for scheduler in (config.scheduler for config in trainer.lr_scheduler_configs):
            if isinstance(scheduler, OneCycleLR) and scheduler.total_steps < steps:
                msg = (
                    f"the checkpoint's one-cycle schedule ends after {scheduler.total_steps} steps, but this run has "
                    f"{steps}: keep --trainer.max_epochs, start the schedule afresh with --model.resume_optimizer "
                    "false, or choose another --model.lr_scheduler in the first run"
                )
                raise ConfigError(msg)


def check_resumable(checkpoint: Mapping[str, Any], trainer: Trainer) -> None:
    """Checks that a checkpoint holds all that training needs to go on.

    Lightning takes up counters without looking: a string or a negative number there fails epochs later, or never ends.

    Raises:
        ConfigError: it holds weights only, or its record of epochs or cuts is damaged.
    """
    if "optimizer_states" not in checkpoint or "loops" not in checkpoint:
        msg = (
            "the checkpoint holds weights only, so its run can't be resumed; start a new run from it with "
            "--model.init_from instead of --ckpt_path"
        )
        raise ConfigError(msg)
    kinds = {"loops": dict, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list}
    odd = [name for name, kind in kinds.items() if not isinstance(checkpoint.get(name), kind)]
    odd = odd or [name for name, state in checkpoint["callbacks"].items() if not isinstance(state, dict)]
    odd = odd or _odd_counters(checkpoint, trainer)
    if odd:
        msg = (
            f"the checkpoint's record of its epochs or of its cuts is damaged ({odd[0]}), so its run can't be "
            f"resumed; {ANOTHER_CHECKPOINT}"
        )
        raise ConfigError(msg)


def drop_progress(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """Removes what only training needs: damage there must not keep a network from being evaluated."""
    for name in ("loops", "optimizer_states", "lr_schedulers", _scaler_key(trainer)):
        checkpoint.pop(name, None)
    callbacks = checkpoint.get("callbacks")
    found = callbacks.items() if isinstance(callbacks, dict) else ()
    checkpoint["callbacks"] = {name: state for name, state in found if isinstance(state, dict)}


@contextmanager
def explain_damage() -> Iterator[None]:
    """Turns an error of the block into a ConfigError about the checkpoint's optimizer or schedule."""
    try:
        yield
    except PolypError:
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")[:200]
        msg = (
            f"the checkpoint's optimizer or learning-rate schedule is damaged or belongs to another one "
            f"({type(error).__name__}: {first}); keep --model.optimizer and --model.lr_scheduler, start both afresh "
            f"with --model.resume_optimizer false, or {ANOTHER_CHECKPOINT}"
        )
        raise ConfigError(msg) from error


def _check_same_optimizer(trainer: Trainer, stored: Any) -> None:
    """Compares the names of the optimizers: PyTorch loads another one's options without a word."""
    names = [str(name) for name in stored] if isinstance(stored, list) else []
    own = [type(optimizer).__name__ for optimizer in trainer.optimizers]
    # Older checkpoints hold no names.
    if names and names != own:
        msg = (
            f"the checkpoint's optimizer is {join_names(names)}, but this run has {join_names(own)}; keep "
            "--model.optimizer, or start it afresh with --model.resume_optimizer false"
        )
        raise ConfigError(msg)


def _rehearse_step(trainer: Trainer, states: Sequence[Any], schedules: Sequence[Any]) -> None:
    """Makes one step with copies of the optimizers and schedules, from a checkpoint's states.

    A state that lacks a value or has one of a wrong shape loads, and fails in the first step. What it has to look like
    is the optimizer's own business, and so it is asked itself.
    """
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    # The states too: an optimizer goes on with the tensors that it was given.
    optimizers, schedulers, states = copy.deepcopy((trainer.optimizers, schedulers, states))
    with explain_damage(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.load_state_dict(state)
            _check_options(optimizer)
            _step(optimizer)
        for scheduler, state in zip(schedulers, schedules, strict=True):
            scheduler.load_state_dict(copy.deepcopy(state))
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(0.0)
            # A run may be resumed at the end of its cycle.
            elif scheduler.last_epoch < getattr(scheduler, "total_steps", math.inf):
                scheduler.step()
        # With what the schedules have set.
        for optimizer in optimizers:
            _step(optimizer)


def _check_options(optimizer: Optimizer) -> None:
    """Checks the options that fail only in some later step: powers of momentum, and what a schedule sets one day."""
    for group in optimizer.param_groups:
        shares = [group[name] for name in ("momentum", "base_momentum", "max_momentum") if name in group]
        if not all(0 <= share < 1 for share in [*shares, *group.get("betas", ())]):
            msg = f"momentum of {[*shares, *group.get('betas', ())]}"
            raise ValueError(msg)
        several = [name for name, value in group.items() if isinstance(value, Tensor) and value.numel() != 1]
        if several:
            msg = f"{several[0]} is not a single number"
            raise ValueError(msg)


def _step(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def _scaler_key(trainer: Trainer) -> str:
    """The checkpoint's key for the gradient scaler."""
    return type(trainer.precision_plugin).__qualname__


def _odd_counters(checkpoint: Mapping[str, Any], trainer: Trainer) -> list[str]:
    """The places of counters that no run can have; empty where all are right."""
    key, scaler = _scaler_key(trainer), trainer.precision_plugin.state_dict()
    wanted = {"fit_loop": trainer.fit_loop.state_dict(), "epoch": 0, "global_step": 0}
    found = {name: checkpoint.get(name) for name in wanted} | {"fit_loop": checkpoint["loops"].get("fit_loop")}
    # The scaler's state of another precision is not read.
    if scaler and key in checkpoint:
        wanted[key], found[key] = scaler, checkpoint[key]
    expected, leaves = (
        {keystr(path): leaf for path, leaf in tree_flatten_with_path(tree)[0]} for tree in (wanted, found)
    )
    odd = sorted(expected.keys() ^ leaves.keys())
    return odd or [place for place, value in leaves.items() if not _is_counter(value, expected[place])]


def _is_counter(value: Any, like: Any) -> bool:
    """Whether a value from a file has the type of another, and is a number within reason."""
    return type(value) is type(like) and (not isinstance(value, (int, float)) or 0 <= value < _HUGE)
