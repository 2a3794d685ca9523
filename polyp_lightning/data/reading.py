"""Reads images and masks, both in the same way, so that they cannot disagree.

How files are opened is said in `opening`, what a mask means in `masks`.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.listing import SUFFIXES as SUFFIXES
from polyp_lightning.data.masks import THRESHOLD as THRESHOLD
from polyp_lightning.data.masks import Colour, find_polyp
from polyp_lightning.data.opening import Opened, open_upright

RULES = 2
"""The number of the rules by which files become pixels: goes up where the same files give other ones."""

_QUARTER_TURNS = range(5, 9)


def read_pair(
    image: Path, mask: Path | None, colours: tuple[Colour, ...] = ()
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Reads an image and its mask as `read_image` and `read_mask` do; None for no mask.

    Raises:
        DataError: a file cannot be read, the mask is of another size than the image, or one is to be turned by its
            orientation tag and the other is not, so that either may be upside down. A mask without the tag that has
            the size of an image turned by a quarter was drawn on it upright.
    """
    if mask is None:
        return read_image(image), None
    opened, its_mask = open_upright(image), open_upright(mask)
    pixels, polyps = _as_rgb(opened), find_polyp(its_mask, colours, mask).view(np.uint8)
    height, width = polyps.shape
    turned, its_turned = opened.orientation, its_mask.orientation
    proven = polyps.shape == pixels.shape[:2] and height != width and turned in _QUARTER_TURNS and its_turned == 1
    if turned != its_turned and not proven:
        msg = (
            f"the orientation tag (EXIF) of {image} is {turned} and that of its mask {mask} is {its_turned} "
            "(1: upright, or no tag), so the mask may lie otherwise than the image. Save both upright without the tag."
        )
        raise DataError(msg)
    if polyps.shape != pixels.shape[:2]:
        msg = (
            f"{image} is {pixels.shape[1]}×{pixels.shape[0]} pixels (width×height), but its mask {mask} is "
            f"{width}×{height}. Both must have one size: replace the one that is wrong, or remove both."
        )
        raise DataError(msg)
    return pixels, polyps


def read_image(path: Path) -> NDArray[np.uint8]:
    """Reads an image, upright, as RGB, uint8 (H, W, 3); colours count, transparent or not.

    Raises:
        DataError: the file cannot be read; see `open_upright`.
    """
    return _as_rgb(open_upright(path))


def read_mask(path: Path, colours: tuple[Colour, ...] = ()) -> NDArray[np.uint8]:
    """Reads a mask, upright, uint8 (H, W) of 0 and 1: 1 where it shows polyp; see `masks` for the rule.

    Raises:
        DataError: the file cannot be read, or what it means is not clear; see `open_upright` and `find_polyp`.
    """
    return find_polyp(open_upright(path), colours, path).view(np.uint8)


def _as_rgb(opened: Opened) -> NDArray[np.uint8]:
    picture = opened.picture
    return np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB"))
