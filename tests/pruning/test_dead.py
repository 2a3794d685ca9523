"""Parameters that no forward pass reaches."""

import copy

import pytest
import segmentation_models_pytorch as smp
import torch
from hostile_cuts import Auxiliary, random_cut
from small_nets import randomise
from torch import nn

from polyp_lightning import pruning
from polyp_lightning.common.errors import PruningError

SHAPE = (2, 3, 64, 64)


def unused_stages() -> nn.Module:
    torch.manual_seed(0)
    return randomise(smp.PSPNet("efficientnet-b0", encoder_weights=None))


def test_drop_dead__output_stays_bit_for_bit() -> None:
    net = unused_stages().eval()
    graph = pruning.trace(net, SHAPE)
    x = torch.randn(SHAPE)
    with torch.no_grad():
        expected = net(x)
    before = sum(p.numel() for p in net.parameters())
    dropped = pruning.drop_dead(net, graph)
    assert set(dropped) == set(graph.dead)
    assert sum(p.numel() for p in net.parameters()) == before - graph.dead_parameters < before
    assert {name for name, _ in net.named_parameters()} == graph.executed & {name for name, _ in net.named_parameters()}
    with torch.no_grad():
        assert torch.equal(net(x), expected)


def test_drop_dead__with_a_removal_plan_and_training() -> None:
    net = unused_stages()
    graph = pruning.trace(net, SHAPE)
    pruning.remove(net, graph, random_cut(graph, 0.4, 0))
    pruning.drop_dead(net, graph)
    graph = pruning.trace(net, SHAPE)
    assert graph.dead == ()
    assert pruning.assert_exact(net, graph, random_cut(graph, 0.3, 1), torch.randn(SHAPE)) <= 1e-9
    optimizer = torch.optim.AdamW(net.parameters())
    net.train()(torch.randn(SHAPE)).square().mean().backward()
    optimizer.step()
    again = pruning.rebuild(unused_stages(), pruning.describe(net))
    again.load_state_dict(net.state_dict(), strict=True)
    torch.optim.AdamW(again.parameters()).load_state_dict(copy.deepcopy(optimizer.state_dict()))
    x = torch.randn(SHAPE)
    with torch.no_grad():
        assert torch.equal(again.eval()(x), net.eval()(x))
    assert pruning.describe(again) == pruning.describe(net)


def test_drop_dead__batch_norm_statistics_can_still_be_renewed() -> None:
    net = smp.Unet("timm-tf_efficientnet_lite0", encoder_weights=None)
    assert any("bn" in name for name in pruning.drop_dead(net, pruning.trace(net, (2, 3, 64, 64))))
    for one in (
        net,
        pruning.rebuild(smp.Unet("timm-tf_efficientnet_lite0", encoder_weights=None), pruning.describe(net)),
    ):
        torch.optim.swa_utils.update_bn([torch.randn(2, 3, 64, 64)], one)
        assert all(p.isfinite().all() for p in one.buffers())


def test_drop_dead__what_only_training_uses_stays() -> None:
    net = Auxiliary()
    pruning.drop_dead(net, pruning.trace(net, (2, 3, 16, 16)))
    assert net.unused.weight is None
    assert net.side[0].weight is not None
    net.train()(torch.randn(2, 3, 16, 16))["side"].sum().backward()


def test_rebuild__refuses_to_drop_half_a_layer() -> None:
    plan = pruning.describe(Auxiliary())
    del plan["shapes"]["stem.bias"]
    with pytest.raises(PruningError, match=r"another architecture.*stem\.bias"):
        pruning.rebuild(Auxiliary(), plan)


class Asking(Auxiliary):
    def forward(self, x: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        return super().forward(x.to(self.unused.weight.dtype))


def test_drop_dead__what_the_code_asks_for_stays() -> None:
    net = Asking()
    graph = pruning.trace(net, (2, 3, 16, 16))
    with pytest.raises(PruningError, match=r"asks for parameters.*unused\.weight"):
        pruning.drop_dead(net, graph)
    assert net.unused.weight is not None
