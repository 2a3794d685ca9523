"""Finds the images of a folder, in the order in which people number them, and says what it passes over."""

import re
import unicodedata
import warnings
from pathlib import Path

from polyp_lightning.common.errors import join_names

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff")
"""What counts as an image, in lower case; what a file holds decides how it is read."""


def list_images(folder: Path) -> list[Path]:
    """Lists the images in a folder, not in those below it, in natural order: 2.png is before 10.png.

    Links are followed. Whatever else is there is named in a warning, but for hidden files that are not called images.
    """
    images, others = [], []
    for path in sorted(folder.iterdir(), key=natural_key):
        if is_image(path):
            images.append(path)
        elif is_called_image(path.name) or not path.name.startswith("."):
            others.append(f"{path.name}/" if path.is_dir() else path.name)
    if others:
        # Not as an error: systems leave files of their own in folders.
        kinds = ", ".join(SUFFIXES)
        msg = f"{folder}: passed over {join_names(others)}. Images are files directly in it that end in {kinds}."
        warnings.warn(msg, stacklevel=2)
    return images


def is_image(path: Path) -> bool:
    """Checks for a file, or a link to one, that is called an image and not hidden."""
    return is_called_image(path.name) and not path.name.startswith(".") and path.is_file()


def is_called_image(name: str) -> bool:
    """Checks a file's name for an image's suffix."""
    return name.lower().endswith(SUFFIXES)


def normal_name(name: str) -> str:
    """Returns a name in the form (NFC) in which it is compared: macOS writes é as e with an accent behind it."""
    return unicodedata.normalize("NFC", name)


def natural_key(path: Path) -> tuple[list[str | int], str]:
    """Returns what to sort files by, so that numbers in their names count as numbers."""
    parts = re.split(r"(\d+)", normal_name(str(path)))
    return [int(part) if part.isdecimal() else part for part in parts], str(path)
