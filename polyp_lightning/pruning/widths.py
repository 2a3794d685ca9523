"""Filters per layer and per block, for tables and plots."""

from collections.abc import Collection

from torch import nn

# Containers whose children are the blocks worth a row of their own.
_SEQUENCES = frozenset({"blocks", "features", "layers", "stages", "_blocks"})


def filters(net: nn.Module, executed: Collection[str]) -> dict[str, int]:
    """Output filters of every convolution that the forward pass reaches, by module name.

    Args:
        net: the network.
        executed: names of the parameters in use, as a graph has them; some smp encoders own layers that never run.
    """
    layers = ((name, m) for name, m in net.named_modules() if isinstance(m, nn.modules.conv._ConvNd))
    return {name: layer.out_channels for name, layer in layers if f"{name}.weight" in executed}


def block_of(layer: str) -> str:
    """The block that a layer belongs to.

    >>> block_of("encoder.layer3.0.conv1"), block_of("decoder.blocks.4.conv1.0"), block_of("encoder.conv1")
    ('encoder.layer3', 'decoder.blocks.4', 'encoder.conv1')
    """
    parts = layer.split(".")
    depth = 3 if len(parts) > 3 and parts[1] in _SEQUENCES else 2
    return ".".join(parts[:depth])


def per_block(layers: dict[str, int]) -> dict[str, int]:
    """Sum of the filters of each block, in the order of the network."""
    total: dict[str, int] = {}
    for layer, width in layers.items():
        block = block_of(layer)
        total[block] = total.get(block, 0) + width
    return total
