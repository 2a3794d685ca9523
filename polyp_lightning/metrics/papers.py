"""Measures that papers on polyp segmentation print beside Dice and IoU, as functions of one stack of images.

As PraNet's published evaluation has them: each map is stretched to span 0 to 1 in 256 levels, as it is when it is
stored as an image. Fan et al., 2020 (doi 10.1007/978-3-030-59725-2_26). Masks are (N, H, W), bool, maps (N, H, W) of
any values; results are (N,) float32 on the masks' device, unless another shape is named.

The package PySODMetrics has most of them too; the tests compare with its values. It is no dependency, since it does not
allow today's NumPy and OpenCV.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from polyp_lightning.metrics.functional import LEVELS, count_levels, stretch

_EPS = float(np.spacing(1.0))
_Map = NDArray[np.float64]
_Mask = NDArray[np.bool_]


def precision(prediction: Tensor, target: Tensor) -> Tensor:
    """Computes the share of predicted pixels (masks, bool) that are polyp; empty on empty scores 1, else 0."""
    return _share((prediction & target).sum((1, 2)), prediction.sum((1, 2)), target.sum((1, 2)))


def recall(prediction: Tensor, target: Tensor) -> Tensor:
    """Computes the share of the polyp's pixels that are predicted (masks, bool); empty on empty scores 1, else 0."""
    return _share((prediction & target).sum((1, 2)), target.sum((1, 2)), prediction.sum((1, 2)))


def _share(part: Tensor, whole: Tensor, other: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole.clamp(min=1), (other == 0).float())


def mean_absolute_error(probability: Tensor, target: Tensor) -> Tensor:
    """Computes each image's mean absolute difference between map and mask, in [0, 1]: less is better."""
    return (_unit_maps(probability) - target.flatten(1).float()).abs().mean(1)


def e_measure(probability: Tensor, target: Tensor) -> Tensor:
    """Computes each image's enhanced alignment at the thresholds 255 … 0: (N, 256), whose mean or maximum is printed.

    Fan et al., 2018 (doi 10.24963/ijcai.2018/97). Each pixel's alignment depends only on whether it is predicted and
    whether it is polyp, so that four counts per threshold decide it.
    """
    truth = target.flatten(1)
    size, polyp = truth.shape[1], truth.sum(1, keepdim=True).double()
    found, hit = (count.double() for count in count_levels(probability, target))
    counts = {(1, 1): hit, (1, 0): found - hit, (0, 1): polyp - hit, (0, 0): size - polyp - found + hit}
    total = torch.zeros_like(found)
    for (here, there), count in counts.items():
        one, other = here - found / size, there - polyp / size
        total += (2 * one * other / (one.square() + other.square() + _EPS) + 1).square() / 4 * count
    total = torch.where(polyp == 0, size - found, torch.where(polyp == size, found, total))
    return (total / (size - 1 + _EPS)).float()


def structure_measure(probability: Tensor, target: Tensor) -> Tensor:
    """Computes each image's S-measure with α = 0.5, the mean of an object's and a region's similarity, in [0, 1].

    Fan et al., 2017 (doi 10.1109/ICCV.2017.487).
    """
    return _each(_structure, probability, target)


def weighted_f(probability: Tensor, target: Tensor) -> Tensor:
    """Computes each image's weighted F with β = 1, in [0, 1]; 0 for an image without a polyp.

    Errors count less beside others of the object, and more far away from it. Margolin et al., 2014
    (doi 10.1109/CVPR.2014.39).
    """
    return _each(_weighted_f, probability, target)


def _unit_maps(probability: Tensor) -> Tensor:
    """Stretches maps to [0, 1] in 256 levels: (N, pixels)."""
    return stretch(probability.flatten(1)).float() / (LEVELS - 1)


def _each(measure: Callable[[_Map, _Mask], float], probability: Tensor, target: Tensor) -> Tensor:
    maps = _unit_maps(probability).reshape(target.shape).double().cpu().numpy()
    pairs = zip(maps, target.cpu().numpy(), strict=True)
    return torch.tensor([measure(*pair) for pair in pairs], dtype=torch.float32, device=target.device)


def _structure(found: _Map, truth: _Mask) -> float:
    share = truth.mean()
    if share in (0, 1):
        return float(1 - found.mean() if share == 0 else found.mean())
    objects = share * _likeness(found[truth]) + (1 - share) * _likeness(1 - found[~truth])
    # Four regions that meet in the polyp's centre of mass.
    row, column = (round(place.mean()) + 1 for place in np.nonzero(truth))
    regions = 0.0
    for rows in (slice(row), slice(row, None)):
        for columns in (slice(column), slice(column, None)):
            part = truth[rows, columns]
            regions += part.size / truth.size * _similarity(found[rows, columns], part) if part.size else 0.0
    return float(max(0.0, (objects + regions) / 2))


def _likeness(values: _Map) -> float:
    """How near to 1, and how even, an object's values are."""
    mean, deviation = values.mean(), values.std(ddof=1) if values.size > 1 else 0.0
    return float(2 * mean / (mean**2 + 1 + deviation + _EPS))


def _similarity(found: _Map, truth: _Mask) -> float:
    """The structural similarity of a region, without stabilising constants."""
    x, y, free = found.mean(), truth.mean(), found.size - 1 + _EPS
    covariance = ((found - x) * (truth - y)).sum() / free
    spread = (np.square(found - x).sum() + np.square(truth - y).sum()) / free
    above, below = 4 * x * y * covariance, (x**2 + y**2) * spread
    if above != 0:
        return float(above / (below + _EPS))
    return 1.0 if below == 0 else 0.0


def _weighted_f(found: _Map, truth: _Mask) -> float:
    if not truth.any():
        return 0.0
    distance, nearest = ndimage.distance_transform_edt(~truth, return_indices=True)
    error = np.abs(found - truth)
    # Outside, the error of the nearest pixel inside stands in, so that an edge does not blur into the object.
    blurred = ndimage.gaussian_filter(error[tuple(nearest)], 5, mode="constant", radius=3)
    weighted = np.where(truth, np.minimum(error, blurred), error * (2 - np.exp(np.log(0.5) / 5 * distance)))
    hits = truth.sum() - weighted[truth].sum()
    recalled, right = 1 - weighted[truth].mean(), hits / (hits + weighted[~truth].sum() + _EPS)
    return float(2 * recalled * right / (recalled + right + _EPS))
