"""A device that is not the CPU, on any machine: fake tensors on ``meta``, where reading a value is an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

FAR = "meta"


class Transfers(TorchDispatchMode):
    """Notes the operations that wait for a device: a value that Python reads, a copy to the CPU or from there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Runs the operation."""
        name = func.overloadpacket.__name__
        if name == "_local_scalar_dense":
            self.seen.append(name)
        out = func(*args, **(kwargs or {}))
        given, got = ({t.is_cpu for t in tree_leaves(x) if isinstance(t, Tensor)} for x in ((args, kwargs), out))
        if {True, False} <= given | got and given != got:
            self.seen.append(name)
        return out


@contextmanager
def far_away() -> Iterator[Transfers]:
    """New tensors of modules and factories are on :data:`FAR`, unless they are asked for elsewhere.

    A CPU tensor that meets one of them is an error, as it is on CUDA.
    """
    transfers = Transfers()
    with FakeTensorMode(), transfers:
        yield transfers


def made_far(make: Any) -> Any:
    """What ``make`` returns, with its tensors on :data:`FAR`."""
    with torch.device(FAR):
        return make()
