"""Copies without values keep what a network is made of."""

import itertools

import pytest
import segmentation_models_pytorch as smp
import torch
from timm.layers import DropPath
from torch import nn

from polyp_lightning.pruning import fake_copy
from polyp_lightning.pruning.example import Example
from polyp_lightning.pruning.tracing import trace as tracing


class MyDropout(nn.Dropout):
    """May do anything while it trains."""


def fake(net: nn.Module) -> nn.Module:
    return fake_copy.Fakes(net, Example.of((2, 3, 8, 8)), meta=True).copy()


def test_copy__what_was_compiled_is_left_out() -> None:
    net = nn.Conv2d(3, 3, 1)
    net._compiled_call_impl = torch.compile(net.forward, backend="eager")
    assert fake(net)._compiled_call_impl is None


class Slow(nn.Module):
    """Says itself how it is copied."""

    def __deepcopy__(self, memo: dict[int, object]) -> "Slow":
        return Slow()


def test_copy__what_copies_itself_does() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), Slow())
    twin = fake(net)
    assert type(twin[1]) is Slow
    assert twin[1] is not net[1]


class Own(nn.Module):
    """Shares a part, keeps a list, and refers back to the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.second = self.first
        self.sizes = [4, self.first[0].weight]
        self.first.__dict__["whole"] = self


def test_copy__is_apart_from_the_original_and_keeps_what_is_shared() -> None:
    net = Own().train()
    twin = fake(net)
    assert [(n, type(m)) for n, m in twin.named_modules()] == [(n, type(m)) for n, m in net.named_modules()]
    assert list(twin.state_dict()) == list(net.state_dict())
    assert twin.second is twin.first
    assert twin.first.whole is twin
    assert twin.sizes[1] is twin.first[0].weight
    assert not any(m.training for m in twin.modules())
    assert all(m.training for m in net.modules())
    for a, b in itertools.product(net.modules(), twin.modules()):
        assert a is not b
        assert a._forward_hooks is not b._forward_hooks
        assert a._parameters is not b._parameters
    assert all(t.is_meta for t in (*twin.parameters(), *twin.buffers()))


def test_train__leaves_common_dropouts_alone_and_no_others() -> None:
    net = nn.Sequential(nn.Dropout2d(0.5), DropPath(0.5), MyDropout(0.5), nn.BatchNorm2d(3), nn.AlphaDropout(0.5))
    assert [module.training for module in fake_copy.train(net)] == [False, False, True, True, True]
    assert not any(module.training for module in fake_copy.train(net, False))


@pytest.mark.parametrize(("arch", "encoder"), [("FPN", "mobilenet_v2"), ("Unet", "timm-tf_efficientnet_lite0")])
def test_trace__one_pass_where_dropout_is_all_that_training_adds(
    arch: str, encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    original = tracing.run_traced
    monkeypatch.setattr(tracing, "run_traced", lambda *a: passes.append(a) or original(*a))
    tracing.trace(smp.create_model(arch, encoder, encoder_weights=None), (2, 3, 64, 64))
    assert len(passes) == 1
