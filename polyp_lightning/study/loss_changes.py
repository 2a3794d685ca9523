"""Predicted against measured change of the loss: the measurements behind ``taylor_check``."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from polyp_lightning.common.modes import evaluation_mode
from polyp_lightning.pruning.criteria import Importance, Loss
from polyp_lightning.pruning.criteria.oracle import image_losses, masked
from polyp_lightning.pruning.graph import ChannelGraph, Removed

Values = npt.NDArray[np.float64]
Components = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Correlation:
    """Spearman's ρ of importances with the mean change of the loss, and with its mean absolute value over images."""

    signed: float
    absolute: float


@dataclass(frozen=True)
class SetPoint:
    """What removing the least important components together does.

    How many they are, the share of the network's MACs that goes with them, the mean change of the loss over images, and
    the sum of the changes that the components were predicted to make alone.
    """

    components: int
    macs: float
    measured: float
    predicted: float


@torch.no_grad()
def measure_changes(
    net: nn.Module, graph: ChannelGraph, removals: Sequence[Removed], images: Tensor, masks: Tensor, loss: Loss
) -> Values:
    """Measures the change of each image's loss for each of several removals, in evaluation mode: (removals, N).

    By masking, which is the same as removal.
    """
    with evaluation_mode(net):
        before = image_losses(net(images), masks, loss)
        rows = []
        for removed in removals:
            with masked(net, graph, removed):
                rows.append(image_losses(net(images), masks, loss) - before)
    return torch.stack(rows).numpy()


def remove_each(graph: ChannelGraph, components: Components) -> list[Removed]:
    """Returns one removal for each component."""
    return [remove_together(graph, components[i : i + 1]) for i in range(len(components))]


def remove_together(graph: ChannelGraph, components: Components) -> Removed:
    """Returns the removal of several components at once."""
    removed = graph.nothing()
    removed[components] = True
    return removed


def draw_components(graph: ChannelGraph, most: int, seed: int) -> Components:
    """Draws at most so many components, without replacement, in ascending order."""
    everything = np.arange(1, graph.size)
    if len(everything) <= most:
        return everything
    return np.sort(np.random.default_rng(seed).choice(everything, most, replace=False))


def rank_components(graph: ChannelGraph, importance: Importance) -> Components:
    """Ranks all components but the best of each group, the least important first."""
    best = [group.components[importance[group.components].argmax()] for group in graph.groups]
    candidates = np.setdiff1d(np.arange(1, graph.size), best)
    return candidates[np.argsort(importance[candidates], kind="stable")]


def grow_sets(graph: ChannelGraph, importance: Importance, shares: Sequence[float]) -> list[Components]:
    """Returns the least important components in sets of growing share of all that :func:`rank_components` gives."""
    least_first = rank_components(graph, importance)
    return [least_first[: round(share * len(least_first))] for share in shares]


def summarise_sets(
    graph: ChannelGraph, sets: Sequence[Components], per_component: Importance, changes: Values
) -> list[SetPoint]:
    """Returns what is drawn of growing sets.

    ``per_component`` is the predicted change of the loss, by which none of the sets need be ordered; ``changes`` are
    those measured, (sets, N).
    """
    dense = graph.total_macs()
    shares = [1 - graph.total_macs(remove_together(graph, components)) / dense for components in sets]
    predicted = [float(per_component[components].sum()) for components in sets]
    return [
        SetPoint(len(components), share, float(change.mean()), guess)
        for components, share, change, guess in zip(sets, shares, changes, predicted, strict=True)
    ]


def correlate(predicted: Values, changes: Values) -> Correlation:
    """Computes Spearman's rank correlations of importances (components,) with measured changes (components, N).

    Not a number where a criterion gives all components the same importance.
    """
    if np.ptp(predicted) == 0:
        return Correlation(float("nan"), float("nan"))
    signed = spearmanr(predicted, changes.mean(1)).statistic
    absolute = spearmanr(predicted, np.abs(changes).mean(1)).statistic
    return Correlation(float(signed), float(absolute))
