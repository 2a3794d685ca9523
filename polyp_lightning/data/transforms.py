"""Augmentation of training frames: the only module that knows albumentations.

Everything happens on the uint8 frame of the network's resolution, before normalisation.
"""

import os
import random

import cv2
import numpy as np
from numpy.typing import NDArray

# Before the import: it would ask the network for a newer version otherwise.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations as A


class Augmentation:
    """Flips, a small affine map, and a change of colour; the mask follows the geometry.

    Endoscopes have no upright, so both flips and any rotation by small angles give plausible frames; what the affine
    map brings in from outside is black, like the border that recorders leave.
    """

    def __init__(self) -> None:
        self._compose = A.Compose(
            [
                A.HorizontalFlip(p=0.5),
                A.VerticalFlip(p=0.5),
                A.Affine(
                    scale=(0.85, 1.2),
                    translate_percent=(-0.08, 0.08),
                    rotate=(-30, 30),
                    interpolation=cv2.INTER_LINEAR,
                    mask_interpolation=cv2.INTER_NEAREST,
                    p=0.7,
                ),
                # No hue: the few degrees that mucosa allows are hardly visible and take longer than all else here.
                A.ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.2), saturation=(0.8, 1.2), hue=(0, 0), p=0.7),
            ]
        )

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
