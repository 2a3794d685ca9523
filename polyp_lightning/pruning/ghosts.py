"""Where networks run without a number being computed."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel


class Stage(Protocol):
    """Makes copies of networks and runs them."""

    def copy(self, net: nn.Module) -> nn.Module:
        """A copy in eval mode whose parameters and buffers take no memory."""

    def example(self, net: nn.Module, shape: Sequence[int]) -> Tensor:
        """An input of the parameters' type."""

    def set(self) -> AbstractContextManager[None]:
        """A context for calls; attention is broken down into products."""


class MetaStage:
    """Tensors without values on the ``meta`` device."""

    def copy(self, net: nn.Module) -> nn.Module:
        """See :class:`Stage`."""
        return _copy(net, "meta")

    def example(self, net: nn.Module, shape: Sequence[int]) -> Tensor:
        """See :class:`Stage`."""
        return torch.empty(tuple(shape), dtype=_dtype(net), device="meta")

    @contextmanager
    def set(self) -> Iterator[None]:
        """See :class:`Stage`."""
        with sdpa_kernel(SDPBackend.MATH):
            yield


class FakeStage:
    """Fake CPU tensors, whatever the device of the original."""

    def __init__(self) -> None:
        self._mode = FakeTensorMode(allow_non_fake_inputs=True)

    def copy(self, net: nn.Module) -> nn.Module:
        """See :class:`Stage`."""
        with self._mode:
            return _copy(net, "cpu")

    def example(self, net: nn.Module, shape: Sequence[int]) -> Tensor:
        """See :class:`Stage`."""
        with self._mode:
            return torch.empty(tuple(shape), dtype=_dtype(net))

    @contextmanager
    def set(self) -> Iterator[None]:
        """See :class:`Stage`."""
        with self._mode, sdpa_kernel(SDPBackend.MATH):
            yield


def _copy(net: nn.Module, device: str) -> nn.Module:
    memo: dict[int, object] = {}
    for tensor in itertools.chain(net.parameters(), net.buffers()):
        empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if is_parameter else empty
    return copy.deepcopy(net, memo).eval()


def _dtype(net: nn.Module) -> torch.dtype:
    dtypes = (p.dtype for p in net.parameters() if p.is_floating_point())
    return next(dtypes, torch.get_default_dtype())


def runs(net: nn.Module, shape: Sequence[int]) -> bool:
    """Whether a network runs in both modes."""
    return any(_runs(net, shape, stage) for stage in (MetaStage(), FakeStage()))


def _runs(net: nn.Module, shape: Sequence[int], stage: Stage) -> bool:
    try:
        ghost = stage.copy(net)
        with torch.no_grad(), stage.set():
            for training in (False, True):
                ghost.train(training)(stage.example(net, shape))
    except Exception:
        return False
    return True
