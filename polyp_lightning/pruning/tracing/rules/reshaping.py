"""Views that split and merge dimensions."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from polyp_lightning.pruning.labels import Atoms, Labels
from polyp_lightning.pruning.tracing.tracer import Call, Tracer, rule

_HEADS = ("num_heads", "heads", "n_heads", "num_attention_heads", "n_head", "nhead", "h")
Table = npt.NDArray[np.int64]


@rule("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "flatten", "view_copy", "_reshape_alias")
def reshape(tracer: Tracer, call: Call) -> Labels:
    """Dimensions that come through whole keep their atoms; those that are split or merged are worked out below."""
    source: Tensor = call.args[0]
    labels = tracer.get(source)
    dims: list[Atoms | None] = [None] * call.first.ndim
    tracer.ties.freeze(*(d for d, size in zip(labels.dims, source.shape, strict=True) if size == 1))
    if call.name == "squeeze" and len(call.args) == 1:
        # Without a dimension named, squeeze would also take a width that a cut has brought down to 1.
        tracer.ties.freeze(*(d[:2] for d in labels.dims if d is not None))
    for before, after in aligned(source.shape, call.first.shape):
        carriers = [k for k in before if labels.dims[k] is not None]
        if len(carriers) == 1:
            place = _place(tracer, call, labels, carriers[0], before, after)
            if place is not None:
                dims[place[0]] = place[1]
        else:
            tracer.ties.freeze(*(labels.dims[k] for k in carriers))
    return labels.with_dims(dims)


def aligned(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Groups of dimensions of two shapes that hold the same elements, smallest first; sizes of 1 are left out.

    >>> list(aligned((2, 12, 5, 5), (2, 3, 4, 25)))
    [([0], [0]), ([1], [1, 2]), ([2, 3], [3])]
    """
    left = [k for k, size in enumerate(before) if size != 1]
    right = [k for k, size in enumerate(after) if size != 1]
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        size_a, size_b = before[a[0]], after[b[0]]
        while size_a != size_b:
            if size_a < size_b:
                a.append(left.pop(0))
                size_a *= before[a[-1]]
            else:
                b.append(right.pop(0))
                size_b *= after[b[-1]]
        yield a, b


def _place(
    tracer: Tracer, call: Call, labels: Labels, carrier: int, before: list[int], after: list[int]
) -> tuple[int, Atoms] | None:
    """The dimension of the result that carries the atoms, and the atoms along it; None if they were frozen."""
    source, atoms = call.args[0], labels.dims[carrier]
    assert atoms is not None  # noqa: S101  the caller chose a dimension that carries some
    shape = [call.first.shape[k] for k in after]
    natural = _natural(atoms, [source.shape[k] for k in before], before.index(carrier), shape)
    if natural is not None:
        place, along = natural
        if call.name in ("view", "_unsafe_view", "reshape", "flatten", "_reshape_alias", "view_copy") and (
            tracer.site(f"{call.name} {source.ndim}>{call.first.ndim}", ["whole"], atoms) is None
        ):
            return None
        tracer.keep_size(atoms)
        if along is not atoms:
            tracer.keep_size(along)
        return after[place], along
    if len(before) > 1:
        # Channels mixed with positions: what goes together would depend on the size of the image.
        tracer.ties.freeze(atoms)
        return None
    return _split(tracer, atoms, shape, after)


def _split(tracer: Tracer, atoms: Atoms, shape: list[int], after: list[int]) -> tuple[int, Atoms] | None:
    options = _options(tracer, atoms, shape)
    place = tracer.site(f"split {len(options)}", options, atoms)
    if place is None:
        return None
    table = _table(atoms, shape, place)
    tracer.ties.join_columns(table)
    along = np.ascontiguousarray(table[:, 0])
    tracer.keep_size(atoms)
    tracer.keep_size(along)
    return after[place], along


def _table(atoms: Atoms, shape: list[int], place: int) -> Atoms:
    return np.moveaxis(atoms.reshape(shape), place, 0).reshape(shape[place], -1)


def _options(tracer: Tracer, atoms: Atoms, shape: list[int]) -> list[int]:
    """Which of the dimensions to thin out: heads as wholes first, else what leaves most to choose from."""
    frame = tracer.running
    heads = {vars(frame.module)[n] for n in frame.sizes_equal_to(*shape) if n.lower() in _HEADS}
    left = {place: _left_after_joining(_table(atoms, shape, place)) for place in range(len(shape))}
    places = sorted(left, key=lambda place: (shape[place] not in heads, -left[place], -place))
    return tracer.choices.order(type(frame.module).__qualname__, places)


def _left_after_joining(table: Atoms) -> int:
    _, label = np.unique(table, return_inverse=True)
    label = label.reshape(table.shape)
    ends = np.repeat(label[:, 0], table.shape[1]), label.ravel()
    links = coo_array((np.ones(label.size, np.int8), ends), shape=(int(label.max()) + 1,) * 2)
    return int(connected_components(links, directed=False)[0])


def _natural(atoms: Atoms, before: list[int], carrier: int, after: list[int]) -> tuple[int, Atoms] | None:
    """Where the atoms lie along one dimension of the result without any being tied."""
    if len(before) == len(after) == 1:
        return 0, atoms
    outer, inner = math.prod(before[:carrier]), math.prod(before[carrier + 1 :])
    table: Table = np.broadcast_to(atoms[None, :, None], (outer, len(atoms), inner)).reshape(after)
    for place in range(len(after)):
        first = tuple(slice(None) if k == place else slice(0, 1) for k in range(len(after)))
        if (table == table[first]).all():
            return place, np.ascontiguousarray(table[first].ravel())
    return None
