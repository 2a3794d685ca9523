"""The deployed graph against the network it was made of."""

import copy

import numpy as np
import pytest
import torch
from small_models import SIZE, cut, lively_net
from torch import Tensor, nn

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.deploy.rewriting.capture import Deployable, capture
from polyp_lightning.deploy.rewriting.folding import fold_batch_norm

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def frames(count: int = 1, size: int = SIZE) -> Tensor:
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def batch_norms(program: torch.export.ExportedProgram) -> int:
    return sum("batch_norm" in str(node.target) for node in program.graph.nodes)


def test_deployable__normalises_as_a_loop_by_hand_does() -> None:
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            seen.append(image)
            return image[:, :1]

    frame = frames(size=4)
    probability = Deployable(Spy(), MEAN, STD)(frame)
    for y, x, channel in np.ndindex(4, 4, 3):
        expected = (int(frame[0, y, x, channel]) / 255 - MEAN[channel]) / STD[channel]
        assert float(seen[0][0, channel, y, x]) == pytest.approx(expected, abs=1e-5)
    assert torch.equal(probability, seen[0][:, :1].sigmoid())


@pytest.mark.parametrize(
    ("arch", "encoder"),
    [("Unet", "resnet18"), ("FPN", "timm-tf_efficientnet_lite0"), ("DeepLabV3Plus", "mobilenet_v2")],
)
def test_capture__folds_every_batch_norm_and_changes_nothing(arch: str, encoder: str) -> None:
    net = lively_net(arch, encoder)
    before = copy.deepcopy(net.state_dict())
    program = capture(Deployable(net, MEAN, STD), SIZE)
    twin = Deployable(copy.deepcopy(net).double(), MEAN, STD).double()
    assert batch_norms(program) == 0
    assert float((program.module()(frames()) - twin(frames())).detach().abs().max()) < 1e-4
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_capture__drops_parameters_that_never_run() -> None:
    net = lively_net("Unet", "timm-tf_efficientnet_lite0")
    program = capture(Deployable(net, MEAN, STD), SIZE)
    held = sum(value.numel() for value in program.state_dict.values())
    dead = sum(p.numel() for name, p in net.named_parameters() if "conv_head" in name)
    weights = sum(p.numel() for name, p in net.named_parameters() if p.ndim == 4)
    assert dead > 400_000
    # Folded: every weight that runs, and a bias for each filter.
    assert weights - dead < held < weights - dead + 40_000


def test_capture__takes_a_pruned_network() -> None:
    module = Deployable(cut(lively_net(), 0.3), MEAN, STD)
    program = capture(module, SIZE)
    assert float((program.module()(frames()) - module(frames())).detach().abs().max()) < 1e-5


def test_capture__dynamic_batch_gives_each_frame_its_own_result() -> None:
    module = Deployable(cut(lively_net(), 0.1), MEAN, STD)
    program = capture(module, SIZE, dynamic_batch=True).module()
    three = frames(3)
    alone = torch.cat([module(frame[None]) for frame in three])
    assert float((program(three) - alone).abs().max()) < 1e-5


class Shared(nn.Module):
    """A convolution whose output two layers read, and a batch norm that follows no convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(3), nn.BatchNorm2d(4)
        self.conv = nn.Conv2d(3, 4, 3, padding="same", groups=1, bias=True)
        self.head = nn.Conv2d(4, 1, 1)
        for norm in (self.first, self.second):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)

    def forward(self, image: Tensor) -> Tensor:
        found = self.conv(self.first(image))
        return self.head(self.second(found) + found)


def test_fold_batch_norm__leaves_what_it_must() -> None:
    torch.manual_seed(0)
    module = Deployable(Shared(), MEAN, STD)
    program = capture(module, 32)
    assert batch_norms(program) == 2
    assert torch.allclose(program.module()(frames(size=32)), module(frames(size=32)), atol=1e-6)


def test_fold_batch_norm__equals_the_formula() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(2, 1, 1, bias=True), nn.BatchNorm2d(1)
    norm.running_mean.fill_(3.0)
    norm.running_var.fill_(4.0 - norm.eps)
    nn.init.constant_(norm.weight, 6.0)
    nn.init.constant_(norm.bias, 5.0)
    nn.init.constant_(conv.weight, 0.5)
    nn.init.constant_(conv.bias, 1.0)
    exported = torch.export.export(nn.Sequential(conv, norm).eval(), (torch.zeros(1, 2, 4, 4),))
    folded = dict(fold_batch_norm(exported.module()).named_buffers())
    # (w·x + 1 − 3) · 6/2 + 5
    assert torch.allclose(folded["folded_0_weight"], torch.full((1, 2, 1, 1), 1.5))
    assert torch.allclose(folded["folded_0_bias"], torch.tensor([-1.0]))


@pytest.mark.parametrize("size", [100, 0, 16])
def test_capture__refuses_a_size(size: int) -> None:
    with pytest.raises(ConfigError, match="multiple of 32"):
        capture(Deployable(nn.Identity(), MEAN, STD), size)


def test_capture__says_what_the_network_can_not_take() -> None:
    class Picky(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            if image.shape[-1] > 64:
                msg = "at most 64 pixels"
                raise ValueError(msg)
            return image

    with pytest.raises(ConfigError, match=r"can't be exported at 96².*at most 64 pixels.*--image_size"):
        capture(Deployable(Picky(), MEAN, STD), 96)
