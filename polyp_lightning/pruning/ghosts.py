"""Ghosts: copies of networks that run without a number being computed or memory taken."""

import copy
import itertools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

_ATOMIC = frozenset({bool, int, float, str, type(None)})
_CONTAINERS = frozenset({dict, OrderedDict, set, list})
# Some releases of torch define one for modules, others leave it to Python.
_STATES = (object.__getstate__, nn.Module.__getstate__)


class Ghosts(Protocol):
    """Makes copies of networks and runs them."""

    def copy(self, net: nn.Module) -> nn.Module:
        """A copy in eval mode whose parameters and buffers take no memory."""

    def example(self, net: nn.Module, shape: Sequence[int]) -> Tensor:
        """An input of the parameters' type."""

    def running(self) -> AbstractContextManager[None]:
        """A context for calls; attention is broken down into products."""


class MetaGhosts:
    """Tensors without values on the ``meta`` device."""

    def copy(self, net: nn.Module) -> nn.Module:
        """See :class:`Ghosts`."""
        return _copy(net, "meta")

    def example(self, net: nn.Module, shape: Sequence[int]) -> Tensor:
        """See :class:`Ghosts`."""
        return torch.empty(tuple(shape), dtype=_dtype(net), device="meta")

    @contextmanager
    def running(self) -> Iterator[None]:
        """See :class:`Ghosts`."""
        with sdpa_kernel(SDPBackend.MATH):
            yield


class FakeGhosts:
    """Fake CPU tensors, whatever the device of the original."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def copy(self, net: nn.Module) -> nn.Module:
        """See :class:`Ghosts`."""
        with self._mode:
            return _copy(net, "cpu")

    def example(self, net: nn.Module, shape: Sequence[int]) -> Tensor:
        """See :class:`Ghosts`."""
        with self._mode:
            return torch.empty(tuple(shape), dtype=_dtype(net))

    @contextmanager
    def running(self) -> Iterator[None]:
        """See :class:`Ghosts`."""
        with self._mode, sdpa_kernel(SDPBackend.MATH):
            yield


# Exactly these, by name: a class derived from them may do anything, and not every network needs timm.
_DROPOUTS = frozenset(
    {
        *(f"torch.nn.modules.dropout.{name}" for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d")),
        *("timm.layers.drop.DropPath", "torchvision.ops.stochastic_depth.StochasticDepth"),
    }
)


def train(ghost: nn.Module, training: bool = True) -> nn.Module:
    """Training mode but for common dropouts: they take their sizes from what they are given and leave 0 at 0."""
    for module in ghost.train(training).modules():
        kind = type(module)
        module.training &= f"{kind.__module__}.{kind.__qualname__}" not in _DROPOUTS
    return ghost


def _copy(net: nn.Module, device: str) -> nn.Module:
    memo: dict[int, object] = {}
    for tensor in itertools.chain(net.parameters(), net.buffers()):
        empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if is_parameter else empty
    _copy_modules(net, memo)
    return copy.deepcopy(net, memo).eval()


def _copy_modules(net: nn.Module, memo: dict[int, object]) -> None:
    """What :func:`copy.deepcopy` makes of modules, without its way through pickle, most of a copy's time."""
    plain = [module for module in net.modules() if _is_plain(module)]
    twins = [object.__new__(type(module)) for module in plain]
    memo.update((id(module), twin) for module, twin in zip(plain, twins, strict=True))
    for module, twin in zip(plain, twins, strict=True):
        twin.__dict__.update((name, _value(value, memo)) for name, value in module.__getstate__().items())


def _is_plain(module: nn.Module) -> bool:
    """Whether its class leaves copying to Python and has no state but a dict."""
    kind = type(module)
    default = kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__
    # Torch's own leaves out what was compiled.
    default = default and kind.__getstate__ in _STATES and not hasattr(kind, "__deepcopy__")
    # Those of torch's own layers only add what a file of an earlier version lacks.
    restored = kind.__setstate__.__module__.startswith("torch.nn.modules.")
    return default and restored and type(module.__getstate__()) is dict  # a tuple where there are slots


def _value(value: object, memo: dict[int, object]) -> object:
    if type(value) in _ATOMIC:
        return value
    if type(value) in _CONTAINERS and not value:
        return type(value)()
    return copy.deepcopy(value, memo)


def _dtype(net: nn.Module) -> torch.dtype:
    dtypes = (p.dtype for p in net.parameters() if p.is_floating_point())
    return next(dtypes, torch.get_default_dtype())


def runs(net: nn.Module, shape: Sequence[int]) -> bool:
    """Whether a network runs in both modes."""
    return any(_runs(net, shape, ghosts) for ghosts in (MetaGhosts(), FakeGhosts()))


def _runs(net: nn.Module, shape: Sequence[int], ghosts: Ghosts) -> bool:
    try:
        ghost = ghosts.copy(net)
        with torch.no_grad(), ghosts.running():
            for training in (False, True):
                ghost.train(training)(ghosts.example(net, shape))
    except Exception:
        return False
    return True
