"""Normalisation layers."""

from torch import Tensor

from polyp_lightning.pruning.labels import Labels
from polyp_lightning.pruning.tracing.tracer import Call, Tracer, rule


@rule(
    *("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "batch_norm", "_native_batch_norm_legit"),
    *("_native_batch_norm_legit_no_training", "_batch_norm_with_update", "_batch_norm_no_update"),
)
def batch_norm(tracer: Tracer, call: Call) -> Labels:
    """Per channel: with scale and shift masked the result is 0; without them 0 is mapped to 0."""
    labels = tracer.get(call.args[0])
    weight, bias = call.args[1], call.args[2]
    channels = labels.dims[1]
    for tensor in call.args[1:5]:
        if isinstance(tensor, Tensor):
            channels = tracer.ties.unite(channels, tracer.get(tensor).dims[0])
    affine = isinstance(weight, Tensor) and isinstance(bias, Tensor)
    # Without scale and shift, and with the statistics of the batch, 0 everywhere stays 0. With running statistics,
    # masked to 0 like everything of the channel, it does as well.
    plain = weight is None and bias is None
    tracer.ties.freeze(labels.dims[0], *labels.dims[2:])
    dims = (None, channels, *(None for _ in labels.dims[2:]))
    return Labels(dims, zero=affine or (plain and labels.zero))


@rule("native_layer_norm")
def layer_norm(tracer: Tracer, call: Call) -> Labels:
    """Frozen along the normalised dimensions: no exact removal exists.

    Without the channel the mean and variance of the others are taken over fewer values.
    """
    labels = tracer.get(call.args[0])
    normalised, weight, bias = len(call.args[1]), call.args[2], call.args[3]
    tracer.ties.freeze(*labels.dims[-normalised:])
    tracer.freeze(t for t in (weight, bias) if isinstance(t, Tensor))
    return Labels(labels.dims[:-normalised] + (None,) * normalised, zero=False)


@rule("native_group_norm")
def group_norm(tracer: Tracer, call: Call) -> Labels | None:
    """Whole groups go: the statistics of the others stay as they are."""
    weight, bias, groups = call.args[1], call.args[2], int(call.args[6])
    if not (isinstance(weight, Tensor) and isinstance(bias, Tensor)) or not tracer.layer_of(tracer.name_of(weight)):
        return None  # outside of its layer the number of groups is a constant of the code
    labels = tracer.get(call.args[0])
    tracer.ties.freeze(labels.dims[0], *labels.dims[2:])
    channels = labels.dims[1]
    for tensor in (weight, bias):
        channels = tracer.ties.unite(channels, tracer.get(tensor).dims[0])
    if channels is not None:
        tracer.ties.join_columns(channels.reshape(groups, -1))
    return Labels((None, channels, *(None for _ in labels.dims[2:])), zero=True)
