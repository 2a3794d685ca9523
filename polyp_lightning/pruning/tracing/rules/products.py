"""Convolutions and matrix products: where channels are produced and consumed, and what costs."""

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from polyp_lightning.pruning.labels import FROZEN, Atoms, Labels
from polyp_lightning.pruning.tracing.recording import MacRecord
from polyp_lightning.pruning.tracing.rules.spatial import positions
from polyp_lightning.pruning.tracing.tracer import Call, Tracer, rule


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
    name = tracer.layer_of(tracer.name_of(weight))
    if name is None or x.is_parameter:
        # A computed weight (weight standardisation, dynamic filters), or one used outside of its layer, where neither
        # scores nor a number of groups can be attached: hands off.
        tracer.ties.freeze(x.dims[1], *w.dims)
        made: Atoms | None = None
    elif groups == 1:
        made = _dense(tracer, name, x, w, transposed=transposed)
    elif x.dims[1] is None:
        tracer.ties.freeze(*w.dims)
        made = None
    else:
        made = (_grouped_transposed if transposed else _grouped)(tracer, name, x, w, groups)
    if isinstance(bias, Tensor):
        made = tracer.ties.unite(made, tracer.get(bias).dims[0])
    return Labels((None, made, *(None for _ in call.first.shape[2:])), zero=True)


def _record_cost(tracer: Tracer, source: Tensor, weight: Tensor, w: Labels, out: Tensor, *, transposed: bool) -> None:
    kernel = math.prod(weight.shape[2:])
    # Images that were folded into the batch (frames, windows) count as often as they are.
    images = tracer.items_of(source, weight)
    where = positions(tuple(source.shape if transposed else out.shape)) * out.shape[0] / images
    axes = (_axis(w.dims[0], weight.shape[0]), _axis(w.dims[1], weight.shape[1]))
    tracer.current.macs.append(MacRecord(axes, float(kernel * where)))


def _dense(tracer: Tracer, name: str, x: Labels, w: Labels, *, transposed: bool) -> Atoms | None:
    made, read = (w.dims[1], w.dims[0]) if transposed else (w.dims[0], w.dims[1])
    tracer.ties.unite(x.dims[1], read)
    _consume(tracer, name, read, x.dims[1], zero=x.zero)
    if made is not None:
        tracer.trace.made.add(id(made))
    return made


def _grouped(tracer: Tracer, name: str, x: Labels, w: Labels, groups: int) -> Atoms | None:
    channels, made, read = x.dims[1], w.dims[0], w.dims[1]
    if channels is None or made is None or read is None:
        return None
    tracer.trace.grouped[f"{name}.weight"] = channels
    outputs, inputs = made.reshape(groups, -1), channels.reshape(groups, -1)
    if groups >= inputs.shape[1] or name in tracer.whole_groups:
        # Depthwise, or many small groups: whole groups go, and with their own filters masked the result is 0.
        tracer.ties.freeze(read)
        tracer.ties.join_columns(np.concatenate([outputs, inputs], axis=1))
        made = np.repeat(outputs[:, 0], outputs.shape[1])
    else:
        # Few wide groups: the same position of every group goes.
        tracer.trace.positions[name] = channels
        tracer.ties.join_columns(np.ascontiguousarray(outputs.T))
        tracer.ties.join_columns(np.ascontiguousarray(inputs.T))
        tracer.ties.join(inputs[0], read)
        _consume(tracer, name, read, channels, zero=x.zero)
    return made


def _grouped_transposed(tracer: Tracer, name: str, x: Labels, w: Labels, groups: int) -> Atoms | None:
    """Whole groups go: with their own filters masked the result is 0."""
    channels = tracer.ties.unite(x.dims[1], w.dims[0])
    tracer.ties.freeze(w.dims[1])
    if channels is None or w.dims[1] is None:
        return None
    tracer.trace.grouped[f"{name}.weight"] = channels
    table = channels.reshape(groups, -1)
    tracer.ties.join_columns(table)
    return np.repeat(table[:, 0], len(w.dims[1]))


def _consume(tracer: Tracer, name: str, read: Atoms | None, channels: Atoms | None, *, zero: bool) -> None:
    if read is not None:
        tracer.trace.consumed.append(read)
        tracer.trace.read.add(id(read))
        if not zero:
            # Behind a sigmoid or a constant a masked channel is felt: "not there" then means "not read".
            tracer.trace.silenced.add(tracer.owner_of(read) or f"{name}.weight")
    if channels is not None:
        tracer.trace.consumers[f"{name}.weight"] = channels


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
    # The same bias for all indices of a dimension is not 0 where one of them is masked.
    repeated = any(
        dims[k] is not None and (k < offset or bias.shape[k - offset] != size)
        for k, size in enumerate(call.first.shape)
    )
    return Labels(tuple(dims), result.zero and b.zero and not repeated)


def _matmul(tracer: Tracer, left: Tensor, right: Tensor) -> Labels:
    a, b = tracer.get(left), tracer.get(right)
    inner_a, inner_b = a.dims[-1], b.dims[-2]
    tracer.ties.unite(inner_a, inner_b)
    _consume_inner(tracer, a, b)
    batch = [tracer.ties.unite(p, q) for p, q in zip(a.dims[:-2], b.dims[:-2], strict=True)]
    shape = (*left.shape, right.shape[-1])
    inner = inner_b if inner_a is None else inner_a
    images = tracer.items_of(left, right)
    _record_product(tracer, shape, [*a.dims[:-1], inner, b.dims[-1]], images)
    shared = any(d is not None for d in batch)
    zero = (a.zero or a.dims[-2] is None) and (b.zero or b.dims[-1] is None) and (a.zero or b.zero or not shared)
    return Labels((*batch, a.dims[-2], b.dims[-1]), zero)


def _consume_inner(tracer: Tracer, a: Labels, b: Labels) -> None:
    sources = {labels.source for labels in (a, b) if labels.source}
    layer = tracer.layer_of(None if b.dims[-2] is None else tracer.owner_of(b.dims[-2]))
    if layer is not None and b.is_parameter and not a.is_parameter:
        tracer.trace.escaped.update(sources)
        _consume(tracer, layer, b.dims[-2], a.dims[-1], zero=a.zero)
        if b.dims[-1] is not None:
            tracer.trace.made.add(id(b.dims[-1]))
        return
    inner = a.dims[-1]
    if inner is not None and b.dims[-2] is not None and (a.zero or b.zero) and not (a.is_parameter or b.is_parameter):
        # Queries times keys: no layer reads the channels, so they are scored where one of the two is made. If that
        # output has other uses, they are frozen in the end.
        tracer.score_at_output([a, b], inner)
        return
    # A weight outside of its layer: nothing to hook, so no score.
    tracer.trace.escaped.update(sources)
    tracer.ties.freeze(a.dims[-1], b.dims[-2])
    for labels in (a, b):
        if labels.is_parameter:
            tracer.ties.freeze(*labels.dims)


def _record_product(tracer: Tracer, shape: Sequence[int], dims: list[Atoms | None], images: int) -> None:
    removable = tuple(d for d in dims if d is not None)
    constant = math.prod(size for size, d in zip(shape, dims, strict=True) if d is None)
    tracer.current.macs.append(MacRecord(removable, constant / images))
