"""Copies that run without numbers."""

import copy

import pytest
import segmentation_models_pytorch as smp
import torch
from timm.layers import DropPath
from torch import nn

from polyp_lightning.pruning import fake_copy
from polyp_lightning.pruning.tracing import trace as tracing


class Slow(nn.Module):
    """Says itself how it is copied."""

    def __deepcopy__(self, memo: dict[int, object]) -> "Slow":
        return Slow()


class MyDropout(nn.Dropout):
    """May do anything while it trains."""


@pytest.mark.parametrize("encoder", ["resnet18", "timm-tf_efficientnet_lite0", "mit_b0"])
def test_copy__needs_no_way_through_pickle(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = smp.FPN(encoder, encoder_weights=None)
    taken = []
    original = copy._reconstruct
    monkeypatch.setattr(copy, "_reconstruct", lambda x, *a, **k: taken.append(x) or original(x, *a, **k))
    twin = fake_copy.Fakes(meta=True).copy(net)
    assert [type(x) for x in taken if isinstance(x, nn.Module)] == []
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in net.state_dict().items()}
    ours = {id(module) for module in net.modules()} | {
        id(vars(module)[name]) for module in net.modules() for name in ("_parameters", "_buffers", "_forward_hooks")
    }
    assert not any(id(x) in ours for module in twin.modules() for x in (module, *vars(module).values()))


def test_copy__shared_modules_stay_shared_and_what_copies_itself_does() -> None:
    layer = nn.Conv2d(3, 3, 1)
    net = nn.Sequential(layer, Slow(), layer)
    twin = fake_copy.Fakes(meta=True).copy(net)
    assert twin[0] is twin[2] is not layer
    assert twin[0].weight.is_meta
    assert type(twin[1]) is Slow
    assert twin[1] is not net[1]


def test_copy__what_was_compiled_is_left_out() -> None:
    net = nn.Conv2d(3, 3, 1)
    net._compiled_call_impl = torch.compile(net.forward, backend="eager")
    assert fake_copy.Fakes(meta=True).copy(net)._compiled_call_impl is None


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
