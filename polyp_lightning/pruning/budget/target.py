"""What is to be left of a network, and what the dense network had."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from polyp_lightning.common.errors import PruningError
from polyp_lightning.common.plain import check_fields
from polyp_lightning.pruning.budget.cost import total
from polyp_lightning.pruning.budget.units import UNITS
from polyp_lightning.pruning.graph import ChannelGraph

_TARGET = re.compile(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([a-z_]*)")
_QUANTITIES = tuple(dict.fromkeys(unit.quantity for unit in UNITS.values()))


@dataclass(frozen=True)
class Target:
    """How much of a network is to be left.

    Attributes:
        value: the amount, in the unit's own scale.
        unit: a key of :data:`~polyp_lightning.pruning.budget.units.UNITS`.

    Raises:
        PruningError: the unit is unknown or the value outside its range.

    >>> dense = Dense({"macs": 8e9})
    >>> Target(0.25).budget(dense)
    2000000000.0
    >>> Target(1.5, "gmacs").budget(dense, left=0.5)  # half-way from 8 to 1.5 GMACs
    4750000000.0
    """

    value: float
    unit: str = "macs"

    def __post_init__(self) -> None:
        """Validates the fields."""
        if self.unit not in UNITS:
            msg = f"the target's unit is {self.unit!r}; choose one of {', '.join(UNITS)}"
            raise PruningError(msg)
        if not 0 < self.value <= (1 if self.is_share else float("inf")):
            msg = f"target is {self.value}; it is {UNITS[self.unit].allowed}"
            raise PruningError(msg)

    @property
    def is_share(self) -> bool:
        """Whether the value is relative to the dense network."""
        return UNITS[self.unit].is_share

    @property
    def is_measured(self) -> bool:
        """Whether only measuring the cut network tells if the target is met."""
        return UNITS[self.unit].cost is None

    @property
    def is_everything(self) -> bool:
        """Whether nothing is to be removed."""
        return self.is_share and self.value == 1

    def budget(self, dense: "Dense", left: float = 0.0) -> float:
        """Returns the most that the network may cost, in the unit's quantity and never above the dense network's cost.

        Args:
            dense: what the dense network costs.
            left: share of the way from the dense network to this target that is still to go, in [0, 1]: 0 for the
                target itself.
        """
        full = dense.cost(self.unit)
        final = min(self.value * self._scale(dense), full)
        return final + (full - final) * left

    def value_of(self, cost: float, dense: "Dense") -> float:
        """Returns a cost on the scale of :attr:`value`."""
        return cost / self._scale(dense)

    def _scale(self, dense: "Dense") -> float:
        return dense.cost(self.unit) if self.is_share else UNITS[self.unit].scale

    def __str__(self) -> str:
        """Returns the target in words.

        >>> str(Target(0.25)), str(Target(12, "ms"))
        ('0.250 of the MACs', '12 ms')
        """
        return f"{self.value:{'.3f' if self.is_share else 'g'}} {UNITS[self.unit].words}"


def choose_target(target: float | str, **others: float | None) -> Target:
    """Returns the target of a set of options: the share of the MACs unless one of the others is given.

    Args:
        target: share of the MACs, or a value with its unit, such as ``1.5 gmacs``.
        others: values of the options ``target_<unit>``, None where an option is not given.

    Raises:
        PruningError: more than one of the others is given, or a value or unit is not allowed.

    >>> str(choose_target(0.25)), str(choose_target(0.25, target_params=None, target_gmacs=1.5))
    ('0.250 of the MACs', '1.5 GMACs')
    >>> str(choose_target("12 ms"))
    '12 ms'
    """
    given = {option: value for option, value in others.items() if value is not None}
    if len(given) > 1:
        msg = f"give one target, not {len(given)}: {', '.join(f'{name} {value:g}' for name, value in given.items())}"
        raise PruningError(msg)
    if not given:
        return _read_target(str(target))
    option, value = next(iter(given.items()))
    return Target(value, option.removeprefix("target_"))


def _read_target(text: str) -> Target:
    found = _TARGET.fullmatch(text.strip())
    if found is None:
        msg = f"target is {text!r}; give the share of the MACs to keep, or a value and its unit: {', '.join(UNITS)}"
        raise PruningError(msg)
    return Target(float(found[1]), found[2] or "macs")


@dataclass(frozen=True)
class Dense:
    """What shares are shares of: the network before its first cut, in plain numbers for checkpoints.

    Attributes:
        costs: what it costs, by the quantities of :data:`~polyp_lightning.pruning.budget.units.UNITS`: ``macs`` for
            one image of the traced size, ``parameters`` that the forward pass reaches …
        widths: components per coupled layer, by the layer's name.
    """

    costs: Mapping[str, float]
    widths: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: ChannelGraph, **measured: float) -> "Dense":
        """Returns the reference values of the network that was traced.

        Args:
            graph: its graph.
            measured: what does not follow from the graph, by quantity: ``milliseconds``.
        """
        known = {unit.quantity: unit.cost for unit in UNITS.values() if unit.cost}
        costs = {quantity: total(cost(graph), graph.nothing()) for quantity, cost in known.items()}
        return cls({**costs, **measured}, graph.widths())

    def cost(self, unit: str) -> float:
        """Returns the dense network's cost in the quantity of a unit.

        Raises:
            PruningError: it is unknown.
        """
        quantity = UNITS[unit].quantity
        if quantity not in self.costs:
            needed = "a run that began with it: this one's checkpoint does not hold the dense network's"
            if UNITS[unit].cost is None:
                needed = "a latency table, or a timer that measures the network"
            msg = f"a target in {quantity} needs {needed}"
            raise PruningError(msg)
        return self.costs[quantity]

    def as_dict(self) -> dict[str, Any]:
        """Returns these values as plain Python ones."""
        return {**{quantity: self.costs.get(quantity) for quantity in _QUANTITIES}, "widths": dict(self.widths)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Dense":
        """Restores what :meth:`as_dict` returned.

        Raises:
            KeyError: the widths are missing.
            TypeError: a value is of another type.
            ValueError: the network costs nothing or something unknown, or its MACs are missing.
        """
        costs = {quantity: value for quantity, value in values.items() if quantity != "widths" and value is not None}
        found = check_fields(cls(costs, values["widths"]))
        if "macs" not in costs or not set(costs) <= {*_QUANTITIES} or not all(value > 0 for value in costs.values()):
            raise ValueError(", ".join(f"{quantity}={value}" for quantity, value in costs.items()))
        return found
