"""Batch norm multiplied into the convolutions before it, on an exported graph."""

from typing import Any

import torch
from torch import Tensor, fx, nn

aten = torch.ops.aten
_CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding)
# Of conv2d after input and weight: bias, stride, padding, dilation, groups.
_DEFAULTS: tuple[Any, ...] = (None, [1, 1], [0, 0], [1, 1], 1)


def fold_batch_norm(graph: nn.Module) -> fx.GraphModule:
    """Multiplies every batch norm that is the only reader of a convolution into that convolution's weights.

    Works on the exported graph, not on modules, so that it finds what really follows what in any network.

    Args:
        graph: the module of an ``ExportedProgram``, in evaluation mode; changed in place.

    Returns:
        The same module.
    """
    assert isinstance(graph, fx.GraphModule)  # noqa: S101 for the type checker
    nodes = [n for n in graph.graph.nodes if n.op == "call_function" and n.target == aten.batch_norm.default]
    for number, norm in enumerate(nodes):
        conv = norm.args[0]
        if conv.target in _CONVOLUTIONS and len(conv.users) == 1 and is_constant(conv.args[1]):
            _fold(graph, conv, norm, f"folded_{number}")
    return cleaned(graph)


def cleaned(graph: fx.GraphModule) -> fx.GraphModule:
    """A rewritten graph, fit to run, without the nodes and tensors that nothing reads any more."""
    graph.graph.eliminate_dead_code()
    read = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in (*graph.named_parameters(), *graph.named_buffers())]:
        if name not in read:
            owner, _, key = name.rpartition(".")
            delattr(graph.get_submodule(owner), key)
    graph.recompile()
    return graph


def _fold(graph: fx.GraphModule, conv: fx.Node, norm: fx.Node, name: str) -> None:
    weight, bias = tensor_of(graph, conv.args[1]), tensor_of(graph, conv.args[2] if len(conv.args) > 2 else None)
    gamma, beta, mean, variance = (tensor_of(graph, node) for node in norm.args[1:5])
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


def add_constant(graph: fx.GraphModule, name: str, value: Tensor) -> fx.Node:
    """A node that reads a new tensor of the graph, at the place where nodes are being inserted."""
    graph.register_buffer(name, value)
    return graph.graph.get_attr(name)


def options_of(conv: fx.Node) -> tuple[Any, ...]:
    """Bias, stride, padding, dilation and groups of an ``aten.conv2d``, also where the graph leaves them out."""
    given: tuple[Any, ...] = conv.args[2:]
    return given + _DEFAULTS[len(given) :]


def is_constant(node: Any) -> bool:
    """Whether a node reads a tensor of its graph; standardised weights, for one, are calculated."""
    return isinstance(node, fx.Node) and node.op == "get_attr"


def tensor_of(graph: fx.GraphModule, node: Any) -> Tensor | None:
    """The constant that a node of a graph reads; None for None."""
    if node is None:
        return None
    value: Any = graph
    for part in str(node.target).split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)  # noqa: S101 for the type checker
    return value.detach()
