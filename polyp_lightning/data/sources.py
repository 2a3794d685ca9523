"""Where frames come from, behind one interface: files on disk, or the phantom."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.errors import DataError
from polyp_lightning.data import phantom
from polyp_lightning.data.layouts import Frame
from polyp_lightning.data.reading import read_image, read_mask


class Source(Protocol):
    """Numbered frames with names, to be read once into the cache.

    Attributes:
        key: A short name for files and messages, such as ``kvasir``.
        names: The frames' names, in the order of their numbers.
        paths: Each frame's image file; empty strings where there is none.
        has_masks: Whether the frames have masks.
    """

    key: str
    names: list[str]
    paths: list[str]
    has_masks: bool

    def fingerprint(self) -> str:
        """Digest of everything that decides the pixels and their order: changes with any of them."""
        ...

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Reads a frame: RGB uint8 (H, W, 3), and the mask uint8 (H, W) of 0 and 1, or None without masks."""
        ...


class FileSource:
    """Frames in files; the attributes are those of `Source`.

    Args:
        key: A short name for files and messages.
        frames: The image and mask pairs.
    """

    def __init__(self, key: str, frames: Sequence[Frame]) -> None:
        self.key = key
        self.frames = list(frames)
        self.names = [frame.name for frame in frames]
        self.paths = [str(frame.image) for frame in frames]
        self.has_masks = frames[0].mask is not None

    def fingerprint(self) -> str:
        """Digest over the names and the SHA-256 of every file.

        Every byte is read at every start: Kvasir-SEG's 114 MB take a fraction of a second, and no table of dates and
        sizes can then be out of date.

        Raises:
            DataError: If a file cannot be read.
        """
        files = [path for frame in self.frames for path in (frame.image, frame.mask) if path is not None]
        with ThreadPoolExecutor() as pool:
            digests = pool.map(file_digest, files)
        total = hashlib.sha256()
        for path, digest in zip(files, digests, strict=True):
            total.update(f"{path.name} {digest}\n".encode())
        return total.hexdigest()

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Decodes a pair.

        Raises:
            DataError: If a file is unreadable, or the mask has another size than the image; it names the files.
        """
        frame = self.frames[index]
        image = read_image(frame.image)
        if frame.mask is None:
            return image, None
        mask = read_mask(frame.mask)
        if mask.shape != image.shape[:2]:
            msg = (
                f"{frame.image} is {_size(image)} pixels (width×height), but its mask {frame.mask} is {_size(mask)}. "
                "Both must have one size: replace the one that is wrong, or remove both."
            )
            raise DataError(msg)
        return image, mask


class PhantomSource:
    """Frames drawn procedurally (see `polyp_lightning.data.phantom`); the attributes are those of `Source`.

    Args:
        frames: How many frames there are.
        seed: Seed of the drawing.
    """

    def __init__(self, frames: int, seed: int) -> None:
        self.key = "phantom"
        self.seed = seed
        self.names = [phantom.frame_name(index) for index in range(frames)]
        self.paths = [""] * frames
        self.has_masks = True

    def fingerprint(self) -> str:
        """Digest over the drawing's version, the seed and the number of frames."""
        return hashlib.sha256(f"{phantom.VERSION} {self.seed} {len(self.names)}".encode()).hexdigest()

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Draws a frame and its mask."""
        return phantom.draw_frame(self.seed, index)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"cannot read {path}: {error}. Make it readable, or remove it and its partner."
        raise DataError(msg) from error


def _size(pixels: NDArray[np.uint8]) -> str:
    return f"{pixels.shape[1]}×{pixels.shape[0]}"
