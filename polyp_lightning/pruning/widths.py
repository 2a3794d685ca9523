"""Filters per layer and per block, for tables and plots."""

from torch import nn

# Containers whose children are the blocks worth a row of their own.
_SEQUENCES = frozenset({"blocks", "features", "layers", "stages", "_blocks"})


def filters(net: nn.Module) -> dict[str, int]:
    """Output filters of every convolution, by module name."""
    return {name: m.out_channels for name, m in net.named_modules() if isinstance(m, nn.modules.conv._ConvNd)}


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
