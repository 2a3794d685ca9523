"""Augmentation of training images, on the uint8 image of the network's resolution, before normalisation."""

import os
import random
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# Before the import: it would ask the network for a newer version otherwise.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A

Strength = Literal["light", "strong", "hospitals"]

BORDER = 30
"""The level that no channel of a pixel in the black border around an endoscope's picture exceeds."""


_PAIR = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR}


class _Ranges(NamedTuple):
    quarter_turns: bool
    scale: tuple[float, float]
    shift: float  # share of the side, either way
    angle: float  # degrees, either way
    mapped: float  # share of the images
    colour: tuple[float, float]
    exchanged: float  # share of the images
    degraded: float  # share of the images, of each kind


_LIGHT = _Ranges(False, (0.85, 1.2), 0.08, 30, 0.7, (0.8, 1.2), 0, 0)
_STRONG = _Ranges(True, (0.7, 1.4), 0.12, 45, 0.9, (0.65, 1.35), 0, 0)
_RANGES: dict[Strength, _Ranges] = {
    "light": _LIGHT,
    "strong": _STRONG,
    "hospitals": _STRONG._replace(exchanged=0.5, degraded=0.15),
}


class Augmentation:
    """Symmetries of the square, an affine map, and a change of colour; the mask follows the geometry.

    Endoscopes have no upright, so flips and rotations give plausible images; what the affine map brings in from outside
    is black, like the border that recorders leave.

    Args:
        strength: ``light``, for runs of a few epochs: flips, and small maps and changes of colour; ``strong``, for runs
            of dozens: quarter turns too, and about twice the range of scale, angle and colour; ``hospitals``, for use
            on other endoscopes: ``strong``, with the colours of another training image (`exchange_colours`), blur,
            a lower resolution and a recorder's compression in some of the images.
    """

    def __init__(self, strength: Strength = "light") -> None:
        ranges = _RANGES[strength]
        self._exchanged = ranges.exchanged
        symmetries = [A.D4(p=1)] if ranges.quarter_turns else [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)]
        affine = A.Affine(
            scale=ranges.scale,
            translate_percent=(-ranges.shift, ranges.shift),
            rotate=(-ranges.angle, ranges.angle),
            interpolation=cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST,
            p=ranges.mapped,
        )
        # No hue: the few degrees that mucosa allows are hardly visible and take longer than all else here.
        colour = A.ColorJitter(
            brightness=ranges.colour, contrast=ranges.colour, saturation=ranges.colour, hue=(0, 0), p=0.7
        )
        self._compose = A.Compose([*symmetries, affine, colour, *_degradations(ranges.degraded)])

    def __call__(
        self,
        image: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        seed: int,
        other: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Augments an RGB image, uint8 (S, S, 3), and its mask, uint8 (S, S) of 0 and 1; returns new arrays.

        The same image and seed, with the same ``other`` image to exchange colours with, give the same result, in any
        process.
        """
        # One state shared by all steps: `set_random_seed` would give each step the same one, and flips, maps and
        # colours would always come together.
        generator = np.random.default_rng(seed)
        self._compose.set_random_state(generator, random.Random(seed))  # noqa: S311
        if self._exchanged and other is not None and generator.random() < self._exchanged:
            image = exchange_colours(image, other, generator.random())
        augmented = self._compose(image=image, mask=mask)
        return augmented["image"], augmented["mask"]


def exchange_colours(image: NDArray[np.uint8], other: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    """Gives an image the mean and the standard deviation of another's channels, or a mean of both images'.

    Pixels of the black border don't count and stay dark. The contrast changes twofold at most: more would make noise
    visible. After Reinhard et al., 2001 (doi 10.1109/38.946629), as Wei et al., 2021 (arXiv:2108.00882) use it for
    polyps.

    Args:
        image: RGB uint8 (H, W, 3).
        other: likewise, of any size.
        share: of the other image's values, 0 to 1.

    Returns:
        RGB uint8 (H, W, 3), another array.
    """
    (mean, deviation), (other_mean, other_deviation) = _measure_colours(image), _measure_colours(other)
    gain = np.clip((1 - share) + share * other_deviation / deviation, 0.5, 2)
    levels = np.arange(256)[:, None]
    table = gain * (levels - mean) + (1 - share) * mean + share * other_mean
    # Black stays black, as in what the affine map brings in.
    table[:BORDER] = levels[:BORDER] / BORDER * np.maximum(table[BORDER], 0)
    return np.asarray(cv2.LUT(image, np.clip(np.rint(table), 0, 255).astype(np.uint8)[None]), np.uint8)


def _measure_colours(image: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    inside = (image.max(2) > BORDER).astype(np.uint8)
    mean, deviation = (np.asarray(value, np.float64)[:, 0] for value in cv2.meanStdDev(image, mask=inside))
    return mean, np.maximum(deviation, 1)


def _degradations(share: float) -> list[A.BasicTransform | A.BaseCompose]:
    """What recorders and moving endoscopes do to a picture, each in that share of the images."""
    if not share:
        return []
    blur = A.OneOf([A.GaussianBlur(sigma_limit=(0.5, 2)), A.MotionBlur(blur_limit=(3, 9))], p=share)
    coarse = A.Downscale(scale_range=(0.4, 0.8), interpolation_pair=_PAIR, p=share)
    return [blur, coarse, A.ImageCompression(quality_range=(30, 80), p=share)]
