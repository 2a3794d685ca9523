"""What is asked of a cell: two exact removals in a row, training, ONNX and the cost."""

import copy
import dataclasses
import io
import itertools
import math
import time
import warnings

import numpy as np
import onnxruntime
import torch
from cells import TOKEN_ENCODERS, Cell, build, side
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from polyp_lightning import pruning
from polyp_lightning.pruning.graph import ChannelGraph, Removed

SHARE = 0.3
TOLERANCE = 1e-9
# Draws of weights at the smallest side, and as many at twice that side, before a comparison is given up as vacuous.
DRAWS = 3
# float32 in two run times whose convolutions add up in different orders.
ONNX_TOLERANCE = 1e-3
# Pools to 1, 2, 3 and 6 pixels, which torch's older exporter can't say.
NEWER_EXPORTER = ("PSPNet", "UPerNet")


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
        unread: how many of them no layer reads.
        macs_left, parameters_left: shares after both removals, of 30 % of every group.
        side: height and width of the images. draws: of weights, the first whose output says something being the last.
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
    unread: int = 0
    macs_left: float = math.nan
    parameters_left: float = math.nan
    side: int = 0
    draws: int = 0
    trace_seconds: float = math.nan
    seconds: float = 0.0
    not_understood: str = ""


def check(cell: Cell, onnx: bool = True) -> Result:
    """Run all checks on a cell; never raises."""
    result, start = Result(*cell), time.perf_counter()
    try:
        net = _drawn(cell, 0)
        with torch.no_grad():
            net(_images(side(cell)))
    except Exception as error:
        result.status, result.reason = "refused", _first_line(error)
    else:
        _check_drawn(result, net, cell, onnx=onnx)
    result.seconds = time.perf_counter() - start
    return result


def _check_drawn(result: Result, net: nn.Module, cell: Cell, *, onnx: bool) -> None:
    """With the first draw of weights whose output says something even when half of the network is gone.

    A comparison that could not fail is never passed: other weights are tried, then larger images, and in the end the
    cell has failed.
    """
    sides = (side(cell),) if cell[1] in TOKEN_ENCODERS else (side(cell), 2 * side(cell))
    for size, draw in itertools.product(sides, range(DRAWS)):
        result.side, result.draws = size, result.draws + 1
        net, images = net if result.draws == 1 else _drawn(cell, draw), _images(size)
        try:
            _check(settle(randomise(net, draw), images, draw), images, result, onnx=onnx)
        except Vacuous as error:
            result.reason = _first_line(error)
            continue
        except Exception as error:
            result.reason = _first_line(error)
        else:
            result.status, result.reason = "exact", ""
        return


def _drawn(cell: Cell, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build(*cell).eval()


def _images(size: int) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


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
    net.double()
    dense = macs_counted(net, graph, images.double())
    result.unread = check_unread(net, graph, images.double(), dense)
    errors = []
    for seed in (0, 1):
        removed = random_cut(graph, SHARE, seed)
        error, dense = cut_and_compare(net, graph, removed, images.double(), dense)
        errors.append(error)
        left = graph.total_macs(removed)
        graph = pruning.trace(net, images.shape)
        require(math.isclose(graph.total_macs(), left, rel_tol=1e-12), "the graph's MACs are not those of a new trace")
    result.error = max(errors)
    require(result.error <= TOLERANCE, f"masked and pruned differ by {result.error:.1e}")
    result.macs_left = graph.total_macs() / macs
    result.parameters_left = sum(executed_parameters(net, graph).values()) / sum(parameters.values())
    net.float()
    train_once(net, images)
    if onnx:
        result.onnx = onnx_difference(net, images, newer=result.arch in NEWER_EXPORTER)
        require(result.onnx <= ONNX_TOLERANCE, f"ONNX Runtime and torch differ by {result.onnx:.1e}")


def require(condition: bool, message: str) -> None:
    """An assertion with a message for the table."""
    if not condition:
        raise AssertionError(message)


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Scales, biases and other vectors away from 0 and 1, so that masking and removing are told apart."""
    generator = torch.Generator().manual_seed(seed)
    norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
    scales = {id(m.weight) for m in net.modules() if isinstance(m, norms) and m.weight is not None}
    with torch.no_grad():
        for parameter in net.parameters():
            if id(parameter) in scales:
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif parameter.ndim == 1:
                parameter.normal_(0, 0.3, generator=generator)
    return net


def settle(net: nn.Module, images: Tensor, seed: int = 0) -> nn.Module:
    """Batch norm's statistics near those of the images.

    With statistics from nowhere a deep network's signal dies out among its shifts: the output is the same for any image
    to twelve digits, and a comparison of two outputs says nothing.
    """
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return net
    generator = torch.Generator().manual_seed(seed)
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.momentum = 1.0
    torch.manual_seed(seed)
    with torch.no_grad():
        net.train()(images)
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
        mean, variance = module.running_mean, module.running_var
        mean += 0.3 * variance.sqrt() * torch.randn(len(mean), generator=generator)
        # A channel that hardly varies would be blown up.
        variance.mul_(torch.rand(len(mean), generator=generator).mul(1.5).add(0.5)).clamp_(min=1e-4)
    return net.eval()


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


def macs_counted(net: nn.Module, graph: ChannelGraph, images: Tensor, removed: Removed | None = None) -> Tensor:
    """The output; what torch counts on the way must be the graph's MACs."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        out: Tensor = net(images)
    counted, told = counter.get_total_flops() / 2 / len(images), graph.total_macs(removed)
    require(math.isclose(counted, told, rel_tol=1e-12), f"{counted:.0f} MACs counted, {told:.0f} in the graph")
    return out


def check_unread(net: nn.Module, graph: ChannelGraph, images: Tensor, dense: Tensor) -> int:
    """How many components no layer reads, and hence scores; the output without them must be the same bit for bit."""
    unread = graph.unread()
    if unread.any():
        masked = copy.deepcopy(net)
        pruning.mask(masked, graph, unread)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            require(torch.equal(masked(images), dense), "a component has no layer at which it is scored, but is felt")
    return int(unread.sum())


def cut_and_compare(
    net: nn.Module, graph: ChannelGraph, removed: Removed, images: Tensor, dense: Tensor
) -> tuple[float, Tensor]:
    """Removes from ``net``, and returns its difference from a masked copy relative to the largest output; its output.

    A comparison that could not fail is refused: masking has to change the output ``dense`` from before, and the output
    has to depend on the place and on the image.
    """
    require(bool(removed.any()), "nothing can be removed")
    masked = copy.deepcopy(net)
    pruning.mask(masked, graph, removed)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        expected = masked(images)
    del masked
    size = float(expected.abs().max())
    changes = (dense - expected, expected - expected.mean(dim=(2, 3), keepdim=True), expected[0] - expected[1])
    for change, what in zip(changes, ("masking", "the place", "the image"), strict=True):
        if not float(change.abs().max()) > 1e-6 * size:
            msg = f"the output does not depend on {what}"
            raise Vacuous(msg)
    pruning.remove(net, graph, removed)
    got = macs_counted(net, graph, images, removed)
    return float((expected - got).abs().max()) / size, got


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
