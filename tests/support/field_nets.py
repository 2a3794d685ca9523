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
