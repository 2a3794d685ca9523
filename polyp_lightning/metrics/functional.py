"""The metrics' definitions, as functions of one stack of images of equal size."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

LEVELS = 256


def binarise(prediction: Tensor) -> Tensor:
    """Predicts polyp (bool) where a probability, not a logit, exceeds 0.5; a mask of bool or 0/1 stays as it is."""
    return prediction > 0.5 if prediction.is_floating_point() else prediction != 0


def per_image_dice(prediction: Tensor, target: Tensor) -> Tensor:
    """Computes each image's foreground Dice, ``2·|P ∩ T| / (|P| + |T|)``; empty on empty scores 1.

    Takes masks (N, H, W), bool; returns (N,) float32 in [0, 1]. Dice, 1945 (doi 10.2307/1932409).
    """
    both, either = _count_overlap(prediction, target)
    return torch.where(either > 0, 2 * both / (both + either).clamp(min=1), 1.0)


def per_image_iou(prediction: Tensor, target: Tensor) -> Tensor:
    """Computes each image's foreground IoU (Jaccard index), ``|P ∩ T| / |P ∪ T|``; empty on empty scores 1.

    Arguments and result as for :func:`per_image_dice`.
    """
    both, either = _count_overlap(prediction, target)
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)


def pranet_dice(probability: Tensor, target: Tensor) -> Tensor:
    """Computes each image's Dice averaged over 256 thresholds, as PraNet's published evaluation does (its mDice).

    Each map is stretched to span 0 to 255 and rounded, as it is when it is stored as an image; a constant map becomes 0
    everywhere. For each threshold j = 0 … 255 the pixels with a value ≥ j are the prediction, and the Dice is 0 where
    it shares no pixel with the mask. An image without a polyp therefore always scores 0, and the score is below
    :func:`per_image_dice` even for a perfect mask, since at j = 0 the whole image is predicted.
    Fan et al., 2020 (doi 10.1007/978-3-030-59725-2_26), with its MATLAB evaluation code.

    Takes (N, H, W) of any values, of which only order and relative distances matter, and masks (N, H, W), bool; returns
    (N,) float32 in [0, 1].
    """
    predicted, hit = count_levels(probability, target)
    return (2 * hit / (predicted + target.flatten(1).sum(1, keepdim=True)).clamp(min=1)).mean(1)


def hd95(prediction: Tensor, target: Tensor) -> float:
    """Computes the 95th percentile Hausdorff distance between the borders of two masks, in pixels.

    The larger of two 95th percentiles: of the distances from each border pixel of one mask to the nearest of the other,
    and the reverse, as MONAI computes it. A border pixel is one of the mask with a 4-neighbour outside it.
    Huttenlocher et al., 1993 (doi 10.1109/34.232073).

    Takes masks (H, W), bool, neither of them empty.
    """
    found, truth = (mask.cpu().numpy() for mask in (prediction, target))
    # Only the rectangle around both masks counts: the distance transform would visit every pixel.
    rows, columns = np.nonzero(found | truth)
    near = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    borders = [mask[near] & ~ndimage.binary_erosion(mask[near]) for mask in (found, truth)]
    distances = [ndimage.distance_transform_edt(~border) for border in borders]
    ways = [distance[border] for distance, border in zip(distances, reversed(borders), strict=True)]
    return max(float(torch.from_numpy(way).float().quantile(0.95)) for way in ways)


def _count_overlap(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Counts the pixels in both masks and those in either, per image, as float32."""
    return (prediction & target).sum((1, 2)).float(), (prediction | target).sum((1, 2)).float()


def count_levels(probability: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Counts each image's pixels that are predicted at the thresholds 255 … 0, and those of them in the mask.

    Takes (N, H, W) of any values and masks (N, H, W), bool; returns float32 (N, 256) twice.
    """
    levels, truth = stretch(probability.flatten(1)), target.flatten(1)
    slot = levels + LEVELS * torch.arange(len(levels), device=levels.device)[:, None]
    counts = [_count_at_least(slot, counted, len(levels)) for counted in (torch.ones_like(truth), truth)]
    return counts[0], counts[1]


def stretch(values: Tensor) -> Tensor:
    """Stretches rows to whole levels 0 … 255, a half rounded up; constant rows become 0."""
    values = values.double() if values.device.type != "mps" else values.float()
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    span = torch.where(high > low, high - low, 1.0)
    return ((values - low) / span * (LEVELS - 1) + 0.5).floor().long()


def _count_at_least(slot: Tensor, counted: Tensor, images: int) -> Tensor:
    """Counts, for each image and level, the counted pixels of that level or a higher one: (N, 256) float32."""
    # Whole numbers: on CUDA, deterministic algorithms refuse the cumulative sum of floats.
    histogram = torch.zeros(images * LEVELS, dtype=torch.int64, device=slot.device)
    histogram.scatter_add_(0, slot.flatten(), counted.flatten().long())
    return histogram.view(images, LEVELS).flip(1).cumsum(1).float()
