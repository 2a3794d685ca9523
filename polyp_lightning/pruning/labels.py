"""Channel labels: which removable component each index of each dimension of a tensor belongs to.

Every index of every dimension of every parameter and buffer starts as an *atom* of its own. Operations tie atoms that
can only be removed together; the connected sets of atoms are the *components*. Atom 0 stands for "never removed".
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Atoms = npt.NDArray[np.int64]
FROZEN = 0


@dataclass(frozen=True)
class Labels:
    """What is known of one tensor during the trace.

    Attributes:
        dims: per dimension, the atom of each index, or None where nothing removable runs along the dimension.
        zero: True if the values at an index are exactly 0 whenever the index's component is masked.
        is_parameter: True for parameters, buffers and their views.
        source: the layer of whose output this is an image that scales with it (a view, a multiple, a ReLU), if any.
    """

    dims: tuple[Atoms | None, ...]
    zero: bool = True
    is_parameter: bool = False
    source: str | None = None

    def with_dims(self, dims: Iterable[Atoms | None]) -> "Labels":
        """These labels with others along the dimensions."""
        return Labels(tuple(dims), self.zero, self.is_parameter)

    def replace(self, dim: int, atoms: Atoms | None) -> "Labels":
        """These labels with those of one dimension exchanged."""
        return self.with_dims(atoms if k == dim else d for k, d in enumerate(self.dims))

    def nonzero(self) -> "Labels":
        """These labels without the promise to be 0 when masked."""
        return Labels(self.dims, False, self.is_parameter, self.source)

    @property
    def any(self) -> bool:
        """True if any dimension carries atoms."""
        return any(d is not None for d in self.dims)


class Ties:
    """Collects atoms that must be removed together."""

    def __init__(self) -> None:
        self.count = 1
        self._left: list[Atoms] = []
        self._right: list[Atoms] = []

    def fresh(self, size: int) -> Atoms:
        """New atoms, each free of the others."""
        atoms = np.arange(self.count, self.count + size, dtype=np.int64)
        self.count += size
        return atoms

    def join(self, left: Atoms, right: Atoms) -> None:
        """Tie two sequences of atoms index by index."""
        if left.shape != right.shape:
            msg = f"cannot tie {left.shape} atoms to {right.shape}"
            raise ValueError(msg)
        if left is not right:
            self._left.append(left.ravel())
            self._right.append(right.ravel())

    def join_columns(self, table: Atoms) -> None:
        """Tie all columns of a 2-D table of atoms: the atoms of one row go together."""
        if table.shape[1] > 1:
            self.join(np.repeat(table[:, 0], table.shape[1] - 1), table[:, 1:].ravel())

    def freeze(self, *atoms: Atoms | None) -> None:
        """Never remove these."""
        for group in atoms:
            if group is not None:
                self.join(group, np.full_like(group, FROZEN))

    def unite(self, left: Atoms | None, right: Atoms | None) -> Atoms | None:
        """Tie two dimensions of equal length; one without atoms freezes the other."""
        if left is None or right is None:
            self.freeze(left, right)
            return None
        self.join(left, right)
        return left

    def components(self) -> Atoms:
        """The component of every atom; component 0 is the frozen one, the others are numbered without gaps."""
        left = np.concatenate([*self._left, np.zeros(1, np.int64)])
        right = np.concatenate([*self._right, np.zeros(1, np.int64)])
        adjacency = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(self.count, self.count))
        _, label = connected_components(adjacency, directed=False)
        # scipy numbers components in the order of their first atom, and atom 0 is the first of all.
        return np.asarray(label, np.int64)
