import copy

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from cuts import random_cut, reference_macs
from small_nets import (
    SMALL_NETS,
    Classifier,
    HardCodedView,
    Plain,
    Residual,
    SigmoidFeature,
    SigmoidOnly,
    UnknownOperation,
    randomise,
)
from torch import nn

from polyp_lightning import pruning
from polyp_lightning.common.errors import PruningError

QUICK = [("Unet", "timm-tf_efficientnet_lite0"), ("FPN", "resnet18"), ("DeepLabV3Plus", "mobilenet_v2")]


def assert_exact_and_trainable(net: nn.Module, size: int) -> None:
    graph = pruning.trace(net, (2, 3, size, size))
    assert graph.total_macs() == pytest.approx(reference_macs(net, size), rel=1e-12)
    for seed in (0, 1):
        removed = random_cut(graph, 0.3, seed)
        assert pruning.removal_error(net, graph, removed, torch.randn(2, 3, size, size)) <= 1e-9
        expected = graph.total_macs(removed)
        pruning.remove(net, graph, removed)
        graph = pruning.trace(net, (2, 3, size, size))
        assert graph.total_macs() == pytest.approx(expected, rel=1e-12)
        assert graph.total_macs() == pytest.approx(reference_macs(net, size), rel=1e-12)
    net.train()
    net(torch.randn(2, 3, size, size)).square().mean().backward()
    assert all(p.grad.shape == p.shape for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize(("arch", "encoder"), QUICK)
def test_trace__smp_net_is_pruned_exactly(arch: str, encoder: str) -> None:
    assert_exact_and_trainable(randomise(smp.create_model(arch, encoder, encoder_weights=None)), 64)


@pytest.mark.parametrize("make", SMALL_NETS)
def test_trace__small_net_is_pruned_exactly(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    assert_exact_and_trainable(randomise(make()), 16)


def test_trace__residual_stream_goes_together() -> None:
    graph = pruning.trace(Residual(), (2, 3, 16, 16))
    sizes = sorted(len(group.components) for group in graph.groups)
    assert sizes == [5, 5, 6]
    stream = graph.axes["stem.0.weight"][0]
    assert (stream == graph.axes["branches.0.1.weight"][0]).all()
    assert (stream == graph.axes["branches.1.1.weight"][0]).all()
    assert (stream == graph.axes["head.weight"][1]).all()


@pytest.mark.parametrize("make", SMALL_NETS)
def test_trace__head_is_never_pruned(make: type[nn.Module]) -> None:
    graph = pruning.trace(make(), (2, 3, 16, 16))
    assert (graph.axes["head.weight"][0] == 0).all()


@pytest.mark.parametrize(
    ("make", "weight"),
    [(SigmoidFeature, "first.weight"), (UnknownOperation, "first.0.weight"), (HardCodedView, "first.0.weight")],
)
def test_trace__what_cannot_leave_is_frozen(make: type[nn.Module], weight: str) -> None:
    graph = pruning.trace(make(), (2, 3, 16, 16))
    assert (graph.axes[weight][0] == 0).all()


def test_trace__a_channel_that_masking_leaves_above_zero_is_masked_where_it_is_read() -> None:
    net = randomise(SigmoidOnly())
    graph = pruning.trace(net, (2, 3, 16, 16))
    assert graph.silenced == {"head.weight"}
    removed = graph.nothing()
    removed[graph.axes["first.weight"][0][2]] = True
    pruning.mask(net, graph, removed)
    assert (net.head.weight[:, 2] == 0).all()
    assert (net.head.weight[:, [0, 1, 3]] != 0).all()


def test_trace__unknown_operation_is_named() -> None:
    assert "polar" in pruning.trace(UnknownOperation(), (2, 3, 16, 16)).not_understood


def test_trace__only_what_a_constant_size_touches_is_frozen() -> None:
    graph = pruning.trace(HardCodedView(), (2, 3, 16, 16))
    assert (graph.axes["second.0.weight"][0] != 0).all()


def test_trace__free_parameter_and_linear_layers_are_followed() -> None:
    graph = pruning.trace(Classifier(), (2, 3, 16, 16))
    assert (graph.axes["scale"][0] == graph.axes["conv.0.weight"][0]).all()
    assert {c.weight for c in graph.consumers} == {"hidden.weight", "head.weight"}


def test_trace__leaves_the_net_alone() -> None:
    net = Plain().train()
    before = copy.deepcopy(net.state_dict())
    pruning.trace(net, (2, 3, 16, 16))
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_trace__net_that_does_not_run_is_explained() -> None:
    with pytest.raises(PruningError, match=r"does not run on an input of shape \(2, 4, 16, 16\)"):
        pruning.trace(Plain(), (2, 4, 16, 16))


def test_trace__is_the_same_under_deterministic_algorithms() -> None:
    net = smp.create_model("Unet", "resnet18", encoder_weights=None)
    expected = pruning.trace(net, (2, 3, 64, 64))
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        got = pruning.trace(net, (2, 3, 64, 64))
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert got.size == expected.size
    assert all(
        np.array_equal(a, b) for name in expected.axes for a, b in zip(got.axes[name], expected.axes[name], strict=True)
    )
