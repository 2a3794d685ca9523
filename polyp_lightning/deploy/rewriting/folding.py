"""Batch norm multiplied into the convolutions before it, on an exported graph."""

from typing import Any

from torch import fx, nn

from polyp_lightning.deploy.rewriting.nodes import add_constant, aten, clean_up, is_constant, read_constant

_CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding)


def fold_batch_norm(graph: nn.Module) -> fx.GraphModule:
    """Multiplies every batch norm that is the only reader of a convolution into that convolution's weights.

    Works on the exported graph, not on modules, and so finds what really follows what in any network.

    The module of an ``ExportedProgram``, in evaluation mode, is changed in place and returned.
    """
    assert isinstance(graph, fx.GraphModule)  # noqa: S101 for the type checker
    nodes = [n for n in graph.graph.nodes if n.op == "call_function" and n.target == aten.batch_norm.default]
    for number, norm in enumerate(nodes):
        conv = norm.args[0]
        tensors = [*conv.args[1:3], *norm.args[1:5]]
        known = conv.target in _CONVOLUTIONS and all(tensor is None or is_constant(tensor) for tensor in tensors)
        if known and len(conv.users) == 1:
            _fold(graph, conv, norm, f"folded_{number}")
    return clean_up(graph)


def _fold(graph: fx.GraphModule, conv: fx.Node, norm: fx.Node, name: str) -> None:
    weight = read_constant(graph, conv.args[1])
    bias = read_constant(graph, conv.args[2] if len(conv.args) > 2 else None)
    gamma, beta, mean, variance = (read_constant(graph, node) for node in norm.args[1:5])
    assert weight is not None and mean is not None and variance is not None  # noqa: S101, PT018
    epsilon: Any = norm.args[7]
    # In float64: one rounding at the end instead of four.
    scale = (variance.double() + epsilon).rsqrt()
    scale = scale if gamma is None else gamma.double() * scale
    shift = (0 if bias is None else bias.double()) - mean.double()
    new_bias = shift * scale + (0 if beta is None else beta.double())
    folded = {"weight": weight.double() * scale.view(-1, 1, 1, 1), "bias": new_bias}
    with graph.graph.inserting_before(conv):
        parts = [add_constant(graph, f"{name}_{key}", value.to(weight.dtype)) for key, value in folded.items()]
    conv.args = (conv.args[0], *parts, *conv.args[3:])
    norm.replace_all_uses_with(conv)
    graph.graph.erase_node(norm)
