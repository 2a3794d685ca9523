"""Operations that act on the spatial dimensions only, and reductions."""

import math

import numpy as np
from torch import Tensor

from polyp_lightning.pruning.labels import FROZEN, Labels
from polyp_lightning.pruning.tracing.tracer import Call, Tracer, rule


@rule(
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d"),
    *("upsample_bicubic2d", "upsample_trilinear3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"),
    *("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "grid_sampler_2d"),
    *("max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices"),
    *("avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d"),
    *("_adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"),
    *("reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
    *("replication_pad1d", "replication_pad2d", "replication_pad3d"),
)
def resample(tracer: Tracer, call: Call) -> Labels | None:
    """Channels pass; anything labelled along height or width is frozen."""
    labels = tracer.get(call.args[0])
    rank = 2 + int(next(c for c in call.name if c in "123"))
    if call.args[0].ndim != rank:
        return None  # without a batch dimension
    if call.name == "grid_sampler_2d":
        tracer.freeze(call.tensors[1:])
    tracer.ties.freeze(*labels.dims[2:])
    return Labels((*labels.dims[:2], *(None for _ in labels.dims[2:])), labels.zero)


@rule("max_unpool2d", "max_unpool3d")
def unpool(tracer: Tracer, call: Call) -> Labels | None:
    """Each channel is laid out by its own indices; what lies between is 0."""
    if call.first.ndim != 2 + int(call.name[-2]):
        return None  # without a batch dimension
    values, indices = (tracer.get(t) for t in call.args[:2])
    tracer.ties.freeze(*values.dims[2:], *indices.dims[2:])
    batch, channels = (tracer.ties.unite(a, b) for a, b in zip(values.dims[:2], indices.dims[:2], strict=True))
    return Labels((batch, channels, *(None for _ in values.dims[2:])), values.zero)


@rule("constant_pad_nd")
def pad(tracer: Tracer, call: Call) -> Labels:
    """What is added to a dimension never leaves; a dimension that is trimmed is frozen."""
    labels = tracer.get(call.args[0])
    padding, value = call.args[1], call.argument(2, "value", 0)
    for k in range(len(padding) // 2):
        dim, before, after = len(labels.dims) - 1 - k, padding[2 * k], padding[2 * k + 1]
        atoms = labels.dims[dim]
        if atoms is None or not (before or after):
            continue
        if before < 0 or after < 0:
            tracer.ties.freeze(atoms)
            labels = labels.replace(dim, None)
        else:
            labels = labels.replace(dim, np.pad(atoms, (before, after), constant_values=FROZEN))
    # Along a padded dimension only the frozen indices hold the value; along the others it would be felt.
    return Labels(labels.dims, labels.zero and (value == 0 or sum(d is not None for d in labels.dims) == 0))


@rule("max", "min", "argmax", "argmin", "var", "std", "var_mean", "linalg_vector_norm", "logsumexp", "prod", "norm")
def reduce_otherwise(tracer: Tracer, call: Call) -> list[Labels] | None:
    """Like a sum, but whether 0 comes through is not worked out."""
    source = call.args[0]
    position = 2 if call.name in ("linalg_vector_norm", "norm") else 1
    dim = call.argument(position, "dim")
    if dim is None or isinstance(dim, Tensor) or call.first.ndim == 0:
        return None
    reduced = {k % source.ndim for k in ([dim] if isinstance(dim, int) else dim or range(source.ndim))}
    labels = tracer.get(source)
    tracer.ties.freeze(*(labels.dims[k] for k in reduced))
    keepdim = call.first.ndim == source.ndim
    kept = tuple(None if k in reduced else d for k, d in enumerate(labels.dims) if keepdim or k not in reduced)
    return [Labels(kept, zero=False)] * 2


@rule("mean", "sum", "amax", "amin")
def reduce(tracer: Tracer, call: Call) -> Labels | None:
    """Reduced dimensions are frozen, since the result mixes all their indices; but what is 0 adds nothing to a sum."""
    source = call.args[0]
    dim = call.argument(1, "dim")
    if dim is None or call.first.ndim == 0:
        return None
    keepdim = bool(call.argument(2, "keepdim", False))
    reduced = {k % source.ndim for k in ([dim] if isinstance(dim, int) else dim or range(source.ndim))}
    labels = tracer.get(source)
    mixed = [atoms for k in reduced if (atoms := labels.dims[k]) is not None]
    if call.name == "sum" and labels.zero and len(mixed) == 1:
        tracer.score_at_output([labels], mixed[0])
    else:
        tracer.ties.freeze(*mixed)
    kept = [None if k in reduced else d for k, d in enumerate(labels.dims) if keepdim or k not in reduced]
    return Labels(tuple(kept), labels.zero)


@rule("_softmax", "_log_softmax", "_safe_softmax")
def softmax(tracer: Tracer, call: Call) -> Labels:
    """Mixes one dimension; exp(0) = 1 everywhere else."""
    labels = tracer.get(call.args[0])
    dim = call.args[1] % len(labels.dims)
    tracer.ties.freeze(labels.dims[dim])
    return Labels(labels.replace(dim, None).dims, zero=False)


def positions(shape: tuple[int, ...]) -> int:
    """Number of spatial positions of an (N, C, *) tensor."""
    return math.prod(shape[2:])
