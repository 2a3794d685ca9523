"""Writes small images and masks as the real data sets store theirs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from polyp_lightning.data.splitting import shipped_list

Pixels = NDArray[np.uint8]


def pair(number: int, height: int = 23, width: int = 31) -> tuple[Pixels, Pixels]:
    """A noisy frame with a bright disc, and the disc as a 0/255 mask; number 1 shows no disc."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:height, :width]
    disc = (np.hypot(y - height / 2, x - width / 2) < height / 4) & (number != 1)
    image = rng.integers(0, 120, (height, width, 3)).astype(np.uint8)
    image[disc] += 100
    return image, (disc * 255).astype(np.uint8)


def write(path: Path, pixels: Pixels) -> None:
    """Writes an image in the format of its suffix; JPEG at a quality that leaves noise around edges."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in {".tif", ".tiff"}:
        photometric = "minisblack"
        tifffile.imwrite(path, pixels, photometric=photometric, planarconfig="contig" if pixels.ndim == 3 else None)
    elif path.suffix == ".jpg":
        Image.fromarray(pixels).save(path, quality=60)
    else:
        Image.fromarray(pixels).save(path)


def write_pairs(images: Path, masks: Path | None, names: Sequence[str], suffix: str, mask_suffix: str = "") -> None:
    """Writes pairs of odd and differing sizes."""
    for number, name in enumerate(names):
        image, mask = pair(number, 23 + number % 3, 31 + number % 5)
        write(images / f"{name}{suffix}", image)
        if masks is not None:
            write(masks / f"{name}{mask_suffix or suffix}", mask)


def every_name(stem: str) -> list[str]:
    return [name for part in ("train", "val", "test") for name in shipped_list(f"{stem}-{part}")]
