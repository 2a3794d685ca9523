"""What is asked of a cell: two exact removals in a row, training, ONNX and the cost."""

import copy
import dataclasses
import io
import math
import time
import warnings

import numpy as np
import onnxruntime
import torch
from cells import Cell, build, side
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from polyp_lightning import pruning
from polyp_lightning.pruning.graph import ChannelGraph, Removed

SHARE = 0.3
TOLERANCE = 1e-9
DRAWS = 5
# float32 in two run times whose convolutions add up in different orders.
ONNX_TOLERANCE = 1e-3
# Pools to 1, 2, 3 and 6 pixels. The exporter that can do so takes 5 to 20 s, hence only with a few encoders.
NEWER_EXPORTER = ("PSPNet", "UPerNet")
FEW = ("resnet18", "mobilenet_v2", "timm-skresnet18")


@dataclasses.dataclass
class Result:
    """One line of the table.

    Attributes:
        status: exact, failed, or refused where the network cannot be built or run without pruning.
        reason: why, unless exact.
        error: largest difference of masked and pruned in float64, relative to the largest output; of two removals.
        onnx: largest difference of ONNX Runtime and torch in float32, relative likewise; NaN if not asked for.
        frozen: share of the executed parameters that no removal can reach.
        components: how many can be removed one by one.
        macs_left, parameters_left: shares after both removals, of 30 % of every group.
        trace_seconds: of the first trace. seconds: of everything.
    """

    arch: str
    encoder: str
    status: str = "failed"
    reason: str = ""
    error: float = math.nan
    onnx: float = math.nan
    frozen: float = math.nan
    components: int = 0
    macs_left: float = math.nan
    parameters_left: float = math.nan
    trace_seconds: float = math.nan
    seconds: float = 0.0
    not_understood: str = ""


def check(cell: Cell, onnx: bool = True) -> Result:
    """Run all checks on a cell; never raises."""
    result, start = Result(*cell), time.perf_counter()
    torch.manual_seed(0)
    images = torch.randn(2, 3, side(cell), side(cell))
    try:
        net = build(*cell).eval()
        with torch.no_grad():
            net(images)
    except Exception as error:
        result.status, result.reason = "refused", _first_line(error)
    else:
        _check_drawn(result, cell, images, onnx=onnx)
    result.seconds = time.perf_counter() - start
    return result


def _check_drawn(result: Result, cell: Cell, images: Tensor, *, onnx: bool) -> None:
    """With the first of a few draws of weights whose output says something even when a third of the network is gone."""
    for draw in range(DRAWS):
        torch.manual_seed(draw)
        try:
            _check(randomise(build(*cell).eval(), draw), images, result, onnx=onnx)
        except Exception as error:
            result.reason = _first_line(error)
            if isinstance(error, Vacuous):
                continue
        else:
            result.status, result.reason = "exact", ""
        return


class Vacuous(AssertionError):
    """A comparison that could not fail: narrow random networks can be dead behind their activations."""


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _check(net: nn.Module, images: Tensor, result: Result, *, onnx: bool) -> None:
    start = time.perf_counter()
    graph = pruning.trace(net, images.shape)
    result.trace_seconds = time.perf_counter() - start
    result.components = graph.size - 1
    result.not_understood = " ".join(f"{name}:{count}" for name, count in graph.not_understood.items())
    parameters = executed_parameters(net, graph)
    result.frozen = graph.frozen_share(frozenset(parameters))
    macs = graph.total_macs()
    scored = np.unique(np.concatenate([consumer.channels for consumer in graph.consumers]))
    require(set(range(1, graph.size)) <= set(scored.tolist()), "a component has no layer at which it is scored")
    net.double()
    errors = []
    for seed in (0, 1):
        removed = random_cut(graph, SHARE, seed)
        errors.append(cut_and_compare(net, graph, removed, images.double()))
        left = graph.total_macs(removed)
        graph = pruning.trace(net, images.shape)
        require(math.isclose(graph.total_macs(), left, rel_tol=1e-12), "the graph's MACs are not those of a new trace")
    result.error = max(errors)
    require(result.error <= TOLERANCE, f"masked and pruned differ by {result.error:.1e}")
    result.macs_left = graph.total_macs() / macs
    result.parameters_left = sum(executed_parameters(net, graph).values()) / sum(parameters.values())
    net.float()
    train_once(net, images)
    newer = result.arch in NEWER_EXPORTER
    if onnx and (not newer or result.encoder in FEW):
        result.onnx = onnx_difference(net, images, newer=newer)
        require(result.onnx <= ONNX_TOLERANCE, f"ONNX Runtime and torch differ by {result.onnx:.1e}")


def require(condition: bool, message: str) -> None:
    """An assertion with a message for the table."""
    if not condition:
        raise AssertionError(message)


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Norms, biases and other vectors away from 0 and 1, so that masking and removing are told apart."""
    generator = torch.Generator().manual_seed(seed)
    norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
    scales = {id(m.weight) for m in net.modules() if isinstance(m, norms) and m.weight is not None}
    with torch.no_grad():
        for parameter in net.parameters():
            if id(parameter) in scales:
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif parameter.ndim == 1:
                parameter.normal_(0, 0.3, generator=generator)
        for module in net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    return net


def random_cut(graph: ChannelGraph, share: float, seed: int) -> Removed:
    """A share of every group at random, and at least one component of every group that has two."""
    rng, removed = np.random.default_rng(seed), graph.nothing()
    for group in graph.groups:
        size = len(group.components)
        if size > 1:
            removed[rng.choice(group.components, max(1, int(share * size)), replace=False)] = True
    return removed


def executed_parameters(net: nn.Module, graph: ChannelGraph) -> dict[str, int]:
    """Elements of every parameter that the forward pass reaches."""
    return {name: p.numel() for name, p in net.named_parameters() if name in graph.executed}


def cut_and_compare(net: nn.Module, graph: ChannelGraph, removed: Removed, images: Tensor) -> float:
    """Removes from ``net``, and returns its difference from a masked copy relative to the largest output.

    A comparison that could not fail is refused: masking has to change the output, and the output has to depend on the
    place and on the image.
    """
    masked = copy.deepcopy(net)
    pruning.mask(masked, graph, removed)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            dense = net(images)
        expected = masked(images)
        pruning.remove(net, graph, removed)
        got = net(images)
    require(
        math.isclose(counter.get_total_flops() / 2 / len(images), graph.total_macs(), rel_tol=1e-12),
        f"{counter.get_total_flops() / 2 / len(images):.0f} MACs counted, {graph.total_macs():.0f} in the graph",
    )
    size = float(expected.abs().max())
    require(bool(removed.any()), "nothing can be removed")
    changes = (dense - expected, expected - expected.mean(dim=(2, 3), keepdim=True), expected[0] - expected[1])
    for change, what in zip(changes, ("masking", "the place", "the image"), strict=True):
        if float(change.abs().max()) <= 1e-6 * size:
            msg = f"the output does not depend on {what}"
            raise Vacuous(msg)
    return float((expected - got).abs().max()) / size


def train_once(net: nn.Module, images: Tensor) -> None:
    """A step's forward and backward pass in training mode; leaves the network in eval mode."""
    net.train()
    net(images).square().mean().backward()
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    require(bool(gradients) and all(bool(g.isfinite().all()) for g in gradients), "no gradients, or not finite")
    net.eval().zero_grad()


def onnx_difference(net: nn.Module, images: Tensor, *, newer: bool) -> float:
    """ONNX Runtime against torch on the same float32 images.

    Torch's older exporter takes a third of the time of the newer one and writes the same operations, but knows no
    translation for pooling to sizes that don't divide the image's.
    """
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        expected = net(images).numpy()
        if newer:
            torch.onnx.export(net, (images,), file, dynamo=True, optimize=False, verbose=False)
        else:
            torch.onnx.export(net, (images,), file, dynamo=False, do_constant_folding=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    return float(np.abs(got - expected).max() / np.abs(expected).max())
