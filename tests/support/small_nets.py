"""Small networks, one for each way in which channels are coupled."""

import torch
from torch import Tensor, nn


def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = block(3, 8), block(8, 6)
        self.head = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x)))


class Residual(nn.Module):
    """Two additions onto one stream, with in-place activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 6)
        self.branches = nn.ModuleList(
            nn.Sequential(block(6, 5), nn.Conv2d(5, 6, 3, padding=1), nn.BatchNorm2d(6)) for _ in range(2)
        )
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for branch in self.branches:
            x = self.act(x + branch(x))
        return self.head(x)


class Concat(nn.Module):
    """A skip connection: the encoder's filters are read twice, at different sizes."""

    def __init__(self, times: int = 1) -> None:
        super().__init__()
        a, b, c = 6 * times, 8 * times, 5 * times
        self.outer, self.inner = block(3, a), block(a, b, stride=2)
        self.up = nn.Upsample(scale_factor=2)
        self.merge = block(a + b, c)
        self.head = nn.Conv2d(c, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.outer(x)
        return self.head(self.merge(torch.cat([self.up(self.inner(skip)), skip], 1)))


class Depthwise(nn.Module):
    """An inverted residual block: expand, depthwise, project."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = block(3, 4)
        self.expand = block(4, 10)
        self.depthwise = nn.Sequential(
            nn.Conv2d(10, 10, 3, padding=1, groups=10, bias=False), nn.BatchNorm2d(10), nn.ReLU()
        )
        self.project = nn.Sequential(nn.Conv2d(10, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(x + self.project(self.depthwise(self.expand(x))))


class SqueezeExcite(nn.Module):
    """Channel attention: pooled filters gate themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.first = block(3, 8)
        self.squeeze, self.excite = nn.Conv2d(8, 3, 1), nn.Conv2d(3, 8, 1)
        self.second = block(8, 5)
        self.head = nn.Conv2d(5, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        gate = self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))).sigmoid()
        return self.head(self.second(x * gate))


class Grouped(nn.Module):
    """Few wide groups: the same position of each group goes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = block(3, 12)
        self.grouped = nn.Conv2d(12, 8, 3, padding=1, groups=2)
        self.head = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.grouped(self.first(x))))


class GroupNormed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 12, 3, padding=1), nn.GroupNorm(4, 12)
        self.head = nn.Conv2d(12, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.nn.functional.silu(self.norm(self.conv(x))))


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = block(3, 8, stride=2), nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.head = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.up(self.down(x))))


class SpatialAttention(nn.Module):
    """A gate that mixes all channels: what it reads stays."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate = block(3, 8), nn.Conv2d(2, 1, 3, padding=1)
        self.second = block(8, 6)
        self.head = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return self.head(self.second(x * self.gate(seen).sigmoid()))


class HardCodedView(nn.Module):
    """A size that is a constant of the code: invisible to a trace."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = block(3, 8), block(8, 6)
        self.head = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(self.second(x.reshape(x.shape[0], 8, *x.shape[2:])))


class ChannelShuffle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = block(3, 8), block(8, 6)
        self.head = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(self.second(x))


class ChunkGate(nn.Module):
    """A gated linear unit over channels: the same position of both halves goes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.head = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.first(x).chunk(2, dim=1)
        return self.head(value * gate.sigmoid())


class SigmoidFeature(nn.Module):
    """A softmax over channels behind a sigmoid: every filter is felt in all others, so that none may go."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).sigmoid().softmax(1))


class SigmoidOnly(nn.Module):
    """sigmoid(0) = 0.5: a masked filter is still felt, unless it is masked where it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.first(x).sigmoid())


class UnknownOperation(nn.Module):
    """An operation for which there is no rule."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = block(3, 8), block(8, 6)
        self.head = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(torch.polar(self.first(x), x[:, :1]).real))


class SharedConv(nn.Module):
    """One convolution applied twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared = block(3, 6), nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.shared(self.first(x)))
        return self.head(torch.relu(self.shared(x)))


class Classifier(nn.Module):
    """Linear layers behind a pool, and a parameter that is not inside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale = block(3, 8), nn.Parameter(torch.rand(8, 1, 1))
        self.hidden, self.head = nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden((self.conv(x) * self.scale).mean((2, 3)))))


SMALL_NETS = (
    *(Plain, Residual, Concat, Depthwise, SqueezeExcite, Grouped, GroupNormed, Transposed, SpatialAttention),
    *(HardCodedView, ChannelShuffle, ChunkGate, SigmoidFeature, UnknownOperation, SharedConv, Classifier),
)


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Norms and biases away from 0 and 1, so that a comparison of outputs is not vacuous."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
            if isinstance(module, norms) and module.weight is not None:
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
            elif isinstance(module, (nn.Conv2d, nn.Linear)) and module.bias is not None:
                module.bias.normal_(0, 0.3, generator=generator)
    return net
