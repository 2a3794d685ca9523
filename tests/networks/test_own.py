import warnings
from typing import Any

import pytest
import torch
from own_nets import Supervised, returning
from torch import nn

from polyp_lightning.common.errors import ConfigError, UnnamedClassError
from polyp_lightning.networks.build import build_net
from polyp_lightning.networks.names import check_named
from polyp_lightning.networks.own import OwnNet

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def returned(kind: str, channels: int = 1, prediction: str | int | None = None) -> tuple[OwnNet, torch.Tensor]:
    """A network in evaluation mode, and its logits before it puts them into anything."""
    body = returning(kind, channels)
    return OwnNet(body, prediction).eval(), body.get_submodule("layer")(X)


@pytest.mark.parametrize("kind", ["map", "list", "tuple", "dict"])
def test_own_net__the_largest_map_is_the_prediction(kind: str) -> None:
    net, logits = returned(kind)
    torch.testing.assert_close(net(X), logits, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("kind", "prediction", "factor"),
    [("equal", 0, 1), ("equal", "1", 2), ("dict", "out", 1), ("equal dict", "aux", 2), ("stack", 1, 2), ("map", 7, 1)],
)
def test_own_net__the_prediction_can_be_named(kind: str, prediction: str | int, factor: int) -> None:
    net, logits = returned(kind, prediction=prediction)
    torch.testing.assert_close(net(X), factor * logits, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "factor", "name"), [("equal", 2, "1"), ("equal dict", 1, "out"), ("stack", 2, "1")])
def test_own_net__of_equally_large_maps_the_last_of_a_list_and_the_first_of_a_dict(
    kind: str, factor: int, name: str
) -> None:
    net, logits = returned(kind)
    with pytest.warns(UserWarning, match=f"equally large; {name} is taken for the prediction"):
        torch.testing.assert_close(net(X), factor * logits, rtol=0, atol=0)


def test_own_net__a_smaller_prediction_is_resized_to_the_image() -> None:
    net, logits = returned("small")
    half = nn.functional.avg_pool2d(logits, 2)
    resize = nn.Upsample(size=(8, 8), mode="bilinear")
    torch.testing.assert_close(net(X), resize(half), rtol=0, atol=0)
    named, _ = returned("dict", prediction="aux")
    assert named(X).shape == (2, 1, 8, 8)


def test_own_net__in_training_it_returns_all_maps_as_they_are() -> None:
    net, _ = returned("list")
    maps = net.train()(X)
    assert {name: tuple(one.shape) for name, one in maps.items()} == {"0": (2, 1, 4, 4), "1": (2, 1, 8, 8)}


@pytest.mark.parametrize(
    ("kind", "channels", "got"),
    [
        ("map", 2, "0: a tensor (2, 2, 8, 8)"),
        ("dict", 3, "aux: a tensor (2, 3, 4, 4), out: a tensor (2, 3, 8, 8)"),
        ("text", 1, "0: a str"),
        ("nested", 1, "1: a list"),
        ("empty", 1, "nothing"),
        ("flat", 1, "0: a tensor (2, 64)"),
    ],
)
def test_own_net__other_outputs_are_refused_with_what_was_got(kind: str, channels: int, got: str) -> None:
    net, _ = returned(kind, channels)
    with pytest.raises(ConfigError) as caught:
        net(X)
    assert f"returned {got};" in str(caught.value)
    assert "one channel" in str(caught.value)


def test_own_net__a_map_that_is_not_there_is_refused() -> None:
    net, _ = returned("dict", prediction="main")
    with pytest.raises(ConfigError, match=r"prediction=main.*the maps aux, out"):
        net(X)


def test_build_net__imports_a_class_and_calls_it_with_plain_values() -> None:
    net: Any = build_net("own_nets.Supervised", "", None, {"width": 6, "kernels": [5, 3]})
    assert isinstance(net.body, Supervised)
    assert (net.body.stem[0].out_channels, net.body.stem[0].kernel_size) == (6, (5, 5))


@pytest.mark.parametrize(
    ("arch", "options", "why"),
    [
        ("own_nets.Missing", {}, "own_nets has no class or function Missing"),
        ("no_such_module.Net", {}, r"no_such_module can't be imported: ModuleNotFoundError.*PYTHONPATH"),
        ("own_nets.Supervised", {"depth": 3}, r"can't be built: TypeError: .*unexpected keyword argument 'depth'"),
        ("own_nets.returning", {"kind": "map", "channels": -1}, r"own_nets\.returning with .* can't be built: "),
        ("os.getcwd", {}, r"makes a str, and a torch\.nn\.Module is needed"),
        ("own_nets.Supervised", {"width": int}, "have to be numbers, texts"),
        ("own nets.Net", {}, "no import path"),
        ("own_nets.", {}, "no import path"),
    ],
)
def test_build_net__what_cannot_be_built_is_explained(arch: str, options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        build_net(arch, "", None, options)


def test_build_net__encoder_weights_and_predictions_go_with_the_networks_that_have_them() -> None:
    with pytest.raises(ConfigError, match=r"encoder_weights='imagenet' are for encoders.*--model.encoder_weights null"):
        build_net("own_nets.Supervised", "", "imagenet")
    with pytest.raises(ConfigError, match="Unet returns one map"):
        build_net("Unet", "resnet18", None, prediction="0")


def test_check_named__only_what_the_user_has_named() -> None:
    check_named("Unet", [])
    check_named("package.Net", ["package.Net"])
    with pytest.raises(UnnamedClassError, match=r"made by package\.Net.*nothing was run") as caught:
        check_named("package.Net", ["package.Other"])
    assert caught.value.path == "package.Net"


def test_own_net__warns_no_more_than_once_a_place() -> None:
    net, _ = returned("equal")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        net(X), net(X)
    assert len(seen) == 1
