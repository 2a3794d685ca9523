"""Reading and changing the nodes of an exported graph."""

from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten

# Of conv2d after input and weight: bias, stride, padding, dilation, groups.
_DEFAULTS: tuple[Any, ...] = (None, [1, 1], [0, 0], [1, 1], 1)


def conv_options(conv: fx.Node) -> tuple[Any, ...]:
    """Returns bias, stride, padding, dilation and groups of an ``aten.conv2d``, also where the graph omits them."""
    given: tuple[Any, ...] = conv.args[2:]
    return given + _DEFAULTS[len(given) :]


def is_constant(node: Any) -> bool:
    """Whether a node reads a tensor of its graph; standardised weights, for one, are calculated."""
    return isinstance(node, fx.Node) and node.op == "get_attr"


def read_constant(graph: fx.GraphModule, node: Any) -> Tensor | None:
    """Returns the constant that a node reads; None for None or for a value that is calculated."""
    if not is_constant(node):
        return None
    value: Any = graph
    for part in str(node.target).split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)  # noqa: S101 for the type checker
    return value.detach()


def add_constant(graph: fx.GraphModule, name: str, value: Tensor) -> fx.Node:
    """Adds a tensor to the graph and a node that reads it, where nodes are being inserted."""
    graph.register_buffer(name, value)
    return graph.graph.get_attr(name)


def clean_up(graph: fx.GraphModule) -> fx.GraphModule:
    """Removes the nodes and tensors that nothing reads any more and makes a rewritten graph fit to run."""
    graph.graph.eliminate_dead_code()
    read = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in (*graph.named_parameters(), *graph.named_buffers())]:
        if name not in read:
            owner, _, key = name.rpartition(".")
            delattr(graph.get_submodule(owner), key)
    graph.recompile()
    return graph
