"""Operations that act on each element by itself, with broadcasting."""

from torch import Tensor

from polyp_lightning.pruning.labels import Atoms, Labels
from polyp_lightning.pruning.tracer import Call, Tracer, rule

_VIEWS = frozenset({"alias", "detach", "clone"})


@rule(
    *("relu", "relu6", "silu", "gelu", "hardswish", "leaky_relu", "elu", "selu", "celu", "mish", "tanh", "erf"),
    *("neg", "abs", "square", "sqrt", "sign", "sin", "tan", "hardshrink", "softshrink"),
    *("clone", "alias", "detach", "_to_copy", "lift_fresh", "contiguous", "dropout"),
)
def keeps_zero(tracer: Tracer, call: Call) -> Labels:
    """f(0) = 0: a masked channel stays 0."""
    labels = tracer.get(call.args[0])
    return Labels(labels.dims, labels.zero, labels.is_parameter and call.name in _VIEWS)


@rule("sigmoid", "hardsigmoid", "exp", "softplus", "log_sigmoid", "cos", "rsqrt", "reciprocal", "log", "log1p")
def loses_zero(tracer: Tracer, call: Call) -> Labels:
    """f(0) ≠ 0 (or undefined): a masked channel is not 0 any more."""
    return Labels(tracer.get(call.args[0]).dims, zero=False)


@rule("hardtanh", "clamp", "clamp_min", "clamp_max")
def clamp(tracer: Tracer, call: Call) -> Labels | None:
    """0 stays 0 if it lies between the bounds."""
    if call.name == "hardtanh":
        low, high = call.argument(1, "min_val", -1.0), call.argument(2, "max_val", 1.0)
    elif call.name == "clamp":
        low, high = call.argument(1, "min"), call.argument(2, "max")
    else:
        bound = call.argument(1, call.name[-3:])
        low, high = (bound, None) if call.name == "clamp_min" else (None, bound)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return None
    labels = tracer.get(call.args[0])
    inside = (low is None or low <= 0) and (high is None or high >= 0)
    return Labels(labels.dims, labels.zero and inside)


@rule("pow")
def power(tracer: Tracer, call: Call) -> Labels | None:
    """0 to a positive constant power is 0."""
    base, exponent = call.args[0], call.args[1]
    if not isinstance(base, Tensor) or isinstance(exponent, Tensor):
        return None
    labels = tracer.get(base)
    return Labels(labels.dims, labels.zero and exponent > 0)


@rule("_prelu_kernel")
def prelu(tracer: Tracer, call: Call) -> Labels:
    """0 stays 0; a masked slope alone leaves what is positive."""
    x, slope = call.args[0], call.args[1]
    return Labels(_broadcast(tracer, x, slope, call.first, product=True).dims, tracer.get(x).zero)


@rule("add", "sub", "mul", "div")
def arithmetic(tracer: Tracer, call: Call) -> Labels | None:
    """Two operands, one of which may be a number."""
    left, right = call.args[0], call.args[1]
    operation = call.name
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        if operation == "div" and tracer.get(right).any:
            return None
        return _broadcast(tracer, left, right, call.first, product=operation in ("mul", "div"))
    tensor, number = (left, right) if isinstance(left, Tensor) else (right, left)
    labels = tracer.get(tensor)
    if operation in ("add", "sub"):
        return Labels(labels.dims, labels.zero and number == 0)
    if operation == "div" and tensor is right:
        return None
    return Labels(labels.dims, labels.zero)


def _broadcast(tracer: Tracer, left: Tensor, right: Tensor, out: Tensor, *, product: bool) -> Labels:
    labels = [tracer.get(left), tracer.get(right)]
    sizes = [(1,) * (out.ndim - t.ndim) + tuple(t.shape) for t in (left, right)]
    dims = [(None,) * (out.ndim - t.ndim) + label.dims for t, label in zip((left, right), labels, strict=True)]
    result: list[Atoms | None] = []
    varies_in_one_only = False
    for k, size in enumerate(out.shape):
        full = [j for j in (0, 1) if sizes[j][k] == size]
        for j in (0, 1):
            if j not in full:
                tracer.ties.freeze(dims[j][k])  # one value serves all indices of the other operand
        if len(full) == 2:
            result.append(tracer.ties.unite(dims[0][k], dims[1][k]))
        else:
            result.append(dims[full[0]][k])
            varies_in_one_only |= result[-1] is not None
    if not product:
        return Labels(tuple(result), labels[0].zero and labels[1].zero and not varies_in_one_only)
    if not varies_in_one_only:
        return Labels(tuple(result), labels[0].zero or labels[1].zero)
    # Only an operand that runs along the channel can make the product 0 there.
    carriers = [label for label in labels if label.any]
    return Labels(tuple(result), all(label.zero for label in carriers))
