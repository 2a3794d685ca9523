"""Operations that move data: concatenation, stacking, permutation, selection."""

import numpy as np
from torch import Tensor

from polyp_lightning.pruning.labels import FROZEN, Atoms, Labels
from polyp_lightning.pruning.tracing.tracer import Call, Tracer, rule


@rule("cat")
def concatenate(tracer: Tracer, call: Call) -> Labels:
    """Atoms follow one another along the dimension; the other dimensions go together."""
    tensors: list[Tensor] = call.args[0]
    dim = call.argument(1, "dim", 0) % call.first.ndim
    # Legacy: cat skips empty 1-D tensors.
    parts = [(t, tracer.get(t)) for t in tensors if t.ndim == call.first.ndim]
    dims: list[Atoms | None] = []
    for k in range(call.first.ndim):
        if k == dim:
            dims.append(_chained([(t.shape[k], labels.dims[k]) for t, labels in parts]))
            continue
        united = parts[0][1].dims[k]
        for _, labels in parts[1:]:
            united = tracer.ties.unite(united, labels.dims[k])
        dims.append(united)
    return Labels(tuple(dims), all(labels.zero for _, labels in parts))


def _chained(parts: list[tuple[int, Atoms | None]]) -> Atoms | None:
    if all(atoms is None for _, atoms in parts):
        return None
    return np.concatenate([np.full(size, FROZEN, np.int64) if atoms is None else atoms for size, atoms in parts])


@rule("stack")
def stack(tracer: Tracer, call: Call) -> Labels:
    """A new dimension without atoms; the others go together."""
    infos = [tracer.get(t) for t in call.args[0]]
    dim = call.argument(1, "dim", 0) % call.first.ndim
    united = list(infos[0].dims)
    for labels in infos[1:]:
        united = [tracer.ties.unite(a, b) for a, b in zip(united, labels.dims, strict=True)]
    return Labels((*united[:dim], None, *united[dim:]), all(labels.zero for labels in infos))


@rule("as_strided")
def as_strided(tracer: Tracer, call: Call) -> Labels | None:
    """Understood only where it changes nothing but the memory format."""
    return tracer.get(call.args[0]) if call.args[0].shape == call.first.shape else None


@rule("expand")
def expand(tracer: Tracer, call: Call) -> Labels:
    """A repeated dimension is frozen: one index stands for many."""
    source = call.args[0]
    labels = tracer.get(source)
    offset = call.first.ndim - source.ndim
    follows = _follows(tracer, call, labels)
    if follows is not None:
        return follows
    dims: list[Atoms | None] = [None] * offset
    for k, atoms in enumerate(labels.dims):
        if source.shape[k] == call.first.shape[k + offset]:
            dims.append(atoms)
        else:
            tracer.ties.freeze(atoms)
            dims.append(None)
    if any(d is not None for d in dims) and tracer.site("expand whole", ["same"], *dims) is None:
        dims = [None] * len(dims)
    for atoms in dims:
        tracer.keep_size(atoms)
    return labels.with_dims(dims)


@rule("repeat")
def repeat(tracer: Tracer, call: Call) -> Labels:
    """Atoms are repeated with their indices; a single index that is repeated along a width is frozen."""
    labels = tracer.get(call.args[0])
    follows = _follows(tracer, call, labels)
    if follows is not None:
        return follows
    times = call.args[1][len(call.args[1]) - len(labels.dims) :]
    dims: list[Atoms | None] = [None] * (call.first.ndim - len(labels.dims))
    for atoms, count in zip(labels.dims, times, strict=True):
        if atoms is not None and len(atoms) == 1 and count > 1:
            tracer.ties.freeze(atoms)
            atoms = None
        dims.append(None if atoms is None else np.tile(atoms, count))
    return Labels(tuple(dims), labels.zero)


@rule("copy")
def copy(tracer: Tracer, call: Call) -> Labels | None:
    """What is overwritten goes together with what is written, of the same shape."""
    target, source = call.args[:2]
    if target.shape != source.shape:
        return None
    pairs = zip(tracer.get(target).dims, tracer.get(source).dims, strict=True)
    return Labels(tuple(tracer.ties.unite(a, b) for a, b in pairs), tracer.get(source).zero)


def _follows(tracer: Tracer, call: Call, labels: Labels) -> Labels | None:
    """One map for many channels: their number is taken to be that of the features that the result meets next.

    A trial cut shows whether it is, or is a constant of the code.
    """
    shape = (1,) * (call.first.ndim - len(labels.dims)) + tuple(call.args[0].shape)
    grown = [k for k, size in enumerate(call.first.shape) if k and shape[k] == 1 and size > 1]
    dims = (None,) * (call.first.ndim - len(labels.dims)) + labels.dims
    # Of several the channels are the first, in (N, C, *).
    if not grown or (len(grown) > 1 and grown[0] != 1):
        return None
    if any(atoms is not None for k, atoms in enumerate(dims) if k != grown[0]):
        return None
    tracer.ties.freeze(dims[grown[0]])
    atoms = tracer.ties.fresh(call.first.shape[grown[0]])
    # Of a constant width these are frozen, and with them what they meet.
    if tracer.site(call.name, ["follows"], atoms) is not None:
        tracer.trace.borrowed.append(atoms)
        tracer.keep_size(atoms)
    return Labels((None,) * call.first.ndim, zero=False).replace(grown[0], atoms)


@rule("permute", "transpose", "t")
def permute(tracer: Tracer, call: Call) -> Labels:
    """Dimensions change places."""
    labels = tracer.get(call.args[0])
    order = list(range(len(labels.dims)))
    if call.name == "permute":
        order = [k % len(order) for k in call.args[1]]
    elif call.name == "t":
        order.reverse()
    else:
        a, b = call.args[1] % len(order), call.args[2] % len(order)
        order[a], order[b] = order[b], order[a]
    return labels.with_dims(labels.dims[k] for k in order)


@rule("embedding")
def embedding(tracer: Tracer, call: Call) -> Labels:
    """Rows of a table, each for an index: the table's columns go."""
    table, indices = call.args[:2]
    rows, columns = tracer.get(table).dims
    tracer.ties.freeze(rows, *tracer.get(indices).dims)
    if columns is not None:
        tracer.trace.made.add(id(columns))
    return Labels((*(None for _ in indices.shape), columns), tracer.get(table).zero)


@rule("select", "unbind")
def select(tracer: Tracer, call: Call) -> list[Labels]:
    """One index of a dimension: the dimension is frozen and gone."""
    labels = tracer.get(call.args[0])
    dim = call.argument(1, "dim", 0) % len(labels.dims)
    tracer.ties.freeze(labels.dims[dim])
    part = Labels(labels.dims[:dim] + labels.dims[dim + 1 :], labels.zero)
    return [part] * (len(call.out) if call.name == "unbind" else 1)


@rule("flip", "roll", "cumsum", "sort", "topk", "index_select")
def along_some(tracer: Tracer, call: Call) -> list[Labels]:
    """Acts along some dimensions, which are frozen, and on each index of the others by itself."""
    labels = tracer.get(call.args[0])
    count = len(labels.dims)
    default = {"cumsum": 0, "sort": -1, "topk": -1, "index_select": 0}.get(call.name)
    position, name = {"roll": (2, "dims"), "topk": (2, "dim"), "flip": (1, "dims")}.get(call.name, (1, "dim"))
    given = call.argument(position, name, default)
    dims = {k % count for k in ([given] if isinstance(given, int) else given or range(count))}
    tracer.ties.freeze(*(labels.dims[k] for k in dims))
    kept = tuple(None if k in dims else d for k, d in enumerate(labels.dims))
    return [Labels(kept, labels.zero), Labels(kept, zero=False)]


@rule("pixel_shuffle", "pixel_unshuffle")
def pixel_shuffle(tracer: Tracer, call: Call) -> Labels:
    """The r² channels that become one channel's pixels go together."""
    labels, square = tracer.get(call.args[0]), call.args[1] ** 2
    *batch, channels, height, width = labels.dims
    tracer.ties.freeze(height, width)
    if channels is not None and call.name == "pixel_shuffle":
        table = channels.reshape(-1, square)
        tracer.ties.join_columns(table)
        channels = np.ascontiguousarray(table[:, 0])
    elif channels is not None:
        channels = np.repeat(channels, square)
    return Labels((*batch, channels, None, None), labels.zero)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(tracer: Tracer, call: Call) -> Labels:
    """The same position of every group goes."""
    labels, groups = tracer.get(call.args[0]), call.args[1]
    channels = labels.dims[1]
    if channels is not None:
        table = np.ascontiguousarray(channels.reshape(groups, -1).T)
        tracer.ties.join_columns(table)
        channels = np.repeat(table[:, 0], groups)
    return Labels((labels.dims[0], channels, *labels.dims[2:]), labels.zero)
