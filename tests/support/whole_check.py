"""All that must hold of a network's trace: exact cuts, twice, a rebuilt twin, costs, scores and ONNX."""

import copy
import io
import math
import warnings
from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from cuts import random_cut
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from polyp_lightning import pruning
from polyp_lightning.pruning.criteria.taylor_hooks import ConsumerChanges
from polyp_lightning.pruning.graph import ChannelGraph, Consumer, Removed

TOLERANCE = 1e-9


def check_whole(make: Callable[[], nn.Module], shape: tuple[int, ...], *, onnx: bool = False) -> ChannelGraph:
    """Checks everything on the network with random weights, and returns its graph."""
    torch.manual_seed(0)
    net = settled(make())
    graph = pruning.trace(net, shape)
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert math.isclose(graph.total_macs(), counted_macs(net, x[:1]), rel_tol=1e-12)
    for share, seed in ((0.1, 0), (0.3, 1), (0.6, 2), (0.9, 3)):
        assert pruning.removal_error(net, graph, random_cut(graph, share, seed), x) <= TOLERANCE
    assert_scores_are_derivatives(net, graph, x)
    removed = random_cut(graph, 0.4, 4)
    assert_masking_is_felt(net, graph, removed, x)
    left = graph.total_macs(removed)
    pruning.remove(net, graph, removed)
    assert math.isclose(left, counted_macs(net, x[:1]), rel_tol=1e-12)
    assert_rebuilt_equal(make, net, x)
    again = pruning.trace(net, shape)
    assert math.isclose(again.total_macs(), left, rel_tol=1e-12)
    assert pruning.removal_error(net, again, random_cut(again, 0.5, 5), x) <= TOLERANCE
    net.train()
    sum(out.square().sum() for out in outputs(net, x)).backward()  # type: ignore[union-attr]
    if onnx:
        assert_exported_equal(net.float().eval(), x.float())
    return graph


def settled(net: nn.Module) -> nn.Module:
    """In float64 and eval mode, its scales, shifts and statistics away from 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            if tensor.ndim == 1 and name.endswith(("weight", "running_var")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim == 1:
                tensor.normal_(0, 0.3, generator=generator)
    return net.double().eval()


def outputs(net: nn.Module, x: Tensor) -> list[Tensor]:
    return [out for out in tree_leaves(net(x)) if isinstance(out, Tensor)]


def counted_macs(net: nn.Module, x: Tensor) -> float:
    """MACs for one image, counted by PyTorch."""
    net = copy.deepcopy(net).requires_grad_(False)  # the counter trips over parameters that a layer reads as input
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(x)
    return counter.get_total_flops() / 2


def assert_masking_is_felt(net: nn.Module, graph: ChannelGraph, removed: Removed, x: Tensor) -> None:
    """A comparison of two networks whose outputs don't depend on what was cut says nothing."""
    masked = copy.deepcopy(net)
    pruning.mask(masked, graph, removed)
    with torch.no_grad():
        assert max(float((a - b).abs().max()) for a, b in zip(outputs(masked, x), outputs(net, x), strict=True)) > 1e-6


def assert_rebuilt_equal(make: Callable[[], nn.Module], net: nn.Module, x: Tensor) -> None:
    again = pruning.rebuild(make().double(), pruning.describe(net)).eval()
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(outputs(again, x), outputs(net, x), strict=True))


def assert_scores_are_derivatives(net: nn.Module, graph: ChannelGraph, x: Tensor) -> None:
    """The scores are those that autograd finds for a gate at every place where the graph has its components scored."""
    got: list[Tensor] = []
    with ConsumerChanges(net, graph, lambda scores, _: got.append(scores.sum(0))):
        sum(out.square().sum() for out in outputs(net, x)).backward()  # type: ignore[union-attr]
    gates = torch.ones(graph.size, dtype=torch.float64, requires_grad=True)
    handles = [_gated(net, gates, consumer) for consumer in graph.consumers]
    sum(out.square().sum() for out in outputs(net, x)).backward()  # type: ignore[union-attr]
    for handle in handles:
        handle.remove()
    net.zero_grad()
    assert gates.grad is not None
    torch.testing.assert_close(got[0][1:], gates.grad[1:])
    scored = set().union(*(set(consumer.channels.tolist()) for consumer in graph.consumers)) - {0}
    assert scored == set(range(1, graph.size))


def _gated(net: nn.Module, gates: Tensor, consumer: Consumer) -> torch.utils.hooks.RemovableHandle:
    layer = net.get_submodule(consumer.weight.rpartition(".")[0])
    channels = torch.as_tensor(consumer.channels)

    def gated(x: Tensor) -> Tensor:
        along = torch.where(channels > 0, gates[channels], 1.0)
        return x * (along if isinstance(layer, nn.Linear) else along.view(-1, *[1] * (x.ndim - 2)))

    if consumer.side == "input":
        return layer.register_forward_pre_hook(lambda _, args: (gated(args[0]),))
    return layer.register_forward_hook(lambda _, __, out: gated(out))


def assert_exported_equal(net: nn.Module, x: Tensor) -> None:
    file = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        expected = [out.numpy() for out in outputs(net, x)]
        torch.onnx.export(net, (x,), file, dynamo=False, do_constant_folding=False)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())
