"""Slices and splits: parts of a dimension."""

import itertools

import numpy as np
from torch import Tensor

from polyp_lightning.pruning.labels import Atoms, Labels
from polyp_lightning.pruning.tracing.tracer import Call, Tracer, rule


@rule("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes", "chunk")
def split(tracer: Tracer, call: Call) -> list[Labels] | None:
    """Equal parts lose the same positions; unequal ones go their own ways."""
    labels = tracer.get(call.args[0])
    dim = call.argument(2, "dim", 0) % len(labels.dims)
    sizes = [part.shape[dim] for part in call.out]
    atoms = labels.dims[dim]
    if atoms is None:
        return [Labels(labels.dims, labels.zero)] * len(sizes)
    options = ["together", "apart"] if len(set(sizes)) == 1 else ["apart"]
    chosen = tracer.site(call.name, options, atoms)
    parts: list[Atoms | None] = [None] * len(sizes)
    if chosen is not None:
        bounds = [0, *itertools.accumulate(sizes)]
        pieces = [atoms[a:b] for a, b in itertools.pairwise(bounds)]
        if chosen == "together":
            tracer.ties.join_columns(np.stack(pieces, axis=1))
        for piece in (atoms, *pieces):
            tracer.keep_size(piece)
        parts = list(pieces)
    return [Labels(labels.replace(dim, piece).dims, labels.zero) for piece in parts]


@rule("slice", "narrow")
def slice_(tracer: Tracer, call: Call) -> Labels:
    """A part of a dimension keeps its atoms where the code's bounds follow a cut."""
    source: Tensor = call.args[0]
    labels = tracer.get(source)
    dim = call.argument(1, "dim", 0) % source.ndim
    atoms = labels.dims[dim]
    if atoms is None:
        return Labels(labels.dims, labels.zero, labels.is_parameter)
    start, stop = _bounds(call, len(atoms))
    whole = (start, stop) == (0, len(atoms))
    size = stop - start
    regular = not whole and size > 0 and start % size == 0 and len(atoms) % size == 0
    step = call.argument(4, "step", 1) if call.name == "slice" else 1
    options = [] if step != 1 or size == 0 else (["together", "apart"] if regular else ["apart"])
    chosen = tracer.site(call.name, options, atoms)
    if chosen is None:
        return labels.replace(dim, None)
    if chosen == "together":
        tracer.ties.join_columns(np.ascontiguousarray(atoms.reshape(-1, size).T))
    part = atoms[start:stop]
    for piece in (atoms, part, atoms[:start], atoms[:stop]):
        tracer.keep_size(piece)
    return labels if whole else Labels(labels.replace(dim, part).dims, labels.zero)


def _bounds(call: Call, size: int) -> tuple[int, int]:
    start = call.argument(2, "start", 0) or 0
    start = min(max(start + size if start < 0 else start, 0), size)
    if call.name == "narrow":
        return start, start + int(call.argument(3, "length"))
    stop = call.argument(3, "end", size)
    stop = size if stop is None else stop
    return start, max(start, min(stop + size if stop < 0 else stop, size))
