"""Augmentation of training frames: the only module that knows albumentations.

Everything happens on the uint8 frame of the network's resolution, before normalisation.
"""

import os
import random
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

# Before the import: it would ask the network for a newer version otherwise.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A

Strength = Literal["light", "strong"]


class Augmentation:
    """Symmetries of the square, an affine map, and a change of colour; the mask follows the geometry.

    Endoscopes have no upright, so flips and rotations give plausible frames; what the affine map brings in from outside
    is black, like the border that recorders leave.

    Args:
        strength: ``light``, for runs of a few epochs: flips, and small maps and changes of colour; ``strong``, for runs
            of dozens: quarter turns too, and about twice the range of scale, angle and colour.
    """

    def __init__(self, strength: Strength = "light") -> None:
        light = strength == "light"
        symmetries = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5)] if light else [A.D4(p=1)]
        affine = A.Affine(
            scale=(0.85, 1.2) if light else (0.7, 1.4),
            translate_percent=(-0.08, 0.08) if light else (-0.12, 0.12),
            rotate=(-30, 30) if light else (-45, 45),
            interpolation=cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST,
            p=0.7 if light else 0.9,
        )
        spread = (0.8, 1.2) if light else (0.65, 1.35)
        # No hue: the few degrees that mucosa allows are hardly visible and take longer than all else here.
        colour = A.ColorJitter(brightness=spread, contrast=spread, saturation=spread, hue=(0, 0), p=0.7)
        self._compose = A.Compose([*symmetries, affine, colour])

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Augments one frame.

        Args:
            image: RGB, uint8 (S, S, 3).
            mask: uint8 (S, S) of 0 and 1.
            seed: Decides everything: the same frame and seed give the same result, in any process.

        Returns:
            New arrays of the same shapes and ranges.
        """
        # One state shared by all steps: `set_random_seed` would give each step the same one, so that flips, maps and
        # colours would always come together.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311
        augmented = self._compose(image=image, mask=mask)
        return augmented["image"], augmented["mask"]
