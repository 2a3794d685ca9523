from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.networks.build import build_net
from polyp_lightning.networks.complexity import Complexity, measure

PAIRS = [
    ("Unet", "resnet18"),
    ("FPN", "mobilenet_v2"),
    ("Linknet", "timm-tf_efficientnet_lite0"),
    ("Unet", "efficientnet-b0"),
    ("PSPNet", "resnet18"),
]


def torch_macs(net: nn.Module, size: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops()) // 2


def bias_additions(net: nn.Module, size: int) -> int:
    """FlopCounterMode leaves them out; up to 0.15 % of the nets below."""
    added = []
    for module in net.modules():
        if getattr(module, "bias", None) is not None and isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_hook(lambda _m, _i, out: added.append(out.numel()))
    net.eval()(torch.zeros(1, 3, size, size))
    return sum(added)


def parameters_with_gradient(net: nn.Module, size: int) -> int:
    net.eval()(torch.randn(1, 3, size, size)).sum().backward()
    return sum(p.numel() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize(("arch", "encoder"), PAIRS)
def test_measure__agrees_with_torchs_counter_and_autograd(arch: str, encoder: str) -> None:
    net = build_net(arch, encoder, None)
    found = measure(net, 128)
    macs = torch_macs(net, 128)
    assert found.gmacs == pytest.approx(macs / 1e9, rel=1.5e-3)
    assert found.gmacs == (macs + bias_additions(net, 128)) / 1e9
    assert found.params_total == sum(p.numel() for p in net.parameters())
    assert found.params_used == parameters_with_gradient(net, 64)


def test_measure__finds_layers_that_never_run() -> None:
    found = measure(build_net("PSPNet", "resnet18", None), 64)
    assert found.params_used < found.params_total / 5


class Odd(nn.Module):
    """A strided, a grouped, a transposed convolution and a linear layer; one layer is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.strided = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False)
        self.grouped = nn.Conv2d(4, 8, 3, padding=1, groups=4)
        self.up = nn.ConvTranspose2d(8, 2, 2, stride=2, bias=False)
        self.linear = nn.Linear(2, 5)
        self.unused = nn.Conv2d(9, 9, 9)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = self.up(self.grouped(self.strided(image)))
        return torch.as_tensor(self.linear(x.mean((2, 3))))


def test_measure__equals_a_count_by_hand() -> None:
    strided = 8 * 8 * 4 * 3 * 9
    grouped = 8 * 8 * (8 * 1 * 9 + 8)
    up = 8 * 8 * 8 * 2 * 4
    linear = 2 * 5 + 5
    used = 4 * 3 * 9 + 8 * 9 + 8 + 8 * 2 * 4 + 15
    expected = Complexity((strided + grouped + up + linear) / 1e9, used, used + 9 * 9 * 81 + 9)
    assert measure(Odd(), 16) == expected


class Attention(nn.Module):
    """Fused attention over pixels, without parameters apart from an unused one."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        pixels = image.flatten(2).transpose(1, 2)[:, None]
        return nn.functional.scaled_dot_product_attention(pixels, pixels, pixels)


def test_measure__counts_fused_attention() -> None:
    assert measure(Attention(), 8).gmacs == pytest.approx(2 * 64 * 64 * 3 / 1e9)


def test_measure__leaves_the_network_alone(capfd: pytest.CaptureFixture[str]) -> None:
    net = build_net("Unet", "resnet18", None).train()
    net.get_submodule("encoder.bn1").eval()
    calls: list[Any] = []
    net.register_forward_pre_hook(lambda *_: calls.append(1))
    net.get_submodule("encoder.conv1").register_forward_hook(lambda *_: calls.append(2))
    state = {k: v.clone() for k, v in net.state_dict().items()}
    modes = [m.training for m in net.modules()]
    measure(net, 64)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert calls == []
    assert capfd.readouterr() == ("", "")
    net(torch.zeros(2, 3, 64, 64))
    assert calls == [1, 2]


def test_measure__does_not_copy_what_a_hook_is_bound_to() -> None:
    class Holder:
        def __deepcopy__(self, memo: dict[int, Any]) -> "Holder":
            raise AssertionError("a hook was copied")

        def hook(self, *args: Any) -> None: ...

    net = nn.Conv2d(3, 1, 1)
    net.register_forward_hook(Holder().hook)
    assert measure(net, 4).gmacs == pytest.approx(16 * 4 / 1e9)


def test_measure__failure_is_an_error_that_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"Linknet for an input of shape \(1, 3, 65, 65\) can't be measured.*65"):
        measure(build_net("Linknet", "resnet18", None), 65)
    assert capfd.readouterr() == ("", "")
