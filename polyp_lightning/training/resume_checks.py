"""Is what a checkpoint holds of a run's progress whole? Asked before anything of it is taken up."""

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from polyp_lightning.common.errors import ANOTHER_CHECKPOINT, ConfigError, join_names

# Of no run: a count of epochs or steps that is larger would never be reached again.
_HUGE = 2**40
# A schedule that fails later than this is not found.
_REHEARSED = 10_000


def check_resumable(checkpoint: Mapping[str, Any], trainer: Trainer) -> None:
    """Refuses to go on with a run of which the checkpoint does not hold everything.

    Args:
        checkpoint: what was read.
        trainer: the one that is to go on.

    Raises:
        ConfigError: it holds weights only, or its record of epochs or cuts is damaged.
    """
    if "optimizer_states" not in checkpoint or "loops" not in checkpoint:
        msg = (
            "the checkpoint holds weights only, so that its run can't be resumed; start a new run from it with "
            "--model.init_from instead of --ckpt_path"
        )
        raise ConfigError(msg)
    places = {name: checkpoint.get(name) for name in ("loops", "callbacks", "optimizer_states", "lr_schedulers")}
    kinds = (dict, dict, list, list)
    odd = [name for (name, value), kind in zip(places.items(), kinds, strict=True) if not isinstance(value, kind)]
    odd = odd or [name for name, state in checkpoint["callbacks"].items() if not isinstance(state, dict)]
    odd = odd or _odd_progress(checkpoint, trainer)
    scaler, wanted = type(trainer.precision_plugin).__qualname__, trainer.precision_plugin.state_dict()
    # Of another precision's run it is not read.
    odd = odd or ([scaler] if wanted and scaler in checkpoint and _odd_one(checkpoint[scaler], wanted, scaler) else [])
    if odd:
        msg = (
            f"the checkpoint's record of its epochs or of its cuts is damaged ({odd[0]}), so that its run can't be "
            f"resumed; {ANOTHER_CHECKPOINT}"
        )
        raise ConfigError(msg)


def drop_progress(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """Takes out what only training needs, so that nothing of it can keep a network from being evaluated."""
    for name in ("loops", "optimizer_states", "lr_schedulers", type(trainer.precision_plugin).__qualname__):
        checkpoint.pop(name, None)
    callbacks = checkpoint.get("callbacks")
    found = callbacks.items() if isinstance(callbacks, dict) else ()
    checkpoint["callbacks"] = {name: state for name, state in found if isinstance(state, dict)}


def check_same_optimizer(trainer: Trainer, stored: Any, states: Sequence[Any]) -> None:
    """Another optimizer's state would be taken up without a word, its options included.

    Args:
        trainer: after its optimizers were made.
        stored: the names of the checkpoint's optimizers; older ones hold none.
        states: theirs.

    Raises:
        ConfigError: this run has others.
    """
    names = [str(name) for name in stored] if isinstance(stored, list) else []
    own = [type(optimizer).__name__ for optimizer in trainer.optimizers]
    sizes, wanted = _sizes(states), _sizes([optimizer.state_dict() for optimizer in trainer.optimizers])
    if (names and names != own) or (sizes and sizes != wanted):
        msg = (
            f"the checkpoint's optimizer is {join_names(names) or 'unknown'} over {sizes} parameters, but this run has "
            f"{join_names(own)} over {wanted}; keep --model.optimizer, or start it afresh with "
            "--model.resume_optimizer false"
        )
        raise ConfigError(msg)


def _sizes(states: Sequence[Any]) -> list[list[int]]:
    """Of the groups of parameters; empty where there are none such."""
    try:
        return [[len(group["params"]) for group in state["param_groups"]] for state in states]
    except (LookupError, TypeError):
        return []


def rehearse(trainer: Trainer, states: Sequence[Any], schedules: Sequence[Any], step: int) -> None:
    """Takes copies of the optimizers and schedules through the next steps, from the states that a checkpoint holds.

    What a state has to look like is the optimizer's own business, so it is asked itself.

    Args:
        trainer: after its optimizers were made.
        states: of the optimizers.
        schedules: of the learning-rate schedulers.
        step: how many steps were made.

    Raises:
        ConfigError: they do not fit.
    """
    plans = [config.scheduler for config in trainer.lr_scheduler_configs]
    optimizers, plans = copy.deepcopy((trainer.optimizers, plans))
    # What is loaded is not copied, and the step would change it.
    states, schedules = copy.deepcopy((states, schedules))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for optimizer, state in zip(optimizers, states, strict=True):
                optimizer.load_state_dict(state)
                _check_shares(optimizer)
                _rehearse_step(optimizer)
            for plan, state in zip(plans, schedules, strict=True):
                _rehearse_schedule(plan, state, step)
            # With what the schedules have set.
            for optimizer in optimizers:
                _rehearse_step(optimizer)
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")[:200]
        msg = (
            f"the checkpoint's optimizer or learning-rate schedule is damaged or belongs to another one "
            f"({type(error).__name__}: {first}); keep --model.optimizer and --model.lr_scheduler, start both afresh "
            f"with --model.resume_optimizer false, or {ANOTHER_CHECKPOINT}"
        )
        raise ConfigError(msg) from error


def _check_shares(optimizer: Optimizer) -> None:
    """Beyond [0, 1) powers of these divide by zero or overflow in some later step."""
    for group in optimizer.param_groups:
        named = [group[name] for name in ("momentum", "base_momentum", "max_momentum") if name in group]
        if not all(0 <= share < 1 for share in [*named, *group.get("betas", ())]):
            msg = f"momentum of {[*named, *group.get('betas', ())]}"
            raise ValueError(msg)


def _rehearse_step(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def _rehearse_schedule(plan: Any, state: Any, step: int) -> None:
    if odd := _odd_one(state, plan.state_dict(), "lr_schedulers", exact=False):
        msg = f"{odd} is {type(state).__name__}"
        raise TypeError(msg)
    plan.load_state_dict(state)
    epoch = getattr(plan, "last_epoch", 0)
    if not 0 <= epoch <= step:
        msg = f"last_epoch is {epoch} after {step} steps"
        raise ValueError(msg)
    if isinstance(plan, ReduceLROnPlateau):
        plan.step(0.0)
        return
    # A cycle ends, and who goes on longer is told so elsewhere.
    end = getattr(plan, "total_steps", _REHEARSED) - epoch
    for _ in range(min(end, _REHEARSED)):
        plan.step()


def _odd_progress(checkpoint: Mapping[str, Any], trainer: Trainer) -> list[str]:
    loops, wanted = checkpoint["loops"], trainer.fit_loop.state_dict()
    if odd := _odd_one(loops.get("fit_loop"), wanted, "fit_loop"):
        return [odd]
    steps = loops["fit_loop"]["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    counted = {
        "epoch": loops["fit_loop"]["epoch_progress"]["current"]["completed"],
        "global_step": steps["total"]["completed"],
    }
    # By type first: a damaged file may hold a tensor there.
    return [key for key, count in counted.items() if type(checkpoint.get(key)) is not int or checkpoint[key] != count]


def _odd_one(found: Any, wanted: Any, name: str, *, exact: bool = True) -> str | None:
    """The first place at which a nested value differs in keys, lengths or types from another; None without one.

    Args:
        found: from a file.
        wanted: of the kind that it should be.
        name: of the place.
        exact: integers are counts, and no float stands for them.
    """
    places: list[tuple[Any, Any, str]] = []
    if isinstance(wanted, dict):
        if not isinstance(found, dict) or found.keys() != wanted.keys():
            return name
        places = [(found[key], value, f"{name}.{key}") for key, value in wanted.items()]
    elif isinstance(wanted, (list, tuple)):
        if not isinstance(found, (list, tuple)) or len(found) != len(wanted):
            return name
        places = [(mine, value, f"{name}.{i}") for i, (mine, value) in enumerate(zip(found, wanted, strict=True))]
    elif not _alike(found, wanted, exact=exact):
        return name
    return next((odd for place in places if (odd := _odd_one(*place, exact=exact))), None)


def _alike(found: Any, wanted: Any, *, exact: bool) -> bool:
    if isinstance(wanted, (bool, str)):
        return type(found) is type(wanted) and (found == wanted or isinstance(wanted, bool))
    if isinstance(wanted, (int, float)):
        kinds: tuple[type, ...] = (type(wanted),) if exact else (int, float)
        return type(found) in kinds and (not exact or 0 <= found < (_HUGE if type(wanted) is int else math.inf))
    return exact or type(found) is type(wanted) or found is None or wanted is None
