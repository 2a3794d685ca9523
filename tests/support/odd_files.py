"""Image files as other programs write them, and bytes changed in them."""

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 40, 52
DISC = np.hypot(*(np.mgrid[:HEIGHT, :WIDTH] - np.array([18, 30])[:, None, None])) < 11  # on no axis of symmetry
MASK = (DISC * 255).astype(np.uint8)
RGB = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
SMOOTH = np.stack([np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) * k for k in (1, 2, 0)], 2).astype(np.uint8)


def by_tifffile(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    tifffile.imwrite(path, pixels, **options)
    return path


def by_pillow(path: Path, picture: Image.Image | NDArray[Any], **options: Any) -> Path:
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return path


def by_opencv(path: Path, pixels: NDArray[Any]) -> Path:
    """Writes RGB, or grey."""
    assert cv2.imwrite(str(path), pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])
    return path


def change_tag(path: Path, tag: int, number: int, new_tag: int | None = None) -> Path:
    """Sets a tag of a little-endian TIFF that holds one short number, in the file's bytes."""
    content = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, place)[0] == tag:
            struct.pack_into("<HHIHH", content, place, new_tag or tag, 3, 1, number, 0)
    path.write_bytes(content)
    return path


def turned(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels as they lie for a viewer, by the table of the EXIF standard (row 0 and column 0 of the stored image)."""
    swapped = pixels.swapaxes(0, 1)
    return {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: swapped,
        6: swapped[:, ::-1],
        7: swapped[::-1, ::-1],
        8: swapped[::-1],
    }[orientation]


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found
