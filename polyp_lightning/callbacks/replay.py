"""The last inputs of a network, recorded while it trains, and batch-norm statistics from them after a cut."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.hooks import RemovableHandle

from polyp_lightning.pruning import Example

BOUND = 2**28
"""Most bytes of inputs that are kept on the network's own device; older ones are let go first."""

Statistics = dict[str, Tensor]
"""Buffers of batch norms, by name."""


class CallRecorder:
    """Keeps what a network is called with: the last few calls, without a copy of earlier ones.

    Args:
        count: how many calls.

    Attributes:
        calls: the last ones.
        active: whether calls are kept now.
    """

    def __init__(self, count: int) -> None:
        self.calls: deque[Example] = deque(maxlen=count)
        self.active = False
        self._handle: RemovableHandle | None = None

    def attach(self, net: nn.Module) -> None:
        """Begins to look at a network's calls; forgets those of before."""
        self.detach()
        self.calls.clear()

        # A copy of the network has this hook too.
        def record(called: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self.active and called is net and self.calls.maxlen:
                self._keep(Example.of_call(args, kwargs))

        self._handle = net.register_forward_pre_hook(record, with_kwargs=True)

    def detach(self) -> None:
        """Takes the hook away; the calls stay."""
        self.active = False
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _keep(self, call: Example) -> None:
        self.calls.append(call)
        while len(self.calls) > 1 and sum(tensor.nbytes for one in self.calls for tensor in one.tensors) > BOUND:
            self.calls.popleft()


@torch.no_grad()
def renew_norms(net: nn.Module, calls: Iterable[Example], modes: Mapping[str, bool]) -> Statistics:
    """Gives the batch norms of a network new running statistics: the mean over calls of those of each.

    Only norms that train are renewed. Their parameters, momenta and modes stay as they are.

    Args:
        net: the network.
        calls: what it is called with.
        modes: by module, whether it trains; the passes run in these modes.

    Returns:
        The new statistics.
    """
    norms = {name: module for name, module in net.named_modules() if modes.get(name) and _has_statistics(module)}
    calls = list(calls)
    if not norms or not calls:
        return {}
    device = next(buffer for norm in norms.values() for buffer in norm.buffers()).device
    with modes_set(net, modes), _averaging(norms.values()):
        for call in calls:
            on_device(call, device).call(net)
    return {
        f"{name}.{key}": buffer.detach().clone()
        for name, module in norms.items()
        for key, buffer in module.named_buffers(recurse=False)
    }


def _has_statistics(module: nn.Module) -> bool:
    norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return norm and bool(module.track_running_stats) and module.running_mean is not None


def on_device(call: Example, device: torch.device) -> Example:
    """A copy of a call: the network may write into its inputs."""
    args, kwargs = tree_map(
        lambda leaf: leaf.to(device, copy=True) if isinstance(leaf, Tensor) else leaf, (call.args, dict(call.kwargs))
    )
    return Example(args, kwargs)


@contextmanager
def _averaging(norms: Iterable[Any]) -> Iterator[None]:
    """Norms take the mean over all calls from now on, in place of a moving average."""
    momenta = {norm: norm.momentum for norm in norms}
    try:
        for norm in momenta:
            norm.reset_running_stats()
            norm.momentum = None
        yield
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum


def modes_of(net: nn.Module) -> dict[str, bool]:
    """By module, whether it is in training mode."""
    return {name: module.training for name, module in net.named_modules()}


@contextmanager
def modes_set(net: nn.Module, modes: Mapping[str, bool]) -> Iterator[None]:
    """Each module is in the mode given, and afterwards in the one it had."""
    before = {module: module.training for module in net.modules()}
    try:
        for name, module in net.named_modules():
            module.training = modes.get(name, module.training)
        yield
    finally:
        for module, training in before.items():
            module.training = training
