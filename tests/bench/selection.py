"""Choosing what to remove from a network of 34,000 components, to half of its MACs."""

import time
from typing import get_args

import numpy as np
from measuring import Effort, Row

from polyp_lightning import pruning
from polyp_lightning.networks.build import build_net
from polyp_lightning.pruning.budget import Allocation

SECONDS = 1.0
TARGET = 0.5


def measure(effort: Effort) -> list[Row]:
    """One row for each allocation; the trace is not part of it."""
    graph = pruning.trace(build_net("UnetPlusPlus", "inceptionv4", None), (2, 3, 256, 256))
    importance = np.random.default_rng(0).random(graph.size)
    return [_measure(graph, importance, way, effort) for way in get_args(Allocation)]


def _measure(graph: pruning.ChannelGraph, importance: np.ndarray, way: Allocation, effort: Effort) -> Row:
    seconds: list[float] = []
    since = time.perf_counter()
    while effort.wants_more(len(seconds), since):
        start = time.perf_counter()
        removed = pruning.select(graph, importance, TARGET, allocation=way)
        seconds.append(time.perf_counter() - start)
    share = graph.total_macs(removed) / graph.total_macs()
    what = f"choose among {graph.size - 1} components, inceptionv4-UnetPlusPlus to {share:.2%} of its MACs, {way}"
    return Row(f"{what}, n = {len(seconds)}", seconds, " s", SECONDS, ours=f"{np.median(seconds):.3f} s")
