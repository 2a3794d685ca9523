"""The graph that is deployed: raw frames in, probabilities out, batch norm folded, a single filter in two steps."""

import warnings
from typing import Any

import torch
from torch import Tensor, fx, nn

from polyp_lightning.deploy.bundle import INPUT
from polyp_lightning.errors import ConfigError

aten = torch.ops.aten
# Of conv2d after input and weight: bias, stride, padding, dilation, groups.
_DEFAULTS: tuple[Any, ...] = (None, [1, 1], [0, 0], [1, 1], 1)
_CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding)


class Deployable(nn.Module):
    """A segmentation network with its preprocessing and its sigmoid.

    Takes frames as a decoder gives them, RGB uint8 (N, S, S, 3), so that scale, colour order and normalisation can't
    be got wrong by a caller; returns probabilities, float32 (N, 1, S, S).

    Args:
        net: takes normalised float images (N, 3, S, S) and returns logits (N, 1, S, S); put into evaluation mode.
        mean: per RGB channel, for values in [0, 1].
        std: likewise.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, 3, 1, 1)), persistent=False)
        self.eval()

    def forward(self, frame: Tensor) -> Tensor:
        """Probabilities of frames."""
        # Permuted, frames are channels_last already.
        image = frame.permute(0, 3, 1, 2).to(self.mean.dtype)
        probability: Tensor = self.net((image - self.mean) * self.scale).sigmoid()
        return probability


def check_size(image_size: int) -> None:
    """Refuses a size that the networks can't take.

    Raises:
        ConfigError: it is no multiple of 32.
    """
    if image_size < 32 or image_size % 32:
        msg = f"--image_size {image_size} must be a multiple of 32: encoders halve the frame five times"
        raise ConfigError(msg)


def capture(module: Deployable, image_size: int, dynamic_batch: bool = False) -> torch.export.ExportedProgram:
    """The graph of a module as an ``ExportedProgram`` without batch norm behind convolutions.

    Args:
        module: the network; stays as it is.
        image_size: side in pixels of the frames, a multiple of 32.
        dynamic_batch: whether the graph takes any number of frames, else one.

    Raises:
        ConfigError: the network can't be exported so.
    """
    check_size(image_size)
    # A batch of one would be taken for a constant.
    frame = torch.zeros(2 if dynamic_batch else 1, image_size, image_size, 3, dtype=torch.uint8)
    shapes: Any = {INPUT: {0: torch.export.Dim("batch", min=1, max=1024)}} if dynamic_batch else None
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (frame,), dynamic_shapes=shapes)
            # `strict` runs Dynamo, which is slower and buys nothing for a graph that is one already.
            graph = split_single_filters(fold_batch_norm(program.module()))
            return torch.export.export(graph, (frame,), dynamic_shapes=shapes)
    except Exception as error:
        # Whatever the network's own forward raises on a size or batch that it can't take.
        first = str(error).strip().split("\n", maxsplit=1)[0]
        hint = ", or leave --dynamic_batch out" if dynamic_batch else ""
        msg = f"the network can't be exported at {image_size}²: {first}. Choose another --image_size{hint}."
        raise ConfigError(msg) from error


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
        if conv.target in _CONVOLUTIONS and len(conv.users) == 1:
            _fold(graph, conv, norm, f"folded_{number}")
    graph.graph.eliminate_dead_code()
    _drop_unread(graph)
    graph.recompile()
    return graph


def split_single_filters(graph: fx.GraphModule) -> fx.GraphModule:
    """Computes every convolution with one filter row by row of its kernel, and adds the rows up.

    Processors calculate 8 or 16 filters at once, so that a k×k convolution with a single one, the head of most
    segmentation networks, takes as long as one with 16. A 1×k convolution makes the k sums over a row each, and a k×1
    convolution with weights 0 and 1 adds them up: the same products, in half the time (OpenVINO, 16 channels, 352²).

    Args:
        graph: as of :func:`fold_batch_norm`; changed in place.

    Returns:
        The same module.
    """
    nodes = [n for n in graph.graph.nodes if n.op == "call_function" and n.target == aten.conv2d.default]
    for number, conv in enumerate(nodes):
        weight = _value(graph, conv.args[1])
        bias, stride, padding, dilation, groups = (*conv.args[2:], *_DEFAULTS[len(conv.args) - 2 :])
        if weight is None or len(weight) > 1 or weight.shape[2] == 1 or groups != 1:
            continue
        if list(stride) != [1, 1] or list(dilation) != [1, 1]:
            continue
        rows = weight.shape[2]
        parts = {f"rows_{number}": weight[0].transpose(0, 1)[:, :, None], f"sum_{number}": _adds_up(rows, weight)}
        with graph.graph.inserting_before(conv):
            for name, value in parts.items():
                graph.register_buffer(name, value.contiguous())
            kernels = [graph.graph.get_attr(name) for name in parts]
            found = graph.graph.call_function(conv.target, (conv.args[0], kernels[0], None, [1, 1], [0, padding[1]]))
        conv.args = (found, kernels[1], bias, [1, 1], [padding[0], 0])
    _drop_unread(graph)
    graph.recompile()
    return graph


def _adds_up(rows: int, like: Tensor) -> Tensor:
    """The kernel (1, rows, rows, 1) that takes row r from channel r."""
    return torch.eye(rows, dtype=like.dtype, device=like.device)[None, :, :, None]


def _drop_unread(graph: fx.GraphModule) -> None:
    """Deletes tensors that no node reads: those before folding, and layers that never ran."""
    read = {str(node.target) for node in graph.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in (*graph.named_parameters(), *graph.named_buffers())]:
        if name not in read:
            owner, _, key = name.rpartition(".")
            delattr(graph.get_submodule(owner), key)


def _fold(graph: fx.GraphModule, conv: fx.Node, norm: fx.Node, name: str) -> None:
    weight, bias = _value(graph, conv.args[1]), _value(graph, conv.args[2] if len(conv.args) > 2 else None)
    gamma, beta, mean, variance = (_value(graph, node) for node in norm.args[1:5])
    assert weight is not None and mean is not None and variance is not None  # noqa: S101, PT018
    epsilon: Any = norm.args[7]
    # In float64: one rounding at the end instead of four.
    scale = (variance.double() + epsilon).rsqrt()
    scale = scale if gamma is None else gamma.double() * scale
    shift = (0 if bias is None else bias.double()) - mean.double()
    new_bias = shift * scale + (0 if beta is None else beta.double())
    folded = {"weight": weight.double() * scale.view(-1, 1, 1, 1), "bias": new_bias}
    with graph.graph.inserting_before(conv):
        for key, value in folded.items():
            graph.register_buffer(f"{name}_{key}", value.to(weight.dtype))
        parts = [graph.graph.get_attr(f"{name}_{key}") for key in folded]
    conv.args = (conv.args[0], *parts, *conv.args[3:])
    norm.replace_all_uses_with(conv)
    graph.graph.erase_node(norm)


def _value(graph: fx.GraphModule, node: Any) -> Tensor | None:
    if node is None:
        return None
    value: Any = graph
    for part in str(node.target).split("."):
        value = getattr(value, part)
    assert isinstance(value, Tensor)  # noqa: S101 for the type checker
    return value.detach()
