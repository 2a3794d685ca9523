"""What a network costs as a function of the widths of its layers."""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from polyp_lightning.pruning.graph import Removed
from polyp_lightning.pruning.labels import Atoms

Floats = npt.NDArray[np.float64]


class Cost(Protocol):
    """A cost that never rises when a width falls.

    Attributes:
        name: of its unit, for messages: ``MACs``, ``parameters`` or ``ms``.
        step: widths cost what the next multiple of this costs; 1 where every filter counts.
        axes: the components along each width that the cost depends on.
    """

    name: str
    step: int
    axes: tuple[Atoms, ...]

    def of_widths(self, widths: Floats) -> Floats:
        """Returns the cost per column of ``widths``, which has one row per axis: (A, C) → (C,)."""
        ...

    def slopes(self, widths: Floats) -> Floats:
        """Returns what one more index along each axis costs, near ``widths``: (A,) → (A,)."""
        ...


def full_widths(cost: Cost) -> Floats:
    """Returns the widths with nothing removed, (A,)."""
    return np.array([len(axis) for axis in cost.axes], np.float64)


def total(cost: Cost, removed: Removed) -> float:
    """Returns the cost once ``removed`` is gone."""
    widths = np.array([np.count_nonzero(~removed[axis]) for axis in cost.axes], np.float64)
    return float(cost.of_widths(widths[:, None])[0])


class ProductCost:
    """Σ over operations of ``per_unit × Π widths``: MACs, and the number of parameters.

    Args:
        terms: per operation, the components along its widths and the cost with every width 1.
        name: the unit.
    """

    step = 1

    def __init__(self, terms: Iterable[tuple[Sequence[Atoms], float]], name: str) -> None:
        self.name = name
        index = AxisIndex()
        found = [([index.add(axis) for axis in axes], unit) for axes, unit in terms]
        self.axes = tuple(index.axes)
        depth = max((len(axes) for axes, _ in found), default=0)
        # Row −1 stands for a width of 1.
        rows = [axes + [-1] * (depth - len(axes)) for axes, _ in found]
        self._rows = np.array(rows, np.int64).reshape(len(found), depth)
        self._units = np.array([unit for _, unit in found], np.float64)

    def of_widths(self, widths: Floats) -> Floats:
        """See :meth:`Cost.of_widths`."""
        product = np.repeat(self._units[:, None], widths.shape[1], axis=1)
        rows = np.concatenate([widths, np.ones((1, widths.shape[1]))])
        for column in self._rows.T:
            product *= rows[column]
        return np.asarray(product.sum(0))

    def slopes(self, widths: Floats) -> Floats:
        """See :meth:`Cost.slopes`."""
        rows = np.concatenate([widths, np.ones(1)])
        slopes = np.zeros(len(rows))
        for position in range(self._rows.shape[1]):
            others = np.delete(self._rows, position, axis=1)
            np.add.at(slopes, self._rows[:, position], self._units * rows[others].prod(1))
        return slopes[:-1]


class AxisIndex:
    """Numbers axes so that those with the same components share one."""

    def __init__(self) -> None:
        self.axes: list[Atoms] = []
        self._known: dict[bytes, int] = {}

    def add(self, axis: Atoms) -> int:
        """Returns the number of an axis."""
        number = self._known.setdefault(axis.tobytes(), len(self.axes))
        if number == len(self.axes):
            self.axes.append(axis)
        return number
