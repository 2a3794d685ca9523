"""Which network of a LightningModule to prune, and what it is called with: seen in the first training batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._dynamo import OptimizedModule
from torch.utils.hooks import RemovableHandle

from polyp_lightning.callbacks.replay import on_device
from polyp_lightning.common.errors import ConfigError, nearest
from polyp_lightning.common.modes import evaluation_mode
from polyp_lightning.common.options import option
from polyp_lightning.pruning import Example

# A network holds this share of the trainable parameters; what holds less than the rest is no rival.
_NEARLY_ALL = 0.9
_RIVAL = 0.02


@dataclass(frozen=True)
class Call:
    """A submodule that was called.

    Attributes:
        name: as ``named_modules`` has it; ``""`` is the LightningModule itself.
        caller: the module inside whose call it happened; None for a call from a step.
        example: what it was called with, without values.
    """

    name: str
    caller: str | None
    example: Example


class CallWatch:
    """Notes which submodules are called, from where and with what, until it is closed.

    Args:
        module: the LightningModule.
        wraps: whether its own first call is a strategy's way into ``training_step``, and no forward pass.
    """

    def __init__(self, module: nn.Module, *, wraps: bool = False) -> None:
        self.calls: list[Call] = []
        self._inside: list[str] = []
        self._wraps = wraps
        self._handles: list[RemovableHandle] = []
        for name, part in module.named_modules():
            if any(parameter.requires_grad for parameter in part.parameters()):
                self._handles += _watch(part, name, self._enter, self._leave)

    def close(self) -> None:
        """Takes the hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _enter(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self._wraps and name == "" and not self.calls:
            self._wraps = False
            return
        caller = self._inside[-1] if self._inside else None
        if not any((call.name, call.caller) == (name, caller) for call in self.calls):
            self.calls.append(Call(name, caller, Example(args, kwargs).without_values(torch.float32)))
        self._inside.append(name)

    def _leave(self, name: str) -> None:
        if self._inside and self._inside[-1] == name:
            self._inside.pop()


def _watch(
    part: nn.Module, name: str, enter: Callable[..., None], leave: Callable[[str], None]
) -> list[RemovableHandle]:
    # A copy of the module has these hooks too.
    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module is part:
            enter(name, args, kwargs)

    def after(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if module is part:
            leave(name)

    return [part.register_forward_pre_hook(before, with_kwargs=True), part.register_forward_hook(after)]


def find_net(module: nn.Module, calls: Sequence[Call], wanted: str | None) -> Call:
    """The call of the network to prune.

    Args:
        module: the LightningModule.
        calls: what the first training batch called.
        wanted: the submodule's name; None for the one that holds nearly all trainable parameters.

    Raises:
        ConfigError: there are several that could be meant, or none; it lists them.
    """
    if wanted is None:
        callers: dict[str, str | None] = {}
        for call in calls:
            callers.setdefault(call.name, call.caller)
        wanted = choose_net(callers, trainable(module))
    name = inside_compiled(module, wanted)
    found = next((call for call in calls if call.name == name), None)
    if found is None:
        called = ", ".join(repr(call.name) for call in calls if call.caller in (None, "")) or "no submodule"
        msg = (
            f"{option('pruning.module', wanted)} is not called by a training step, which calls {called}; give one of "
            f"these for {option('pruning.module')}"
        )
        raise ConfigError(msg)
    return found


def trainable(module: nn.Module) -> dict[str, int]:
    """Trainable parameters by submodule, those without left out."""
    counts = {
        name: sum(p.numel() for p in part.parameters() if p.requires_grad) for name, part in module.named_modules()
    }
    return {name: count for name, count in counts.items() if count}


def choose_net(callers: Mapping[str, str | None], sizes: Mapping[str, int]) -> str:
    """The submodule that a step calls and that holds nearly all trainable parameters, or the module itself.

    Args:
        callers: by submodule that was called, the one inside whose call that happened.
        sizes: trainable parameters by submodule.

    Raises:
        ConfigError: two that are called could be meant, or none.

    >>> choose_net({"": None, "net": "", "net.head": "net"}, {"": 100, "net": 100, "net.head": 5})
    'net'
    >>> choose_net({"": None, "body": "", "head": ""}, {"": 100, "body": 60, "head": 40})
    ''
    """
    whole = sizes.get("", 0)
    level = [name for name, caller in callers.items() if caller is None and name in sizes]
    if level == [""]:
        # forward() of the module: does it only hand on to one network?
        inside = [name for name, caller in callers.items() if caller == "" and name in sizes]
        holders = [name for name in inside if sizes[name] >= _NEARLY_ALL * whole]
        return holders[0] if holders else ""
    best = max(level, key=lambda name: sizes[name], default="")
    rivals = [name for name in level if sizes[name] > _RIVAL * whole]
    if not level or len(rivals) > 1 or sizes[best] < _NEARLY_ALL * whole:
        named = ", ".join(f"{name or 'the module itself'!r} ({sizes[name]:,})" for name in level) or "none"
        msg = (
            f"which network is to be pruned? A training step calls these submodules with trainable parameters, of "
            f"{whole:,}: {named}; name one with {option('pruning.module')}, or let the step call one network that "
            "holds them all"
        )
        raise ConfigError(msg)
    return best


def inside_compiled(module: nn.Module, name: str) -> str:
    """The name of the network itself where ``torch.compile`` has wrapped it.

    Raises:
        ConfigError: there is no such submodule.
    """
    try:
        part = module.get_submodule(name)
    except AttributeError as error:
        names = [known for known, _ in module.named_modules() if known and known.count(".") < 2]
        msg = f"{option('pruning.module', name)}: the module has no such submodule. {nearest(name, names)}"
        raise ConfigError(msg) from error
    inner = f"{name}._orig_mod".removeprefix(".")
    return inside_compiled(module, inner) if isinstance(part, OptimizedModule) else name


@torch.no_grad()
def rehearse(module: nn.Module, given: Any) -> list[Call]:
    """The submodules that a forward pass of the whole module calls; none if it does not run.

    Args:
        module: the LightningModule.
        given: its ``example_input_array``: a tensor, a tuple of positional arguments, or a dict of keyword arguments.
    """
    watch = CallWatch(module)
    try:
        example = Example.of(given)
        with evaluation_mode(module):
            on_device(example, next(module.parameters()).device).call(module)
    except Exception:
        # It may be out of date: the first training batch will tell.
        return []
    finally:
        watch.close()
    return watch.calls
