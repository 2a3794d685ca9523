"""Decodes images and masks, both in the same way, so that they cannot disagree.

Pillow decodes everything but TIFF. It refuses truncated files, which OpenCV fills up with grey, and it leaves the
EXIF orientation alone: pixels are taken as they are stored, in images as in masks. TIFF is left to tifffile, because
Pillow cannot open CVC-ClinicDB's and OpenCV gets other pixels from them than its PNG distribution holds.
"""

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.listing import SUFFIXES as SUFFIXES

THRESHOLD = 127
"""A mask's pixel belongs to a polyp if it is brighter than this: masks hold values between 0 and 255."""


def read_pair(image: Path, mask: Path | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Reads an image and its mask as `read_image` and `read_mask` do; None for no mask.

    A mask of another size than the image is a DataError.
    """
    pixels = read_image(image)
    if mask is None:
        return pixels, None
    polyps = read_mask(mask)
    if polyps.shape != pixels.shape[:2]:
        msg = (
            f"{image} is {_size(pixels)} pixels (width×height), but its mask {mask} is {_size(polyps)}. "
            "Both must have one size: replace the one that is wrong, or remove both."
        )
        raise DataError(msg)
    return pixels, polyps


def read_image(path: Path) -> NDArray[np.uint8]:
    """Reads an image as RGB, uint8 (H, W, 3).

    Raises:
        DataError: the file cannot be read, is cut short, or has no 8-bit pixels; it names the file.
    """
    pixels = _decode(path, "RGB")
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def read_mask(path: Path) -> NDArray[np.uint8]:
    """Reads a mask, uint8 (H, W) of 0 and 1: 1 where the file is brighter than 127.

    Raises:
        DataError: the file cannot be read, or it is neither black nor has a pixel brighter than 127, as masks have
            that store 1 for a polyp; it names the file.
    """
    pixels = _decode(path, "L")
    if pixels.ndim == 3:
        pixels = pixels[..., :3].max(axis=2)
    brightest = int(pixels.max())
    if 0 < brightest <= THRESHOLD:
        msg = (
            f"the mask {path} is no brighter than {brightest}, so no pixel of it would count as polyp (> {THRESHOLD}). "
            "Masks are 255 where there is a polyp and 0 elsewhere: save it so."
        )
        raise DataError(msg)
    return (pixels > THRESHOLD).astype(np.uint8)


def _decode(path: Path, mode: str) -> NDArray[np.uint8]:
    """Decodes a file into uint8 (H, W) or (H, W, channels)."""
    try:
        pixels = _decode_tiff(path) if path.suffix.lower() in {".tif", ".tiff"} else _decode_other(path, mode)
    except Exception as error:  # decoders raise whatever a broken header makes them stumble over
        msg = f"cannot read {path}: {error}. Replace the file by an intact copy, or remove it and its partner."
        raise DataError(msg) from error
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype != np.uint8 or pixels.ndim not in {2, 3} or pixels.size == 0:
        msg = f"{path} holds {pixels.dtype} pixels of shape {pixels.shape}; only 8-bit grey or RGB is read. Convert it."
        raise DataError(msg)
    return pixels


def _decode_tiff(path: Path) -> NDArray[np.uint8]:
    with tifffile.TiffFile(path) as file:
        return np.asarray(file.pages[0].asarray())


def _decode_other(path: Path, mode: str) -> NDArray[np.uint8]:
    with Image.open(path) as picture:
        if picture.mode.startswith(("I", "F")):
            return np.asarray(picture)  # more than 8 bits: a conversion would clip, so let the caller refuse
        return np.asarray(picture.convert(mode))


def _size(pixels: NDArray[np.uint8]) -> str:
    return f"{pixels.shape[1]}×{pixels.shape[0]}"
