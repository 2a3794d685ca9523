"""A doubling merged with the convolution behind it, against the modules it was made of."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_models import SIZE, lively_net
from torch import Tensor, nn

from polyp_lightning.deploy.rewriting.capture import Deployable, capture
from polyp_lightning.deploy.rewriting.upsampled import merge_upsampling


class Block(nn.Module):
    """A doubled map between others, convolved.

    Args:
        before: channels ahead of it.
        behind: and after it.
        options: of the convolution.
    """

    def __init__(self, before: int, behind: int, **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before + 4 + behind, 5, **{"kernel_size": 3, "padding": 1, **options})

    def forward(self, low: Tensor, before: Tensor, behind: Tensor) -> Tensor:
        doubled = F.interpolate(low, scale_factor=2.0, mode="nearest")
        parts = [part for part in (before, doubled, behind) if part.shape[1]]
        return self.conv(torch.cat(parts, 1) if len(parts) > 1 else doubled)


def inputs(before: int, behind: int) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    sizes = ((4, 7, 5), (before, 14, 10), (behind, 14, 10))
    return tuple(torch.randn(2, *size, dtype=torch.float64) for size in sizes)


def targets(graph: Any) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


class Sized(Block):
    """A doubling that is asked for by its size."""

    def forward(self, low: Tensor, before: Tensor, behind: Tensor) -> Tensor:
        return self.conv(F.interpolate(low, size=(14, 10)))


@torch.no_grad()
def test_merge_upsampling__by_size() -> None:
    module, values = Sized(0, 0).double().eval(), inputs(0, 0)
    graph = merge_upsampling(torch.export.export(module, values).module())
    assert "aten.conv_transpose2d.input" in targets(graph)
    assert torch.allclose(graph(*values), module(*values), rtol=0, atol=1e-13)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("before", "behind"), [(0, 0), (0, 3), (3, 0), (2, 3)])
@torch.no_grad()
def test_merge_upsampling__changes_how_and_not_what(before: int, behind: int, bias: bool) -> None:
    torch.manual_seed(1)
    module, values = Block(before, behind, bias=bias).double().eval(), inputs(before, behind)
    graph = merge_upsampling(torch.export.export(module, values).module())
    found = targets(graph)
    assert "aten.conv_transpose2d.input" in found
    assert not any("upsample" in target for target in found)
    assert found.count("aten.conv2d.default") == (before + behind > 0)
    assert found.count("aten.cat.default") == (before > 0 and behind > 0)
    assert torch.allclose(graph(*values), module(*values), rtol=0, atol=1e-13)


class LeftAlone(nn.Module):
    """Convolutions behind an enlarged map that can't be merged with it so."""

    def __init__(self) -> None:
        super().__init__()
        kinds: list[dict[str, Any]] = [
            {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2}, {"groups": 2, "padding": 1}, {},
            {"kernel_size": 5, "padding": 2}, {"padding": 1, "padding_mode": "reflect"},
        ]  # fmt: skip
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, **{"kernel_size": 3, **kind}) for kind in kinds)
        self.plain = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(4))
        self.two = nn.Conv2d(8, 4, 3, padding=1)
        self.shared = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(2))

    def forward(self, low: Tensor) -> list[Tensor]:
        def larger(**options: Any) -> Tensor:
            return F.interpolate(low, **{"scale_factor": 2.0, **options})

        three, bilinear, wide, rounded = self.plain
        once = larger()
        return [
            *(conv(larger()) for conv in self.convs),
            three(larger(scale_factor=3.0)),
            bilinear(larger(mode="bilinear")),
            wide(larger(scale_factor=(2.0, 4.0))),
            rounded(larger(scale_factor=2.1)),
            self.two(torch.cat([larger(), larger()], 1)),
            *(conv(once) for conv in self.shared),
            once,
        ]


@torch.no_grad()
def test_merge_upsampling__leaves_others_alone() -> None:
    torch.manual_seed(0)
    module, values = LeftAlone().double().eval(), torch.randn(1, 4, 6, 6, dtype=torch.float64)
    graph = merge_upsampling(torch.export.export(module, (values,)).module())
    assert not any("conv_transpose" in target for target in targets(graph))
    for found, expected in zip(graph(values), module(values), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dynamic", [False, True])
@torch.no_grad()
def test_capture__merges_the_decoder_of_a_unet(dynamic: bool) -> None:
    module = Deployable(lively_net("Unet"), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    program = capture(module, SIZE, dynamic_batch=dynamic, merge=True)
    names = [str(node.target) for node in program.graph.nodes]
    assert sum("conv_transpose2d" in name for name in names) == 5
    assert not any("upsample_" in name for name in names)
    frames = torch.randint(0, 256, (3 if dynamic else 1, SIZE, SIZE, 3), dtype=torch.uint8)
    assert float((program.module()(frames) - module(frames)).abs().max()) < 1e-5
