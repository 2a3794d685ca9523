"""Pictures of a predicted mask, and how they are saved."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from polyp_lightning.common.errors import DataError
from polyp_lightning.common.files import write_beside

CONTOUR = (0, 255, 160)
"""The colour of an overlay's contour, RGB: seldom seen in a colon."""

RIM = (0, 0, 0)
"""The colour around it."""


def draw_contour(frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Image.Image:
    """A frame with the outline of a mask just outside it, about 1/150 of the frame wide, and a black rim of that width.

    In grey the outline is as light as bright mucosa: the rim sets it apart.

    Args:
        frame: RGB, uint8 (H, W, 3).
        mask: uint8 (H, W) of 0 and 255.

    Raises:
        DataError: they differ in size.
    """
    if frame.shape[:2] != mask.shape:
        msg = f"the frame is {frame.shape[:2]} and its mask {mask.shape}; the image changed since it was predicted"
        raise DataError(msg)
    picture, inside = Image.fromarray(frame), Image.fromarray(mask)
    reach = 1 + min(mask.shape) // 150
    wider = ImageFilter.MaxFilter(2 * reach + 1)
    within = inside.filter(wider)
    picture.paste(RIM, mask=ImageChops.subtract(within.filter(wider), within))
    picture.paste(CONTOUR, mask=ImageChops.subtract(within, inside))
    return picture


def save_picture(picture: Image.Image, target: Path) -> None:
    """Writes a picture in the format of its suffix; it takes its name when it is whole."""
    # Without chroma subsampling, which would smear a thin coloured line.
    options: dict[str, Any] = {"quality": 92, "subsampling": 0} if target.suffix == ".jpg" else {}
    with write_beside(target) as path:
        picture.save(path, **options)
