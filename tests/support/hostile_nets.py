"""Networks that couple, mix, borrow or reorder channels in every way that comes to mind, each in a few lines.

Each takes (N, 3, 16, 16). The second value says how many components a trace has to leave removable at the least: 0
where everything between is mixed beyond repair.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

Function = Callable[..., Any]


class Net(nn.Module):
    """A function of named parts."""

    def __init__(self, function: Function, **parts: nn.Module | nn.Parameter | Tensor | int) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def conv(inputs: int, outputs: int, size: int = 3, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2 * options.get("dilation", 1), **options)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))


def between(
    function: Function, inputs: int = 8, outputs: int | None = None, **parts: object
) -> Callable[[], nn.Module]:
    """stem → function → middle → head: the stem's filters feed the function, whose result is read by a convolution."""

    def make() -> nn.Module:
        made = {
            name: part() if callable(part) and not isinstance(part, nn.Module) else part for name, part in parts.items()
        }
        last = inputs if outputs is None else outputs
        stem, middle, head = conv(3, inputs), conv(last, 6), nn.Conv2d(6, 1, 1)
        return Net(
            lambda net, x: net.head(torch.relu(net.middle(function(net, net.stem(x))))),
            **{"stem": stem, "middle": middle, "head": head, **made},
        )

    return make


def on_tokens(function: Function) -> Function:
    """The function on (N, H·W, C)."""

    def on_maps(net: nn.Module, x: Tensor) -> Tensor:
        return function(net, x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])

    return on_maps


def cbam(net: nn.Module, x: Tensor) -> Tensor:
    gate = net.mlp(x.mean((2, 3), keepdim=True)) + net.mlp(x.amax((2, 3), keepdim=True))
    x = x * gate.sigmoid()
    seen = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
    return x * net.spatial(seen).sigmoid()


def eca(net: nn.Module, x: Tensor) -> Tensor:
    gate = net.along(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
    return x * gate.sigmoid()


def shuffle(net: nn.Module, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def half_in_place(net: nn.Module, x: Tensor) -> Tensor:
    x = x.clone()
    x[:, : x.shape[1] // 2].mul_(2).add_(1)
    return x


def written_in_place(net: nn.Module, x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :4] = x[:, 4:]
    out[:, 4:] = x[:, :4]
    return out


def sigmoid_under_a_view(net: nn.Module, x: Tensor) -> Tensor:
    x = x.clone()
    x.view(len(x), -1, 256).sigmoid_()
    return x


def window(net: nn.Module, x: Tensor) -> Tensor:
    patches = functional.unfold(x, 3, padding=1)
    return functional.fold(patches, x.shape[2:], 3, padding=1)


def heads(net: nn.Module, x: Tensor) -> Tensor:
    n, t, _ = x.shape
    qkv = net.qkv(x).reshape(n, t, 3, net.num_heads, net.head_dim).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    return net.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, -1))


def constant_scale(net: nn.Module, x: Tensor) -> Tensor:
    return net.out(torch.softmax(0.3 * net.q(x) @ net.k(x).transpose(1, 2), -1) @ net.v(x))


def default_scale(net: nn.Module, x: Tensor) -> Tensor:
    return net.out(functional.scaled_dot_product_attention(net.q(x), net.k(x), net.v(x)))


def borrowed_query(net: nn.Module, x: Tensor) -> Tensor:
    q = net.q(x)
    return net.out(torch.softmax(0.3 * q @ net.k(x).transpose(1, 2), -1) @ net.v(x) + torch.tanh(q))


def linear_attention(net: nn.Module, x: Tensor) -> Tensor:
    q, k = functional.elu(net.q(x)) + 1, functional.elu(net.k(x)) + 1
    return net.out(q @ (k.transpose(1, 2) @ net.v(x)) / (q @ k.sum(1).unsqueeze(-1)))


def dynamic(net: nn.Module, x: Tensor) -> Tensor:
    kernels = net.kernels(x.mean((2, 3))).view(len(x) * 8, 1, 3, 3)
    return functional.conv2d(x.reshape(1, -1, 16, 16), kernels, padding=1, groups=len(x) * 8).view(len(x), 8, 16, 16)


def recurrent(net: nn.Module, x: Tensor) -> Tensor:
    rows = x.mean(2).transpose(1, 2)
    return x + net.cell(rows)[0].transpose(1, 2).unsqueeze(2)


def fourier(net: nn.Module, x: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(x) * 0.5, s=x.shape[-2:])


def fourier_along_channels(net: nn.Module, x: Tensor) -> Tensor:
    return torch.fft.fft(x, dim=1).real


def scaled_by_width(net: nn.Module, x: Tensor) -> Tensor:
    return x / torch.tensor(float(x.shape[1]))


def scaled_by_a_made_width(net: nn.Module, x: Tensor) -> Tensor:
    return x * torch.full((), x.shape[1] ** -0.5)


def halves(net: nn.Module, x: Tensor) -> Tensor:
    middle = x.shape[1] // 2
    return x[:, :middle] * torch.sigmoid(x[:, middle:])


def unequal(net: nn.Module, x: Tensor) -> Tensor:
    a, b = x.split([3, 5], 1)
    return torch.cat([torch.relu(b), a], 1)


def remembered(net: nn.Module, x: Tensor) -> Tensor:
    a, b = x.split([net.dim_a, net.dim_b], 1)
    return torch.cat([torch.relu(b), a], 1)


def squeezed(net: nn.Module, x: Tensor) -> Tensor:
    return x * torch.sigmoid(net.gate(torch.relu(net.reduce(x.mean((2, 3), keepdim=True))).squeeze()))[..., None, None]


def gram(net: nn.Module, x: Tensor) -> Tensor:
    flat = x.flatten(2)
    return (torch.softmax(flat @ flat.transpose(1, 2), -1) @ flat).view_as(x)


def position(net: nn.Module, x: Tensor) -> Tensor:
    return x * torch.arange(1, x.shape[1] + 1).view(1, -1, 1, 1)


def branching(net: nn.Module, x: Tensor) -> Tensor:
    return x if x.shape[1] > 5 else x * 2


def embedded(net: nn.Module, x: Tensor) -> Tensor:
    codes = net.table(torch.arange(4, device=x.device))
    return torch.einsum("nchw,kc->nkhw", x, codes)


def left_out(net: nn.Module, x: Tensor) -> Tensor:
    """The last two stages run, and nobody asks for what the last one makes."""
    net.last(net.deep(x))
    return x


def written_to_a_place(net: nn.Module, x: Tensor) -> Tensor:
    out = torch.zeros(len(x), 10, *x.shape[2:], dtype=x.dtype, device=x.device)
    torch.add(x.detach(), 1, out=out[:, : x.shape[1]])
    return out


NETS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "cbam": (
        between(
            cbam, mlp=lambda: nn.Sequential(conv(8, 2, 1), nn.ReLU(), conv(2, 8, 1)), spatial=lambda: conv(2, 1, 7)
        ),
        6,
    ),
    "eca": (between(eca, along=lambda: nn.Conv1d(1, 1, 3, padding=1)), 6),
    "channel shuffle": (between(shuffle), 10),
    "shuffle layer": (between(lambda n, x: n.mix(x), mix=lambda: nn.ChannelShuffle(4)), 8),
    "half in place": (between(half_in_place), 6),
    "written in place": (between(written_in_place), 6),
    "sigmoid under a view": (between(sigmoid_under_a_view), 6),
    "einsum": (
        between(lambda n, x: torch.einsum("nchw,cd->ndhw", x, n.mix), outputs=5, mix=lambda: parameter(8, 5)),
        6,
    ),
    "weight norm": (between(lambda n, x: n.mix(x), mix=lambda: parametrizations.weight_norm(conv(8, 8))), 6),
    "spectral norm": (between(lambda n, x: n.mix(x), mix=lambda: parametrizations.spectral_norm(conv(8, 8))), 6),
    "grouped transposed": (
        between(lambda n, x: n.mix(x), mix=lambda: nn.ConvTranspose2d(8, 8, 3, padding=1, groups=4)),
        10,
    ),
    "dilated, strided, up": (
        between(
            lambda n, x: functional.interpolate(torch.relu(n.mix(x)), scale_factor=2, mode="bilinear"),
            mix=lambda: conv(8, 8, 3, dilation=2, stride=2),
        ),
        22,
    ),
    "instance norm": (between(lambda n, x: n.norm(x), norm=lambda: nn.InstanceNorm2d(8)), 14),
    "affine instance norm": (between(lambda n, x: n.norm(x), norm=lambda: nn.InstanceNorm2d(8, affine=True)), 14),
    "batch norm without scale": (between(lambda n, x: n.norm(x), norm=lambda: nn.BatchNorm2d(8, affine=False)), 14),
    "group norm": (between(lambda n, x: n.norm(x), norm=lambda: nn.GroupNorm(4, 8)), 10),
    "layer norm over tokens": (between(on_tokens(lambda n, x: n.norm(x)), norm=lambda: nn.LayerNorm(8)), 6),
    "rms norm": (between(on_tokens(lambda n, x: n.norm(x)), norm=lambda: nn.RMSNorm(8)), 6),
    "local response": (between(lambda n, x: n.norm(x), norm=lambda: nn.LocalResponseNorm(3)), 6),
    "pixel shuffle": (between(lambda n, x: functional.pixel_unshuffle(functional.pixel_shuffle(x, 2), 2)), 8),
    "dynamic filters": (between(dynamic, kernels=lambda: nn.Linear(8, 72)), 6),
    "conv1d": (
        between(lambda n, x: n.line(x.flatten(2)).view(len(x), -1, 16, 16), line=lambda: nn.Conv1d(8, 8, 3, padding=1)),
        22,
    ),
    "conv3d": (
        between(lambda n, x: n.box(x.unsqueeze(2)).squeeze(2), box=lambda: nn.Conv3d(8, 8, 3, padding=1)),
        22,
    ),
    "cat with itself": (between(lambda n, x: torch.cat([x, torch.relu(x), x], 1), outputs=24), 14),
    "added to itself": (between(lambda n, x: x + x), 14),
    "times its own slice": (between(lambda n, x: x * x[:, :1]), 6),
    "tied embedding": (between(embedded, outputs=4, table=lambda: nn.Embedding(4, 8)), 6),
    "buffer": (between(lambda n, x: x * n.mean + n.mean, mean=lambda: torch.linspace(1, 2, 8).view(1, 8, 1, 1)), 14),
    "unfold and fold": (between(window), 6),
    "roll over channels": (between(lambda n, x: x.roll(1, 1)), 6),
    "roll over pixels": (between(lambda n, x: x.roll((1, 2), (2, 3))), 14),
    "flip over channels": (between(lambda n, x: x.flip(1)), 6),
    "flip of pixels": (between(lambda n, x: x.flip((2, 3))), 14),
    "cumsum over channels": (between(lambda n, x: x.cumsum(1)), 6),
    "cumsum over pixels": (between(lambda n, x: x.cumsum(-1) / 16), 14),
    "sort over channels": (between(lambda n, x: x.sort(1)[0]), 6),
    "topk over channels": (between(lambda n, x: x.topk(4, 1)[0], outputs=4), 6),
    "constant indices": (between(lambda n, x: x[:, [0, 2, 4, 6, 1, 3, 5, 7]]), 6),
    "every second": (between(lambda n, x: torch.cat([x[:, ::2], x[:, 1::2]], 1)), 6),
    "interpolated channels": (
        between(
            lambda n, x: functional.interpolate(x.permute(0, 2, 1, 3), size=(4, 16)).permute(0, 2, 1, 3), outputs=4
        ),
        6,
    ),
    "where": (between(lambda n, x: torch.where(x > 0, x, 0.1 * x)), 14),
    "masked fill": (between(lambda n, x: x.masked_fill(x < 0, 0.5)), 14),
    "gru over columns": (between(recurrent, cell=lambda: nn.GRU(8, 8, batch_first=True)), 6),
    "lstm over columns": (between(recurrent, cell=lambda: nn.LSTM(8, 8, batch_first=True)), 6),
    "fourier": (between(fourier), 6),
    "fourier along channels": (between(fourier_along_channels), 6),
    "checkpointed": (
        between(
            lambda n, x: checkpoint(n.mix, x, use_reentrant=False), mix=lambda: nn.Sequential(conv(8, 8), nn.ReLU())
        ),
        22,
    ),
    "scaled by its width": (between(scaled_by_width), 6),
    "scaled by a made width": (between(scaled_by_a_made_width), 6),
    "halves by shape": (between(halves, outputs=4), 10),
    "split by constants": (between(unequal), 6),
    "split by remembered sizes": (between(remembered, dim_a=3, dim_b=5), 14),
    "narrow": (between(lambda n, x: x.narrow(1, 2, 4), outputs=4), 6),
    "squeezed gate": (between(squeezed, reduce=lambda: conv(8, 3, 1), gate=lambda: nn.Linear(3, 8)), 14),
    "gram matrix": (between(gram), 6),
    "positions": (between(position), 6),
    "branch on the width": (between(branching), 6),
    "heads": (
        between(
            on_tokens(heads), 12, num_heads=3, head_dim=4, qkv=lambda: nn.Linear(12, 36), out=lambda: nn.Linear(12, 12)
        ),
        32,
    ),
    "attention with a constant scale": (
        between(
            on_tokens(constant_scale),
            **{name: (lambda: nn.Linear(8, 8)) for name in ("q", "k", "v", "out")},
        ),
        38,
    ),
    "attention with the default scale": (
        between(on_tokens(default_scale), **{name: (lambda: nn.Linear(8, 8)) for name in ("q", "k", "v", "out")}),
        30,
    ),
    "query used twice": (
        between(on_tokens(borrowed_query), **{name: (lambda: nn.Linear(8, 8)) for name in ("q", "k", "v", "out")}),
        22,
    ),
    "linear attention": (
        between(on_tokens(linear_attention), **{name: (lambda: nn.Linear(8, 8)) for name in ("q", "k", "v", "out")}),
        22,
    ),
    "multi-head attention": (
        between(on_tokens(lambda n, x: n.mha(x, x, x)[0]), mha=lambda: nn.MultiheadAttention(8, 2, batch_first=True)),
        6,
    ),
    "dropout": (
        between(lambda n, x: functional.dropout2d(n.drop(x), 0.1, n.training), drop=lambda: nn.Dropout(0.2)),
        14,
    ),
    "3 by 3 unfold by hand": (
        between(
            lambda n, x: torch.cat([x[:, :, i : i + 14, j : j + 14] for i in range(3) for j in range(3)], 1), outputs=72
        ),
        14,
    ),
    "stacked and summed": (between(lambda n, x: torch.stack([x, torch.relu(x)], 1).softmax(1).mul(2).sum(1)), 14),
    "variance gate": (between(lambda n, x: x * x.var((2, 3), keepdim=True).add(1).log()), 14),
    "norm over channels": (between(lambda n, x: functional.normalize(x, dim=1)), 6),
    "features left out": (
        between(
            left_out, deep=lambda: conv(8, 5), last=lambda: nn.Sequential(conv(5, 7), nn.BatchNorm2d(7), nn.ReLU())
        ),
        26,
    ),
    "written to a place": (between(written_to_a_place, outputs=10), 6),
    "maxout": (between(lambda n, x: x.view(len(x), -1, 2, 16, 16).amax(2), outputs=4), 10),
}
