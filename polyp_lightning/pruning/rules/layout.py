"""Operations that move data: concatenation, views, slices."""

import math

import numpy as np
from torch import Tensor

from polyp_lightning.pruning.labels import FROZEN, Atoms, Labels
from polyp_lightning.pruning.tracer import Call, Tracer, rule


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


@rule("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "flatten", "view_copy")
def reshape(tracer: Tracer, call: Call) -> Labels:
    """A dimension that comes through whole keeps its atoms; one that is split or merged is frozen."""
    source: Tensor = call.args[0]
    labels = tracer.get(source)
    dims: list[Atoms | None] = [None] * call.first.ndim
    before = [math.prod(call.first.shape[:k]) for k in range(call.first.ndim)]
    for k, atoms in enumerate(labels.dims):
        if atoms is None:
            continue
        start = math.prod(source.shape[:k])
        same = [j for j, b in enumerate(before) if b == start and call.first.shape[j] == source.shape[k]]
        if not same or source.shape[k] == 1:
            tracer.ties.freeze(atoms)
            continue
        dims[same[0]] = atoms
        if call.name in ("view", "_unsafe_view", "reshape"):
            tracer.trace.viewed.append(atoms)  # the size may be a constant in the net's code: a trial cut decides
    return Labels(tuple(dims), labels.zero, labels.is_parameter)


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
    dims: list[Atoms | None] = [None] * offset
    for k, atoms in enumerate(labels.dims):
        if source.shape[k] == call.first.shape[k + offset]:
            dims.append(atoms)
        else:
            tracer.ties.freeze(atoms)
            dims.append(None)
    tracer.trace.viewed.extend(d for d in labels.dims if d is not None)
    return Labels(tuple(dims), labels.zero, labels.is_parameter)


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
    return Labels(tuple(labels.dims[k] for k in order), labels.zero, labels.is_parameter)


@rule("slice", "narrow", "split", "split_with_sizes", "unsafe_split", "index_select")
def slice_(tracer: Tracer, call: Call) -> Labels:
    """A whole slice and equal chunks keep their atoms; any other part freezes the dimension."""
    source: Tensor = call.args[0]
    labels = tracer.get(source)
    position = 2 if "split" in call.name else 1
    dim = call.argument(position, "dim", 0) % source.ndim
    if call.name == "slice" and source.shape == call.first.shape:
        tracer.trace.viewed.extend(a for a in labels.dims[dim : dim + 1] if a is not None)  # narrow(1, 0, 64)
        return labels
    atoms = labels.dims[dim]
    if atoms is not None and call.name in ("split", "unsafe_split") and _equal_parts(call, dim, len(atoms)):
        parts = atoms.reshape(len(call.out), -1)
        tracer.ties.join_columns(np.ascontiguousarray(parts.T))  # the same position of every chunk goes
        tracer.trace.viewed.append(atoms)  # a chunk's size may be a constant
        return Labels(labels.replace(dim, parts[0]).dims, labels.zero)
    tracer.ties.freeze(atoms)
    return Labels(labels.replace(dim, None).dims, labels.zero)


def _equal_parts(call: Call, dim: int, size: int) -> bool:
    width = call.first.shape[dim]
    return all(part.shape[dim] == width for part in call.out) and size == len(call.out) * width


@rule("select", "unbind")
def select(tracer: Tracer, call: Call) -> Labels:
    """One index of a dimension: the dimension is frozen and gone."""
    labels = tracer.get(call.args[0])
    dim = call.argument(1, "dim", 0) % len(labels.dims)
    tracer.ties.freeze(labels.dims[dim])
    return Labels(labels.dims[:dim] + labels.dims[dim + 1 :], labels.zero)
