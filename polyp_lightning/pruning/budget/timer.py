"""Measures how long a network takes on this machine."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import nn

from polyp_lightning.common.machine import processor
from polyp_lightning.common.timing import median_seconds

Conditions = Mapping[str, str | int]
"""What a time depends on apart from the network: ``backend``, ``version``, ``threads``, ``machine`` …"""


class Timer(Protocol):
    """Measures networks under fixed conditions. A deployment backend plugs in by converting ``net`` itself."""

    @property
    def conditions(self) -> Conditions:
        """What the times are valid for; plain strings and ints."""
        ...

    def __call__(self, net: nn.Module, input_shape: Sequence[int]) -> float:
        """Milliseconds that one forward pass takes.

        Args:
            net: in eval mode; a copy of which the timer may change anything but the function, since it may come again.
            input_shape: of the one float input.
        """
        ...


class TorchTimer:
    """Eager PyTorch on the CPU, channels_last: the median of repeated passes after a warm-up.

    Args:
        threads: of PyTorch within an operation.
        seconds: how long one measurement goes on.
        least: passes that are measured however long they take.
    """

    def __init__(self, threads: int = 1, seconds: float = 0.5, least: int = 5) -> None:
        self.threads, self.seconds, self.least = threads, seconds, least

    @property
    def conditions(self) -> Conditions:
        """See :attr:`Timer.conditions`."""
        return {"backend": "torch", "version": torch.__version__, "threads": self.threads, "machine": processor()}

    def __call__(self, net: nn.Module, input_shape: Sequence[int]) -> float:
        """See :meth:`Timer.__call__`."""
        layout = torch.channels_last if len(input_shape) == 4 else torch.contiguous_format
        images = torch.rand(tuple(input_shape)).contiguous(memory_format=layout)
        if len(input_shape) == 4:
            net = net.to(memory_format=torch.channels_last)
        with _threads(self.threads), torch.inference_mode():
            return 1e3 * median_seconds(lambda: net(images), self.seconds, self.least)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Sets PyTorch's threads inside, and afterwards back to what they were."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
