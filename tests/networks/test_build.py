import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from polyp_lightning.common.errors import ConfigError, nearest
from polyp_lightning.networks.build import IMAGENET, build_net, normalisation, normalise, per_channel


@pytest.mark.parametrize(
    ("arch", "encoder"),
    [("Unet", "resnet18"), ("fpn", "mobilenet_v2"), ("Linknet", "timm-tf_efficientnet_lite0"), ("Unet", "tu-resnet18")],
)
def test_build_net__returns_logits_of_the_input_size(arch: str, encoder: str) -> None:
    net = build_net(arch, encoder, None).eval()
    assert net(torch.zeros(1, 3, 64, 96)).shape == (1, 1, 64, 96)


def test_build_net__options_of_the_architecture() -> None:
    net = build_net("fpn", "resnet18", None, {"decoder_pyramid_channels": 48, "decoder_segmentation_channels": 32})
    assert net.get_submodule("decoder.p5").weight.shape[0] == 48
    assert net.get_submodule("segmentation_head.0").weight.shape[1] == 32
    net = build_net("Unet", "resnet18", None, {"encoder_depth": 3, "decoder_channels": [32, 16, 8]})
    assert net.get_submodule("segmentation_head.0").weight.shape[1] == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_chanels": [64]}, r"FPN has no 'decoder_chanels'.*--model\.arch_options"),
        ({"encoder_name": 18}, "FPN has no 'encoder_name'"),
        ({"decoder_pyramid_channels": 0}, "must be a positive whole number"),
        ({"decoder_pyramid_channels": True}, "must be a positive whole number"),
        ({"decoder_pyramid_channels": []}, "must be a positive whole number"),
        ({"decoder_segmentation_channels": 48}, r"can't be built with .*48.*--model\.arch_options"),
    ],
)
def test_build_net__options_that_can_not_work(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_net("FPN", "resnet18", None, options)


def test_build_net__unknown_arch_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"arch='Unett'.*Did you mean Unet.*--model\.arch"):
        build_net("Unett", "resnet18", None)


def test_build_net__unknown_encoder_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"encoder='resnet81'.*Did you mean .*resnet18.*--model\.encoder"):
        build_net("Unet", "resnet81", None)
    with pytest.raises(ConfigError, match=r"Did you mean .*tu-resnet18"):
        build_net("Unet", "tu-resnet188", None)


def test_build_net__pair_that_does_not_go_together() -> None:
    with pytest.raises(ConfigError, match=r"'DeepLabV3Plus' can't be built with encoder='vgg11_bn'"):
        build_net("DeepLabV3Plus", "vgg11_bn", None)


def test_build_net__loads_a_local_file(tmp_path: Path) -> None:
    source = build_net("Unet", "resnet18", None)
    path = tmp_path / "encoder.pth"
    torch.save(source.get_submodule("encoder").state_dict(), path)
    net = build_net("FPN", "resnet18", str(path))
    loaded = net.get_submodule("encoder").state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in source.get_submodule("encoder").state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "neither 'imagenet', nor null, nor an existing file"),
        (b"not weights", "can't be read"),
        ({"state_dict": {}}, "instead of a state dict"),
        ({"conv1.weight": torch.zeros(1)}, "does not fit encoder='resnet18'"),
    ],
)
def test_build_net__file_that_does_not_serve(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ConfigError, match=message):
        build_net("Unet", "resnet18", str(path))


def test_build_net__damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    state = smp.encoders.get_encoder("resnet18", weights=None).state_dict()
    torch.save(state, path)
    whole = path.read_bytes()
    for damaged, message in (
        (whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :], "its checksum"),
        (whole[:-1000], "ends too early"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match=rf"encoder_weights='.*weights.pth' .*{message}"):
            build_net("Unet", "resnet18", str(path))
    torch.save(state, path, _use_new_zipfile_serialization=False)
    encoder = build_net("Unet", "resnet18", str(path)).get_submodule("encoder")
    assert torch.equal(encoder.state_dict()["conv1.weight"], state["conv1.weight"])


def test_build_net__file_with_code_is_not_executed(tmp_path: Path) -> None:
    torch.save(smp.Unet("resnet18", encoder_weights=None), tmp_path / "module.pth")
    with pytest.raises(ConfigError, match="can't be read"):
        build_net("Unet", "resnet18", str(tmp_path / "module.pth"))


def test_build_net__failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(smp.encoders, "hf_hub_download", offline)
    with pytest.raises(ConfigError, match=r"could not be downloaded.*path of a file.*or null"):
        build_net("Unet", "resnet18", "imagenet")


def test_build_net__encoder_without_published_weights() -> None:
    with pytest.raises(ConfigError, match=r"none are published for dpn92 \(only imagenet\+5k\)"):
        build_net("Unet", "dpn92", "imagenet")


def test_nearest__keeps_the_spelling_of_the_known_name() -> None:
    assert nearest("unet++", ["UnetPlusPlus", "Unet"]).startswith("Did you mean Unet")
    assert nearest("zzz", ["a", "b"]) == "Known are a, b."


def test_normalisation__agrees_with_timm_where_timm_has_the_same_weights() -> None:
    for version in range(5):
        cfg: Any = timm.models.get_pretrained_cfg(f"tf_efficientnet_lite{version}.in1k")
        assert normalisation(f"timm-tf_efficientnet_lite{version}") == (cfg.mean, cfg.std)
        cfg = timm.models.get_pretrained_cfg(f"tf_efficientnet_b{version}.in1k")
        assert normalisation(f"timm-efficientnet-b{version}") == (cfg.mean, cfg.std)
    for name in ("inception_v4", "inception_resnet_v2"):
        cfg = timm.models.get_pretrained_cfg(name)
        assert normalisation(name.replace("_", "")) == (cfg.mean, cfg.std)


def test_normalised__equals_a_loop() -> None:
    """Of whole numbers, in float64: (x / 255 - mean) / std."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 3, 4, 5), np.uint8)
    mean, std = IMAGENET
    expected = np.array([[(image[n, c] / 255 - mean[c]) / std[c] for c in range(3)] for n in range(2)])
    found = normalise(torch.from_numpy(image), per_channel(mean), per_channel(std))
    assert found.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_normalisation__by_encoder() -> None:
    assert normalisation("resnet18") == normalisation("mobilenet_v2") == normalisation("tu-resnet18") == IMAGENET
    mean, std = normalisation("dpn68")
    assert mean == pytest.approx((0.48627, 0.45882, 0.40784), abs=1e-5)
    assert std == pytest.approx((0.23482,) * 3, abs=1e-5)


def test_normalisation__needs_no_network_for_any_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smp.encoders, "hf_hub_download", None)
    for encoder in [*smp.encoders.get_encoder_names(), "timm-mobilenetv3_large_100", "timm-regnetx_002"]:
        mean, std = normalisation(encoder)
        assert len(mean) == len(std) == 3


@pytest.mark.data
@pytest.mark.parametrize(
    ("encoder", "file"),
    [
        ("timm-tf_efficientnet_lite0", "timm_tf_efficientnet_lite0.pth"),
        ("mobilenet_v2", "torchvision_mobilenet_v2_features.pth"),
    ],
)
def test_build_net__real_weights(encoder: str, file: str) -> None:
    if "POLYP_DATA" not in os.environ:
        pytest.skip("POLYP_DATA is not set: no real weights to load")
    path = Path(os.environ["POLYP_DATA"]).parent / "weights" / file
    if not path.is_file():
        pytest.skip(f"there are no weights {file} beside $POLYP_DATA")
    net = build_net("Unet", encoder, str(path))
    expected = torch.load(path, weights_only=True)  # its classifier has no place in an encoder
    loaded = net.get_submodule("encoder").state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in loaded.items())
