"""What one pass through a network leaves behind, and the light pass that a trial cut is compared with."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from polyp_lightning.pruning.example import Example
from polyp_lightning.pruning.labels import Atoms, Ties
from polyp_lightning.pruning.tracing.shapes import call
from polyp_lightning.pruning.tracing.sites import Site, SizeRecord

# Operations whose numbers are values: one that changes with a width (a scale of 1/√width) is seen by a trial cut.
_VALUED = frozenset(
    {
        *("add", "sub", "rsub", "mul", "div", "pow", "clamp", "clamp_min", "clamp_max", "hardtanh", "leaky_relu"),
        *("full", "full_like", "fill", "scalar_tensor", "arange", "linspace", "softplus", "elu", "threshold"),
        *("index_fill", "masked_fill", "where"),
    }
)
_SMALL = 64


@dataclass
class MacRecord:
    """A cost before components are known."""

    axes: tuple[Atoms, ...]
    per_unit: float


@dataclass
class Operation:
    """One operation, for comparison with the same one in a cut network.

    Attributes:
        name: of its overload packet.
        sizes: of its result, with atoms where something removable runs along; None if nothing does.
        numbers: the values among its arguments.
        atoms: of its operands.
    """

    name: str
    sizes: tuple[Atoms | int, ...] | None
    numbers: tuple[float, ...]
    atoms: list[Atoms]


@dataclass
class Pass:
    """One call of the network: in eval mode, or in training mode where that does something else."""

    operations: list[Operation] = field(default_factory=list)
    executed: set[str] = field(default_factory=set)
    macs: list[MacRecord] = field(default_factory=list)


@dataclass
class Trace:
    """What the passes have recorded; atoms are turned into components afterwards."""

    passes: list[Pass] = field(default_factory=list)
    ties: Ties = field(default_factory=Ties)
    parameters: dict[str, tuple[Atoms, ...]] = field(default_factory=dict)
    consumed: list[Atoms] = field(default_factory=list)
    consumers: dict[str, Atoms] = field(default_factory=dict)
    outputs: dict[str, list[Atoms]] = field(default_factory=dict)
    escaped: set[str] = field(default_factory=set)
    silenced: set[str] = field(default_factory=set)
    grouped: dict[str, Atoms] = field(default_factory=dict)
    positions: dict[str, Atoms] = field(default_factory=dict)
    read: set[int] = field(default_factory=set)
    made: set[int] = field(default_factory=set)
    borrowed: list[Atoms] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)
    size_records: list[SizeRecord] = field(default_factory=list)
    training_known: bool = False
    not_understood: Counter[str] = field(default_factory=Counter)


def numbers_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float, ...]:
    """The values among an operation's arguments that act on elements, not on shapes."""
    base = name.rstrip("_")
    if base == "lift_fresh":
        return _constant(args[0])
    if base not in _VALUED:
        return ()
    return tuple(a for a in (*args, *kwargs.values()) if isinstance(a, (int, float)) and not isinstance(a, bool))


def _constant(tensor: Tensor) -> tuple[float, ...]:
    """What ``torch.tensor(x.shape[1])`` holds: a fake tensor keeps the values of small constants."""
    known = tensor if type(tensor) is Tensor and not tensor.is_meta else getattr(tensor, "constant", None)
    if known is None or known.numel() > _SMALL or known.is_complex():
        return ()
    return tuple(float(v) for v in known.flatten().tolist())


class Recorder(TorchDispatchMode):
    """Notes each operation's name, result shape and numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[str, tuple[int, ...] | None, tuple[float, ...]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Run the operation and note it."""
        kwargs = kwargs or {}
        out = call(func, args, kwargs)
        if func.namespace != "prim":
            name = func.overloadpacket.__name__
            self.operations.append((name, first_shape(out), numbers_of(name, args, kwargs)))
        return out


def first_shape(out: Any) -> tuple[int, ...] | None:
    """Shape of the first tensor among an operation's results."""
    if isinstance(out, Tensor):
        return tuple(out.shape)
    return next((tuple(o.shape) for o in tree_leaves(out) if isinstance(o, Tensor)), None)


def run_recorded(net: torch.nn.Module, example: Example) -> tuple[Recorder, Exception | None]:
    """A light pass, and the error that ended it."""
    recorder = Recorder()
    try:
        with recorder:
            example.call(net)
    except Exception as error:
        return recorder, error
    return recorder, None
