"""Channel graphs made by hand, without a network: chains of convolutions with skips."""

import itertools
from collections.abc import Sequence

import numpy as np

from polyp_lightning.pruning.graph import ChannelGraph, Group, MacTerm


def chain(widths: Sequence[int], positions: Sequence[float], skips: Sequence[tuple[int, int]] = ()) -> ChannelGraph:
    """Layer i makes widths[i] filters from those of layer i − 1, and of layer a for each skip (a, i).

    The first layer reads 3 frozen channels and the last one's filters are read by a frozen head of one filter. Each
    layer is a 3×3 convolution that costs positions[i] per product of widths.
    """
    starts = np.concatenate([[1], 1 + np.cumsum(widths)])
    own = [np.arange(a, b) for a, b in itertools.pairwise(starts)]
    frozen = np.zeros(3, np.int64)
    axes, macs, consumed = {}, [], {}
    for i, outputs in enumerate([*own, np.zeros(1, np.int64)]):
        inputs = np.concatenate([own[i - 1] if i else frozen, *(own[a] for a, b in skips if b == i and a < i - 1)])
        name = f"layer{i}.weight"
        axes[name], consumed[name] = (outputs, inputs, np.zeros(3, np.int64)), (False, True, False)
        macs.append(MacTerm((outputs, inputs), 9 * (positions[i] if i < len(own) else 1.0)))
    return ChannelGraph(
        axes=axes,
        consumed=consumed,
        consumers=(),
        grouped={},
        macs=tuple(macs),
        groups=tuple(Group(f"layer{i}", components) for i, components in enumerate(own)),
        size=int(starts[-1]),
        executed=frozenset(axes),
        not_understood={},
    )


def large(components: int = 34_000) -> ChannelGraph:
    """About as many components, layers and skips as a UnetPlusPlus with inceptionv4 has."""
    rng = np.random.default_rng(0)
    widths: list[int] = []
    while sum(widths) < components:
        widths.append(int(rng.integers(32, 384)))
    layers = len(widths)
    skips = [(int(rng.integers(0, b - 1)), b) for b in range(3, layers) for _ in range(3)]
    positions = (4.0 ** rng.integers(0, 6, layers)).tolist()
    return chain(widths, positions, [*dict.fromkeys(skips)])
