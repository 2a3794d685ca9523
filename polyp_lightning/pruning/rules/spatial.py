"""Operations that act on the spatial dimensions only, and reductions."""

import math

from polyp_lightning.pruning.labels import Labels
from polyp_lightning.pruning.tracer import Call, Tracer, rule


@rule(
    *("upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_nearest_exact2d"),
    *("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "max_pool2d_with_indices", "avg_pool2d"),
    *("_adaptive_avg_pool2d", "adaptive_max_pool2d", "reflection_pad2d", "replication_pad2d"),
)
def resample(tracer: Tracer, call: Call) -> Labels | None:
    """Channels pass; anything labelled along height or width is frozen."""
    labels = tracer.get(call.args[0])
    if call.args[0].ndim != 4:
        return None
    tracer.ties.freeze(*labels.dims[2:])
    return Labels((*labels.dims[:2], None, None), labels.zero)


@rule("constant_pad_nd")
def pad(tracer: Tracer, call: Call) -> Labels:
    """A padded dimension is frozen; the others pass."""
    labels = tracer.get(call.args[0])
    padding, value = call.args[1], call.argument(2, "value", 0)
    for k in range(len(padding) // 2):
        if padding[2 * k] or padding[2 * k + 1]:
            dim = len(labels.dims) - 1 - k
            tracer.ties.freeze(labels.dims[dim])
            labels = labels.replace(dim, None)
    return Labels(labels.dims, labels.zero and value == 0)


@rule("mean", "sum", "amax", "amin")
def reduce(tracer: Tracer, call: Call) -> Labels | None:
    """Reduced dimensions are frozen: the result mixes all their indices."""
    source = call.args[0]
    dim = call.argument(1, "dim")
    if dim is None or call.first.ndim == 0:
        return None
    keepdim = bool(call.argument(2, "keepdim", False))
    reduced = {k % source.ndim for k in ([dim] if isinstance(dim, int) else dim or range(source.ndim))}
    labels = tracer.get(source)
    tracer.ties.freeze(*(labels.dims[k] for k in reduced))
    kept = [None if k in reduced else d for k, d in enumerate(labels.dims) if keepdim or k not in reduced]
    return Labels(tuple(kept), labels.zero)


@rule("_softmax", "_log_softmax")
def softmax(tracer: Tracer, call: Call) -> Labels:
    """Mixes one dimension; exp(0) = 1 everywhere else."""
    labels = tracer.get(call.args[0])
    dim = call.args[1] % len(labels.dims)
    tracer.ties.freeze(labels.dims[dim])
    return Labels(labels.replace(dim, None).dims, zero=False)


def positions(shape: tuple[int, ...]) -> int:
    """Number of spatial positions of an (N, C, *) tensor."""
    return math.prod(shape[2:])
