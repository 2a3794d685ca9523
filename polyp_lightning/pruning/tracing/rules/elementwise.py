"""Operations that act on each element by itself, with broadcasting."""

from torch import Tensor

from polyp_lightning.pruning.labels import Atoms, Labels
from polyp_lightning.pruning.tracing.tracer import Call, Tracer, rule

_VIEWS = frozenset({"alias", "detach", "clone"})


@rule(
    *("relu", "relu6", "silu", "gelu", "hardswish", "leaky_relu", "elu", "selu", "celu", "mish", "tanh", "erf"),
    *("neg", "abs", "square", "sqrt", "sign", "sin", "tan", "hardshrink", "softshrink"),
    *("clone", "alias", "detach", "_to_copy", "lift_fresh", "contiguous", "dropout", "native_dropout", "asinh", "atan"),
    *("sinh", "expm1", "floor", "ceil", "round", "trunc", "sgn", "positive", "nan_to_num", "log1p", "asin"),
)
def keeps_zero(tracer: Tracer, call: Call) -> Labels:
    """f(0) = 0: a masked channel stays 0."""
    labels = tracer.get(call.args[0])
    return Labels(labels.dims, labels.zero, labels.is_parameter and call.name in _VIEWS)


@rule(
    *("sigmoid", "hardsigmoid", "exp", "softplus", "log_sigmoid", "log_sigmoid_forward", "cos", "cosh", "rsqrt"),
    *("reciprocal", "log", "threshold", "bernoulli", "empty_like", "zeros_like", "ones_like", "full_like"),
    *("rand_like", "randn_like", "eq", "ne", "gt", "ge", "lt", "le", "logical_not", "isnan", "bitwise_not"),
)
def loses_zero(tracer: Tracer, call: Call) -> Labels | None:
    """f(0) ≠ 0 (or undefined, or without x): a masked channel is not 0 any more."""
    if sum(isinstance(a, Tensor) for a in call.args) > 1:
        left, right = call.args[0], call.args[1]
        return _broadcast(tracer, left, right, call.first, product=False).nonzero()
    return Labels(tracer.get(call.args[0]).dims, zero=False)


@rule("new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided")
def made_to_measure(tracer: Tracer, call: Call) -> Labels:
    """Something new, as wide as the operand wherever the sizes agree (the noise of a channel dropout, say)."""
    source = call.args[0]
    dims: list[Atoms | None] = [None] * call.first.ndim
    if source.ndim == call.first.ndim:
        sizes = zip(source.shape, call.first.shape, tracer.get(source).dims, strict=True)
        dims = [atoms if a == b else None for a, b, atoms in sizes]
    if any(d is not None for d in dims) and tracer.site("new", ["as wide"], *dims) is None:
        dims = [None] * len(dims)
    return Labels(tuple(dims), zero=False)


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


@rule("where", "addcmul", "addcdiv", "lerp", "maximum", "minimum", "atan2")
def mixed(tracer: Tracer, call: Call) -> Labels | None:
    """Several operands of one shape; whether 0 comes through is not worked out."""
    operands = [a for a in call.args if isinstance(a, Tensor) and a.ndim]
    if any(a.shape != call.first.shape for a in operands):
        return None
    dims = tracer.get(operands[0]).dims
    for operand in operands[1:]:
        dims = tuple(tracer.ties.unite(a, b) for a, b in zip(dims, tracer.get(operand).dims, strict=True))
    return Labels(dims, zero=False)


@rule("masked_fill")
def masked_fill(tracer: Tracer, call: Call) -> Labels | None:
    """Elements chosen by a mask take a number."""
    source, mask, value = call.args[:3]
    if isinstance(value, Tensor) and value.ndim:
        return None
    labels = _broadcast(tracer, source, mask, call.first, product=False)
    return Labels(labels.dims, tracer.get(source).zero and not isinstance(value, Tensor) and value == 0)


@rule("add", "sub", "rsub", "mul", "div")
def arithmetic(tracer: Tracer, call: Call) -> Labels | None:
    """Two operands, one of which may be a number."""
    left, right = call.args[0], call.args[1]
    operation = call.name
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        if operation == "div" and tracer.get(right).any:
            return _quotient(tracer, left, right, call.first)
        return _broadcast(tracer, left, right, call.first, product=operation in ("mul", "div"))
    tensor, number = (left, right) if isinstance(left, Tensor) else (right, left)
    labels = tracer.get(tensor)
    if operation in ("add", "sub", "rsub"):
        return Labels(labels.dims, labels.zero and number == 0)
    if operation == "div" and tensor is right:
        return None
    return Labels(labels.dims, labels.zero)


def _quotient(tracer: Tracer, left: Tensor, right: Tensor, out: Tensor) -> Labels | None:
    if tracer.get(right).zero:
        return None  # 0 / 0
    a = tracer.get(left)
    labels = _broadcast(tracer, left, right, out, product=False)
    carried = all(d is None or k is not None for d, k in zip(labels.dims[::-1], a.dims[::-1], strict=False))
    return Labels(labels.dims, a.zero and carried and len(a.dims) == len(labels.dims))


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
