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
