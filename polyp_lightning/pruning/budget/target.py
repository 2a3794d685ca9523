"""What is to be left of a network, and what the dense network had."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from polyp_lightning.common.errors import PruningError
from polyp_lightning.common.plain import checked
from polyp_lightning.pruning.graph import ChannelGraph

Unit = Literal["macs", "params", "gmacs", "ms"]

_RANGES = {
    "macs": "the share of the dense MACs to keep, in (0, 1]",
    "params": "the share of the dense parameters to keep, in (0, 1]",
    "gmacs": "10⁹ MACs for one image at the traced size, more than 0",
    "ms": "milliseconds per frame, more than 0",
}


@dataclass(frozen=True)
class Target:
    """How much of a network is to be left.

    Attributes:
        value: the amount, in the unit's own scale.
        unit: ``macs`` (share of the dense network's MACs), ``params`` (share of its executed parameters), ``gmacs``
            (10⁹ MACs for one image of the traced size) or ``ms`` (milliseconds per frame).

    Raises:
        PruningError: the unit is unknown or the value outside its range.

    >>> Target(0.25).budget(Dense(macs=8e9, parameters=1e6))
    2000000000.0
    >>> Target(1.5, "gmacs").budget(Dense(macs=8e9, parameters=1e6), left=0.5)  # half-way from 8 to 1.5 GMACs
    4750000000.0
    """

    value: float
    unit: Unit = "macs"

    def __post_init__(self) -> None:
        """Refuse what can't be."""
        if self.unit not in get_args(Unit):
            msg = f"the target's unit is {self.unit!r}; choose one of {', '.join(get_args(Unit))}"
            raise PruningError(msg)
        if not 0 < self.value <= (1 if self.is_share else float("inf")):
            msg = f"target is {self.value}; it is {_RANGES[self.unit]}"
            raise PruningError(msg)

    @property
    def is_share(self) -> bool:
        """Whether the value is relative to the dense network."""
        return self.unit in ("macs", "params")

    @property
    def is_everything(self) -> bool:
        """Whether nothing is to be removed."""
        return self.is_share and self.value == 1

    def budget(self, dense: "Dense", left: float = 0.0) -> float:
        """The most that the network may cost, in the unit of its cost (MACs, parameters or milliseconds).

        Args:
            dense: what the dense network costs.
            left: share of the way from the dense network to this target that is still to go, in [0, 1]: 0 for the
                target itself.

        Returns:
            A budget that is never above the dense network's cost.
        """
        full = dense.cost(self.unit)
        final = min(self.value * self._scale(dense), full)
        return final + (full - final) * left

    def value_of(self, cost: float, dense: "Dense") -> float:
        """A cost on the scale of :attr:`value`: a share, GMACs or milliseconds."""
        return cost / self._scale(dense)

    def _scale(self, dense: "Dense") -> float:
        return dense.cost(self.unit) if self.is_share else 1e9 if self.unit == "gmacs" else 1.0

    def __str__(self) -> str:
        """The target in words.

        >>> str(Target(0.25)), str(Target(12, "ms"))
        ('0.250 of the MACs', '12 ms')
        """
        words = {"macs": "of the MACs", "params": "of the parameters", "gmacs": "GMACs", "ms": "ms"}[self.unit]
        return f"{self.value:.3f} {words}" if self.is_share else f"{self.value:g} {words}"


def choose_target(
    macs: float, params: float | None = None, gmacs: float | None = None, ms: float | None = None
) -> Target:
    """The target of a set of flags: the share of the MACs unless one of the others is given.

    Raises:
        PruningError: more than one of the others is given, or a value is outside its range.

    >>> str(choose_target(0.25)), str(choose_target(0.25, gmacs=1.5))
    ('0.250 of the MACs', '1.5 GMACs')
    """
    others: dict[Unit, float | None] = {"params": params, "gmacs": gmacs, "ms": ms}
    given = [(unit, value) for unit, value in others.items() if value is not None]
    if len(given) > 1:
        msg = f"give one target, not {len(given)}: {', '.join(f'target_{unit} {value:g}' for unit, value in given)}"
        raise PruningError(msg)
    return Target(given[0][1], given[0][0]) if given else Target(macs)


@dataclass(frozen=True)
class Dense:
    """What shares are shares of: the network before its first cut. Plain numbers, so that a checkpoint can hold it.

    Attributes:
        macs: multiply-accumulates for one image of the traced size.
        parameters: elements of the parameters that the forward pass reaches.
        widths: components per coupled layer, by the layer's name.
        milliseconds: time per frame according to the latency table in use; None without one.
    """

    macs: float
    parameters: float
    widths: Mapping[str, int] = field(default_factory=dict)
    milliseconds: float | None = None

    @classmethod
    def of(cls, graph: ChannelGraph, milliseconds: float | None = None) -> "Dense":
        """The reference values of the network that was traced."""
        names = graph.executed - graph.buffers
        elements = sum(math.prod(len(axis) for axis in graph.axes[name]) for name in sorted(names))
        return cls(graph.total_macs(), float(elements), graph.widths(), milliseconds)

    def cost(self, unit: Unit) -> float:
        """The dense network's cost in MACs, parameters or milliseconds.

        Raises:
            PruningError: milliseconds are asked for and unknown.
        """
        if unit == "ms":
            if self.milliseconds is None:
                msg = "a target in milliseconds needs a latency table, or a timer that measures the network"
                raise PruningError(msg)
            return self.milliseconds
        return self.parameters if unit == "params" else self.macs

    def as_dict(self) -> dict[str, Any]:
        """These values as plain Python ones."""
        return {**asdict(self), "widths": dict(self.widths)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Dense":
        """The inverse of :meth:`as_dict`.

        Raises:
            TypeError: a value is missing or of another type.
            ValueError: a network that costs nothing.
        """
        found = checked(cls(**values))
        if not (found.macs > 0 and found.parameters > 0):
            msg = f"macs={found.macs}, parameters={found.parameters}"
            raise ValueError(msg)
        return found
