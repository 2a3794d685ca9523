"""The same values for less time, where an exported graph convolves what it has just enlarged.

Most decoders double a feature map by repeating each value and convolve the result by 3×3. Among the nine values under a
kernel only four differ then: five of nine products are made for nothing.
"""

from typing import Any

import torch
from torch import Tensor, fx

from polyp_lightning.deploy.rewriting.nodes import add_constant, aten, clean_up, conv_options, read_constant


def merge_upsampling(graph: fx.GraphModule) -> fx.GraphModule:
    """Computes a doubling by repetition and the 3×3 convolution behind it as one transposed convolution.

    With stride 2 and a 4×4 kernel of sums of the old one's values it makes the same numbers in 4/9 of the products, the
    zeros around the map included. Where the doubled map is concatenated with others first, these get a convolution of
    their own, and the two are added: a sum over channels may be split. Everything else is left alone.

    The module of an ``ExportedProgram`` is changed in place and returned.
    """
    for number, conv in enumerate([node for node in graph.graph.nodes if node.target == aten.conv2d.default]):
        weight = read_constant(graph, conv.args[1])
        if weight is not None and _is_plain(conv, weight):
            _merge(graph, conv, weight, f"upsampled_{number}")
    return clean_up(graph)


def _is_plain(conv: fx.Node, weight: Tensor) -> bool:
    _, *options, groups = conv_options(conv)
    return weight.shape[2:] == (3, 3) and groups == 1 and all(list(option) == [1, 1] for option in options)


def _merge(graph: fx.GraphModule, conv: fx.Node, weight: Tensor, name: str) -> None:
    source: Any = conv.args[0]
    parts = _parts(source)
    doubled = [part for part in parts if _is_doubled(part)]
    if len(doubled) != 1 or len(source.users) > 1:
        return
    own = dict(zip(parts, weight.split([part.meta["val"].shape[1] for part in parts], 1), strict=True))
    bias = conv_options(conv)[0]
    with graph.graph.inserting_before(conv):
        kernel = add_constant(graph, f"{name}_doubled", doubling_kernel(own.pop(doubled[0])))
        enlarging = (doubled[0].args[0], kernel, bias, [2, 2], [1, 1])
        merged = graph.graph.call_function(aten.conv_transpose2d.input, enlarging)
        if own:
            others = list(own)
            rest = others[0] if len(others) == 1 else graph.graph.call_function(aten.cat.default, (others, 1))
            kernel = add_constant(graph, f"{name}_others", torch.cat(list(own.values()), 1))
            more = graph.graph.call_function(aten.conv2d.default, (rest, kernel, None, [1, 1], [1, 1]))
            merged = graph.graph.call_function(aten.add.Tensor, (merged, more))
    conv.replace_all_uses_with(merged)


def _parts(source: fx.Node) -> list[Any]:
    """Returns what is concatenated along channels; the node itself where nothing is."""
    if source.target != aten.cat.default or (source.args[1] if len(source.args) > 1 else 0) != 1:
        return [source]
    parts: Any = source.args[0]
    return list(parts)


def _is_doubled(node: Any) -> bool:
    if node.target != aten.upsample_nearest2d.vec:
        return False
    before, after = node.args[0].meta["val"].shape[2:], node.meta["val"].shape[2:]
    # Where a scale is given, it decides which value is repeated, and a size of twice as much can be rounded.
    scales = node.args[2] or (2.0, 2.0)
    return tuple(scales) == (2.0, 2.0) and all(
        type(a) is type(b) is int and b == 2 * a for a, b in zip(before, after, strict=True)
    )


def doubling_kernel(weight: Tensor) -> Tensor:
    """Returns the transposed convolution's kernel (C, O, 4, 4) for that of a convolution (O, C, 3, 3)."""
    # A value that was repeated at 0 and 1 reaches the outputs −1 … 2, each through the taps that see one of the two.
    taps = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.float64)
    sums = torch.einsum("ai,ocij,bj->coab", taps, weight.double(), taps)
    return sums.to(weight.dtype).contiguous()
