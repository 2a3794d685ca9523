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

Strength = Literal["light", "strong"]


class _Ranges(NamedTuple):
    quarter_turns: bool
    scale: tuple[float, float]
    shift: float  # share of the side, either way
    angle: float  # degrees, either way
    mapped: float  # share of the images
    colour: tuple[float, float]


_RANGES: dict[Strength, _Ranges] = {
    "light": _Ranges(False, (0.85, 1.2), 0.08, 30, 0.7, (0.8, 1.2)),
    "strong": _Ranges(True, (0.7, 1.4), 0.12, 45, 0.9, (0.65, 1.35)),
}


class Augmentation:
    """Symmetries of the square, an affine map, and a change of colour; the mask follows the geometry.

    Endoscopes have no upright, so flips and rotations give plausible images; what the affine map brings in from outside
    is black, like the border that recorders leave.

    Args:
        strength: ``light``, for runs of a few epochs: flips, and small maps and changes of colour; ``strong``, for runs
            of dozens: quarter turns too, and about twice the range of scale, angle and colour.
    """

    def __init__(self, strength: Strength = "light") -> None:
        ranges = _RANGES[strength]
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
        self._compose = A.Compose([*symmetries, affine, colour])

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Augments an RGB image, uint8 (S, S, 3), and its mask, uint8 (S, S) of 0 and 1; returns new arrays.

        The same image and seed give the same result, in any process.
        """
        # One state shared by all steps: `set_random_seed` would give each step the same one, and flips, maps and
        # colours would always come together.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311
        augmented = self._compose(image=image, mask=mask)
        return augmented["image"], augmented["mask"]
