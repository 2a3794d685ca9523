"""Small networks with what the networks of the field do to channels, one for each way."""

import torch
from hostile_nets import Net, conv
from torch import Tensor, nn
from torch.nn import functional


def normed_unet(make_norm: type[nn.Module], **options: bool) -> nn.Module:
    """A residual block, a skip connection and a transposed convolution, each with its norm."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        skip = functional.leaky_relu(net.norm1(net.stem(x)))
        skip = skip + functional.leaky_relu(net.norm2(net.middle(skip)))
        deep = net.norm3(net.down(skip))
        return net.head(net.merge(torch.cat([net.norm4(net.up(deep)), skip], 1)))

    return Net(
        forward,
        stem=conv(3, 8),
        norm1=make_norm(8, **options),
        middle=conv(8, 8),
        norm2=make_norm(8, **options),
        down=conv(8, 10, stride=2),
        norm3=make_norm(10, **options),
        up=nn.ConvTranspose2d(10, 6, 2, stride=2),
        norm4=make_norm(6, **options),
        merge=conv(14, 7),
        head=conv(7, 1),
    )


def unpooling(size: int) -> nn.Module:
    """SegNet's decoder: features are laid out where an earlier pool took its maxima."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = torch.relu(net.norm(net.stem(x)))
        pooled, indices = functional.max_pool2d(x, size, return_indices=True)
        unpooled = functional.max_unpool2d(net.middle(torch.relu(pooled)), indices, size, output_size=x.shape[2:])
        return net.head(net.merge(torch.cat([unpooled, x], 1)))

    parts = {"stem": conv(3, 8), "norm": nn.BatchNorm2d(8), "middle": conv(8, 8), "merge": conv(16, 6)}
    return Net(forward, **parts, head=conv(6, 1))


class Heads(nn.Module):
    """Attention as transformers writes it: the number of heads is whatever is left beside their width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_dim, self.scaling = width // heads, (width // heads) ** -0.5
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x)
        shape = (*tokens.shape[:-1], -1, self.head_dim)
        q, k, v = (layer(tokens).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
        weights = (torch.matmul(q, k.transpose(2, 3)) * self.scaling).softmax(-1)
        mixed = torch.matmul(weights, v).transpose(1, 2).contiguous()
        return x + self.out(mixed.reshape(*tokens.shape[:-1], -1).contiguous())


def transformer(*heads: int) -> nn.Module:
    """Blocks of attention over the pixels, one for each number of heads."""

    def forward(net: nn.Module, x: Tensor) -> Tensor:
        y = net.stem(x)
        tokens = net.blocks(y.flatten(2).transpose(1, 2))
        return net.head(tokens.transpose(1, 2).reshape(y.shape))

    return Net(forward, stem=conv(3, 16), blocks=nn.Sequential(*(Heads(16, h) for h in heads)), head=conv(16, 1))
