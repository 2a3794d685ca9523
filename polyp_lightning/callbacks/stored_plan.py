"""The architecture of a pruned network in every checkpoint of a LightningModule that knows nothing of pruning."""

from pathlib import Path
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from polyp_lightning.callbacks.averaging import averaged_copies, places_of
from polyp_lightning.checkpoints.key import KEY, SCHEMA
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.pruning.architecture import describe, rebuild

Module = TypeVar("Module", bound=LightningModule)

NOTE = "pruned; load it with polyp_lightning.callbacks.load_from_checkpoint(YourModule, path), or TaylorFOPruning"
"""Stands among a pruned network's weights, so that loading them into a dense one says what to do."""


class PlanKeeper:
    """Takes the place of a module's checkpoint hooks: writes the plan of its network, and takes the shapes of one.

    It stays on the module, which is saved after a fit too, and also without the state of callbacks. A module that
    stores its architecture itself is left to do so.

    Args:
        module: the LightningModule.

    Attributes:
        target: name of the network; None until it is known.
        dense: the plan of the network before its first cut.
    """

    def __init__(self, module: LightningModule) -> None:
        self.module = module
        self.target: str | None = None
        self.dense: dict[str, Any] | None = None

    @classmethod
    def of(cls, module: LightningModule) -> "PlanKeeper":
        """The keeper of a module, which gets one if it has none."""
        found = getattr(vars(module).get("on_save_checkpoint"), "__self__", None)
        if isinstance(found, cls):
            return found
        keeper = cls(module)
        module.on_save_checkpoint = keeper.save  # type: ignore[method-assign]
        module.on_load_checkpoint = keeper.load  # type: ignore[method-assign]
        return keeper

    def begin(self, target: str) -> None:
        """Notes which network is pruned, and what it is before its first cut."""
        if self.target != target or self.dense is None:
            self.target, self.dense = target, describe(self.module.get_submodule(target))

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Adds the plan, after what the module itself adds."""
        type(self.module).on_save_checkpoint(self.module, checkpoint)
        if KEY in checkpoint or self.target is None:
            return
        plan = describe(self.module.get_submodule(self.target))
        checkpoint[KEY] = {"schema": SCHEMA, "plan": plan, "module": self.target}
        if plan != self.dense:
            checkpoint["state_dict"][NOTE] = torch.zeros(0)

    def load(self, checkpoint: dict[str, Any]) -> None:
        """Gives the module the checkpoint's shapes, then lets it do its own part."""
        stored = stored_plan(checkpoint)
        if stored is not None:
            self.begin(stored[0])
            take_shapes(self.module, checkpoint)
        elif self.target is not None and self.dense is not None and KEY not in checkpoint:
            # From before the network was pruned, or from elsewhere.
            _reshape(self.module, self.target, self.dense, checkpoint)
        type(self.module).on_load_checkpoint(self.module, checkpoint)
        trainer = self.module._trainer
        if trainer is not None and (self.target is not None or KEY in checkpoint):
            self._reshape_averages(self.target if self.target is not None else "net")

    def _reshape_averages(self, target: str) -> None:
        net = self.module.get_submodule(target)
        for copied in averaged_copies(self.module.trainer):
            rebuild(copied.get_submodule(target), describe(net), dict(net.state_dict()))


def stored_plan(checkpoint: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The network's name and plan that a :class:`PlanKeeper` has stored; None where it has not.

    Raises:
        ConfigError: they are damaged, or of another version's layout.
    """
    found = checkpoint.get(KEY)
    if not isinstance(found, dict) or "module" not in found:
        return None
    if not isinstance(found["module"], str) or found.get("schema") != SCHEMA or not isinstance(found.get("plan"), dict):
        msg = f"the checkpoint's plan of its pruned network is damaged, or of another layout than {SCHEMA}"
        raise ConfigError(msg)
    return found["module"], found["plan"]


def take_shapes(module: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Gives a module's network, and averages of it among its submodules, the shapes of a checkpoint."""
    stored = stored_plan(checkpoint)
    weights = checkpoint.get("state_dict")
    if stored is None or not isinstance(weights, dict):
        return
    weights.pop(NOTE, None)
    _reshape(module, *stored, checkpoint)


def _reshape(module: nn.Module, target: str, plan: dict[str, Any], checkpoint: dict[str, Any]) -> None:
    weights: dict[str, Tensor] = checkpoint["state_dict"]
    for name in places_of(module, target):
        start = f"{name}." if name else ""
        own = {key.removeprefix(start): value for key, value in weights.items() if key.startswith(start)}
        rebuild(module.get_submodule(name), plan, own)


def load_from_checkpoint(cls: type[Module], path: str | Path, **options: Any) -> Module:
    """Loads a module from a checkpoint of its pruned network; of a dense one as ``cls.load_from_checkpoint`` does.

    Args:
        cls: the module's class, which need not know of pruning.
        path: the checkpoint.
        options: see ``LightningModule.load_from_checkpoint``.

    Raises:
        PruningError: the checkpoint's network is another one.
    """

    def on_load_checkpoint(self: LightningModule, checkpoint: dict[str, Any]) -> None:
        take_shapes(self, checkpoint)
        cls.on_load_checkpoint(self, checkpoint)

    # Lightning makes the module and loads its weights in one go; only a class can step in between.
    body = {"on_load_checkpoint": on_load_checkpoint, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    twin: Any = type(cls.__name__, (cls,), body)
    module: Module = twin.load_from_checkpoint(path, **options)
    module.__class__ = cls
    return module
