"""Convolutions and matrix products: where channels are produced and consumed, and what costs."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from polyp_lightning.pruning.labels import FROZEN, Atoms, Labels
from polyp_lightning.pruning.rules.spatial import positions
from polyp_lightning.pruning.tracer import Call, MacRecord, Tracer, rule


def _axis(atoms: Atoms | None, size: int) -> Atoms:
    return np.full(size, FROZEN, np.int64) if atoms is None else atoms


@rule("convolution", "_convolution", "cudnn_convolution", "mkldnn_convolution")
def convolution(tracer: Tracer, call: Call) -> Labels:
    """Any number of spatial dimensions, grouped, depthwise or transposed."""
    source, weight, bias, *_ = call.args
    transposed, groups = bool(call.args[6]), int(call.args[8])
    x, w = tracer.get(source), tracer.get(weight)
    tracer.ties.freeze(x.dims[0], *x.dims[2:], *w.dims[2:])
    _record_cost(tracer, source, weight, w, call.first, transposed=transposed)
    name = tracer.name_of(weight)
    if name is None:
        # A computed weight (weight standardisation, dynamic filters): hands off.
        tracer.ties.freeze(x.dims[1], *w.dims)
        made: Atoms | None = None
    elif groups == 1:
        made = _dense(tracer, name, x, w, transposed=transposed)
    elif transposed or x.dims[1] is None:
        tracer.ties.freeze(x.dims[1], *w.dims)
        made = None
    else:
        made = _grouped(tracer, name, x, w, groups)
    if isinstance(bias, Tensor):
        made = tracer.ties.unite(made, tracer.get(bias).dims[0])
    return Labels((None, made, *(None for _ in call.first.shape[2:])), zero=True)


def _record_cost(tracer: Tracer, source: Tensor, weight: Tensor, w: Labels, out: Tensor, *, transposed: bool) -> None:
    kernel = math.prod(weight.shape[2:])
    where = positions(tuple(source.shape if transposed else out.shape))
    axes = (_axis(w.dims[0], weight.shape[0]), _axis(w.dims[1], weight.shape[1]))
    tracer.trace.macs.append(MacRecord(axes, float(kernel * where)))


def _dense(tracer: Tracer, name: str, x: Labels, w: Labels, *, transposed: bool) -> Atoms | None:
    made, read = (w.dims[1], w.dims[0]) if transposed else (w.dims[0], w.dims[1])
    if not x.zero:
        tracer.ties.freeze(x.dims[1])
    tracer.ties.unite(x.dims[1], read)
    _consume(tracer, name, read, x.dims[1])
    return made


def _grouped(tracer: Tracer, name: str, x: Labels, w: Labels, groups: int) -> Atoms | None:
    channels, made, read = x.dims[1], w.dims[0], w.dims[1]
    if channels is None or made is None or read is None:
        return None
    if not x.zero:
        tracer.ties.freeze(channels)
    tracer.trace.grouped[name] = channels
    outputs, inputs = made.reshape(groups, -1), channels.reshape(groups, -1)
    if groups >= inputs.shape[1]:
        # Depthwise, or many small groups: whole groups go.
        tracer.ties.freeze(read)
        tracer.ties.join_columns(np.concatenate([outputs, inputs], axis=1))
    else:
        # Few wide groups: the same position of every group goes.
        tracer.ties.join_columns(np.ascontiguousarray(outputs.T))
        tracer.ties.join_columns(np.ascontiguousarray(inputs.T))
        tracer.ties.join(inputs[0], read)
        _consume(tracer, name, read, channels)
    return made


def _consume(tracer: Tracer, name: str, read: Atoms | None, channels: Atoms | None) -> None:
    if read is not None:
        tracer.trace.consumed.append(read)
    if channels is not None:
        tracer.trace.consumers[name] = channels


@rule("mm", "bmm")
def product(tracer: Tracer, call: Call) -> Labels:
    """(…, M, K) @ (…, K, N)."""
    return _matmul(tracer, call.args[0], call.args[1])


@rule("addmm", "baddbmm")
def product_plus(tracer: Tracer, call: Call) -> Labels:
    """A product with a bias that is broadcast from the last dimension."""
    result = _matmul(tracer, call.args[1], call.args[2])
    bias: Tensor = call.args[0]
    b = tracer.get(bias)
    dims, offset = list(result.dims), len(result.dims) - bias.ndim
    for k, atoms in enumerate(b.dims):
        if bias.shape[k] == call.first.shape[k + offset]:
            dims[k + offset] = tracer.ties.unite(dims[k + offset], atoms)
        else:
            tracer.ties.freeze(atoms)
    return Labels(tuple(dims), result.zero and b.zero)


def _matmul(tracer: Tracer, left: Tensor, right: Tensor) -> Labels:
    a, b = tracer.get(left), tracer.get(right)
    inner_a, inner_b = a.dims[-1], b.dims[-2]
    if not (a.zero and b.zero):
        tracer.ties.freeze(inner_a, inner_b)  # a sum over values that are not 0 when masked
    tracer.ties.unite(inner_a, inner_b)
    _consume_inner(tracer, a, b)
    batch = [tracer.ties.unite(p, q) for p, q in zip(a.dims[:-2], b.dims[:-2], strict=True)]
    shape = (*left.shape, right.shape[-1])
    inner = inner_b if inner_a is None else inner_a
    images = 1 if a.is_parameter and b.is_parameter else tracer.batch
    _record_product(tracer, shape, [*a.dims[:-1], inner, b.dims[-1]], images)
    zero = all(labels.zero for labels, outer in ((a, a.dims[-2]), (b, b.dims[-1])) if _carries(labels, outer))
    return Labels((*batch, a.dims[-2], b.dims[-1]), zero)


def _carries(labels: Labels, outer: Atoms | None) -> bool:
    return outer is not None or any(d is not None for d in labels.dims[:-2])


def _consume_inner(tracer: Tracer, a: Labels, b: Labels) -> None:
    # One side of a product of two parameters has to stay the producer, or nothing would be masked.
    side, channels = (b.dims[-2], a.dims[-1]) if b.is_parameter else (a.dims[-1], b.dims[-2])
    if side is None or not (a.is_parameter or b.is_parameter):
        return
    tracer.trace.consumed.append(side)
    name = tracer.owner_of(side)
    if name is not None and channels is not None:
        tracer.trace.consumers[name] = channels


def _record_product(tracer: Tracer, shape: Sequence[int], dims: list[Atoms | None], images: int) -> None:
    removable = tuple(d for d in dims if d is not None)
    constant = math.prod(size for size, d in zip(shape, dims, strict=True) if d is None)
    tracer.trace.macs.append(MacRecord(removable, constant / images))
