from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from polyp_lightning import pruning
from polyp_lightning.checkpoints.file import write
from polyp_lightning.cli.ckpt_path import complete_command
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.networks.build import build_net
from polyp_lightning.training.module import PolypSegmenter


def cut(net: nn.Module, share: float) -> nn.Module:
    graph = pruning.trace(net, (2, 3, 64, 64))
    pruning.remove(net, graph, pruning.select(graph, np.random.default_rng(0).random(graph.size), target=share))
    return net


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> tuple[PolypSegmenter, Path]:
    """A pruned network that has been trained as far as its batch norms know, and its checkpoint."""
    module = PolypSegmenter(encoder="mobilenet_v2", image_size=64)
    cut(module.net, 0.4)
    for layer in module.net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean += 3  # type: ignore[operator]
            layer.weight.data += 1
    content: dict[str, Any] = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    module.on_save_checkpoint(content)
    path = tmp_path_factory.mktemp("pruned") / "pruned.ckpt"
    write(content, path)
    return module, path


def from_architecture(path: Path, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    module = PolypSegmenter(encoder="mobilenet_v2", image_size=64, architecture_from=str(path))
    return module.net.state_dict()


def test_architecture_from__widths_of_the_checkpoint_and_weights_of_the_seed(
    pruned: tuple[PolypSegmenter, Path],
) -> None:
    module, path = pruned
    trained, first, again, other = module.net.state_dict(), *(from_architecture(path, seed) for seed in (0, 0, 1))
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in trained.items()}
    convs = [name for name, value in first.items() if value.ndim == 4]
    assert len(convs) > 50
    for name in convs:
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])
        assert not torch.equal(first[name], trained[name])
        # No filter is left at zero.
        assert first[name].flatten(1).norm(dim=1).min() > 0
    assert not any(bool(value.any()) for name, value in first.items() if name.endswith("running_mean"))
    norms = [n for n, m in module.net.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(bool((first[f"{name}.weight"] == 1).all()) for name in norms)


def test_architecture_from__learns() -> None:
    torch.manual_seed(0)
    net = build_net("Unet", "resnet18", None)
    plan = pruning.describe(cut(build_net("Unet", "resnet18", None), 0.3))
    from polyp_lightning.pruning.from_scratch import narrow

    narrow(net, plan)
    before = [p.detach().clone() for p in net.parameters()]
    net(torch.rand(2, 3, 64, 64)).square().sum().backward()
    torch.optim.SGD(net.parameters(), 0.1).step()
    assert all(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.parametrize("encoder", ["resnet18", "timm-tf_efficientnet_lite0"])
def test_narrow__spread_is_that_of_a_network_of_these_widths(encoder: str) -> None:
    """He et al.: variance 2 / (filters·k²/groups), in the wide convolutions, where it can be estimated."""
    from polyp_lightning.pruning.from_scratch import narrow

    torch.manual_seed(0)
    plan = pruning.describe(cut(build_net("Unet", encoder, None), 0.25))
    net = narrow(build_net("Unet", encoder, None), plan)
    seen = 0
    for name, conv in net.get_submodule("encoder").named_modules():
        if isinstance(conv, nn.Conv2d) and conv.weight.numel() > 5000:
            fan_out = conv.out_channels * conv.kernel_size[0] ** 2 / conv.groups
            assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.06), name
            seen += 1
    assert seen > 5


def test_architecture_from__other_starts_beside_it_are_refused(pruned: tuple[PolypSegmenter, Path]) -> None:
    path = str(pruned[1])
    for other in ({"encoder_weights": "imagenet"}, {"init_from": path}):
        with pytest.raises(ConfigError, match=r"both .*--model\.architecture_from.* name what to start from"):
            PolypSegmenter(encoder="mobilenet_v2", architecture_from=path, **other)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"--model\.architecture_from nowhere is not a file"):
        PolypSegmenter(architecture_from="nowhere")
    with pytest.raises(ConfigError, match="holds Unet with mobilenet_v2"):
        PolypSegmenter(architecture_from=path)


def test_started__architecture_from_takes_the_architecture_and_nothing_else(
    pruned: tuple[PolypSegmenter, Path],
) -> None:
    arguments = ["fit", "--model.architecture_from", str(pruned[1]), "--model.lr", "1"]
    expected = ["fit", "--model.arch=Unet", "--model.encoder=mobilenet_v2", *arguments[1:]]
    assert complete_command(arguments).arguments == expected
    with pytest.raises(ConfigError, match=r"--model\.architecture_from begins a new one"):
        complete_command([*arguments, "--ckpt_path", str(pruned[1])])
