"""Rewritten graphs against the modules they were made of."""

from typing import Any

import pytest
import torch
from small_models import SIZE, lively_net
from torch import Tensor, nn

from polyp_lightning.deploy.rewriting.capture import Deployable, capture
from polyp_lightning.deploy.rewriting.single_channel import speed_up_single_channels


class Heads(nn.Module):
    """Convolutions with a single filter: two that are split, and four that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.square = nn.Conv2d(5, 1, 3, padding=1)
        self.oblong = nn.Conv2d(5, 1, (5, 3), padding=(0, 2), bias=False)
        self.rest = nn.ModuleList(
            [
                nn.Conv2d(5, 1, 1),
                nn.Conv2d(5, 1, 3, stride=2),
                nn.Conv2d(5, 1, 3, dilation=2, padding=2),
                nn.Conv2d(1, 1, (1, 3), padding=(0, 1)),
            ]
        )

    def forward(self, values: Tensor) -> list[Tensor]:
        *others, last = self.rest
        return [self.square(values), self.oblong(values), *(one(values) for one in others), last(values[:, :1])]


@torch.no_grad()
def test_split_filter__changes_how_and_not_what() -> None:
    torch.manual_seed(0)
    module = Heads().double().eval()
    values = torch.randn(2, 5, 12, 10, dtype=torch.float64)
    graph = speed_up_single_channels(torch.export.export(module, (values,)).module())
    convolutions = [node for node in graph.graph.nodes if "conv2d" in str(node.target)]
    assert len(convolutions) == 6 + 2
    for found, expected in zip(graph(values), module(values), strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-14)
    kept = [(name, tuple(value.shape)) for name, value in graph.named_buffers() if name.startswith("single")]
    assert kept == [
        ("single_0_rows", (3, 5, 1, 3)),
        ("single_0_sum", (1, 3, 3, 1)),
        ("single_1_rows", (5, 5, 1, 3)),
        ("single_1_sum", (1, 5, 5, 1)),
    ]


class Standardised(nn.Module):
    """A head whose weights are calculated anew in every pass, with a batch norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, 3, 3, 3))
        self.norm = nn.BatchNorm2d(1)

    def forward(self, values: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        return self.norm(nn.functional.conv2d(values, weight, padding=1))


@torch.no_grad()
def test_capture__leaves_calculated_weights_alone() -> None:
    torch.manual_seed(0)
    module = Deployable(Standardised(), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    frames = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    assert torch.allclose(capture(module, 32).module()(frames), module(frames), atol=1e-6)


class Upsample(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.interpolate(values, mode="bilinear", **self.options)


@pytest.mark.parametrize(
    "options",
    [
        {"scale_factor": 4.0, "align_corners": True},
        {"scale_factor": 4.0, "align_corners": False},
        {"scale_factor": (2.5, 3.0), "align_corners": False},
        {"scale_factor": (2.5, 3.0), "align_corners": False, "recompute_scale_factor": True},
        {"size": (31, 17), "align_corners": True},
        {"size": (31, 17), "align_corners": False},
    ],
)
@torch.no_grad()
def test_multiply_upsampling__is_the_interpolation(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    values = torch.randn(3, 1, 9, 8, dtype=torch.float64)
    graph = speed_up_single_channels(torch.export.export(Upsample(**options), (values,)).module())
    targets = [str(node.target) for node in graph.graph.nodes]
    assert not any("upsample" in target for target in targets)
    assert sum("matmul" in target for target in targets) == 2
    assert torch.allclose(graph(values), Upsample(**options)(values), rtol=0, atol=1e-13)


def test_multiply_upsampling__leaves_several_channels_alone() -> None:
    values = torch.randn(1, 2, 9, 8)
    module = Upsample(scale_factor=2.0, align_corners=True)
    graph = speed_up_single_channels(torch.export.export(module, (values,)).module())
    assert any("upsample" in str(node.target) for node in graph.graph.nodes)
    assert torch.equal(graph(values), module(values))


@pytest.mark.parametrize("dynamic", [False, True])
def test_capture__has_no_upsampling_of_one_channel(dynamic: bool) -> None:
    module = Deployable(lively_net("FPN"), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    program = capture(module, SIZE, dynamic_batch=dynamic)
    wide = [n.args[0].meta["val"].shape[1] for n in program.graph.nodes if "upsample_bilinear" in str(n.target)]
    assert wide
    assert min(wide) > 1
    frames = torch.randint(0, 256, (3 if dynamic else 1, SIZE, SIZE, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert float((program.module()(frames) - module(frames)).abs().max()) < 1e-5
