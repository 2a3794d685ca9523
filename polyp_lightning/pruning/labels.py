"""Channel labels: which removable component each index of each dimension of a tensor belongs to.

Every index of every dimension of every parameter and buffer starts as an *atom* of its own. Operations tie atoms that
can only be removed together; the connected sets of atoms are the *components*. Atom 0 stands for "never removed".
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

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


@dataclass(frozen=True)
class Cause:
    """What keeps channels from being removed.

    Attributes:
        operation: by its name in PyTorch, or in words.
        module: name of the innermost module that was being called.
        code: file and line of the code, outside of PyTorch, that asked for the operation; empty if there is none.
    """

    operation: str
    module: str = ""
    code: str = ""

    def __str__(self) -> str:
        """For messages."""
        places = [f"in {self.module}" if self.module else "", f"({self.code})" if self.code else ""]
        return " ".join([self.operation, *filter(None, places)])


class Ties:
    """Collects atoms that must be removed together.

    Attributes:
        count: how many atoms there are.
        cause: asked for whenever atoms are frozen; what it returns is kept for :meth:`causes_of`.
    """

    def __init__(self) -> None:
        self.count = 1
        self.cause: Callable[[], Cause] = lambda: Cause("")
        self._left: list[Atoms] = []
        self._right: list[Atoms] = []
        self._frozen: list[Atoms] = []
        self._causes: list[Cause] = []

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

    def freeze(self, *atoms: Atoms | None, beside: bool = False) -> None:
        """Never remove these; ``beside``: only for what they meet."""
        for group in atoms:
            if group is not None and (group != FROZEN).any():
                cause = self.cause()
                self._frozen.append(group.ravel())
                self._causes.append(replace(cause, operation=f"{cause.operation} with what stays") if beside else cause)

    def unite(self, left: Atoms | None, right: Atoms | None) -> Atoms | None:
        """Tie two dimensions of equal length; one without atoms freezes the other."""
        if left is None or right is None:
            self.freeze(left, right, beside=True)
            return None
        self.join(left, right)
        return left

    def components(self) -> Atoms:
        """The component of every atom; component 0 is the frozen one, the others are numbered without gaps."""
        frozen = np.concatenate([*self._frozen, np.zeros(1, np.int64)])
        return self._connected([*self._left, frozen], [*self._right, np.full_like(frozen, FROZEN)])

    def causes_of(self, atoms: Atoms) -> list[Cause | None]:
        """Why atoms are frozen: the first cause among all that go together with each, if it has any of its own."""
        together = self._connected(self._left, self._right)
        first = np.full(int(together.max()) + 1, -1)
        for number in reversed(range(len(self._frozen))):
            first[together[self._frozen[number]]] = number
        first[together[FROZEN]] = -1  # what was tied to a frozen index has no cause of its own
        return [None if number < 0 else self._causes[number] for number in first[together[atoms]].tolist()]

    def _connected(self, left: list[Atoms], right: list[Atoms]) -> Atoms:
        ends = [np.concatenate([*side, np.zeros(1, np.int64)]) for side in (left, right)]
        adjacency = coo_array((np.ones(len(ends[0]), np.int8), tuple(ends)), shape=(self.count, self.count))
        _, label = connected_components(adjacency, directed=False)
        # scipy numbers components in the order of their first atom, and atom 0 is the first of all.
        return np.asarray(label, np.int64)
