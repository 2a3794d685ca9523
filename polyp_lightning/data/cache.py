"""Decoded and resized images in memory-mapped files, made once for each data set and size.

A cache is a folder of three arrays and an index. It is written beside its place and renamed when whole: of two
processes that build it at once, the second keeps the first one's. Before use it is checked against the checksums in its
index, and built again where it fails.
"""

import json
import os
import re
import shutil
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from polyp_lightning.common.errors import DataError
from polyp_lightning.common.log_lines import Pace, announce
from polyp_lightning.data.sources import Source

_VERSION = 1  # of the folder's format and of the resizing: another number makes other caches
_INDEX = "index.json"
_CHUNK = 1 << 22
# A whole cache, or one that was being built.
_CACHE_NAME = re.compile(r"[a-z0-9_]+-\d+-v\d+-[0-9a-f]{16}|\.[a-z0-9_]+-[a-z0-9_]{8}(-damaged)?")

UNUSED_DAYS = 90
"""After so many days without a run that opened it, a cache is deleted: longer than any run lasts, and none loses
the images it trains on. It can be built again at any time."""


class ImageStore:
    """The images of one data set at one size, read from memory-mapped files.

    It can be sent to another process, which then opens the files itself.

    ``folder`` is a whole cache, as `open_store` returns it, and ``source`` what it was built from.
    """

    def __init__(self, folder: Path, source: Source) -> None:
        self.folder = folder
        self.names = source.names
        self.paths = source.paths
        self.has_masks = source.has_masks
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        self.sizes: list[tuple[int, int]] = [(height, width) for height, width in index["sizes"]]
        self._offsets = np.cumsum([0, *((height * width + 7) // 8 for height, width in self.sizes)]).tolist()
        self._arrays: dict[str, NDArray[np.uint8]] = {}

    def image(self, index: int) -> NDArray[np.uint8]:
        """The resized image, a read-only view: RGB uint8 (S, S, 3)."""
        image: NDArray[np.uint8] = self._array("images")[index]
        return image

    def mask(self, index: int) -> NDArray[np.uint8]:
        """The resized mask, a read-only view: uint8 (S, S) of 0 and 1."""
        mask: NDArray[np.uint8] = self._array("masks")[index]
        return mask

    def original_mask(self, index: int) -> NDArray[np.uint8]:
        """The mask at the original resolution: uint8 (H, W) of 0 and 1."""
        height, width = self.sizes[index]
        packed = self._array("originals")[self._offsets[index] : self._offsets[index + 1]]
        return np.unpackbits(packed, count=height * width).reshape(height, width)

    def _array(self, name: str) -> NDArray[np.uint8]:
        if name not in self._arrays:
            self._arrays[name] = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return self._arrays[name]

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the maps out: pickled, they would carry all their bytes."""
        return self.__dict__ | {"_arrays": {}}


def default_cache_dir() -> Path:
    """Returns the folder of caches where no other is asked for: polyp_lightning in the system's folder of caches."""
    import pooch  # imports requests, which few runs need

    return Path(pooch.os_cache("polyp_lightning"))


def cache_key(source: Source, size: int) -> str:
    """Names the cache of a source at a size; another byte in any file, size or format gives another name."""
    return f"{source.key}-{size}-v{_VERSION}-{source.fingerprint()[:16]}"


def open_store(source: Source, size: int, cache_dir: Path) -> ImageStore:
    """Opens the cache of a source at a size (side in pixels), after building it where it is missing or damaged.

    Raises:
        DataError: an image is unreadable, or the folder cannot be written.
    """
    final = cache_dir / cache_key(source, size)
    if is_whole(final):
        with suppress(OSError):  # a cache that others share may be read-only
            os.utime(final / _INDEX)
    else:
        try:
            forget_unused(cache_dir)
            cache_dir.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(prefix=f".{source.key}-", dir=cache_dir))
            try:
                _build(source, size, partial)
                _publish(partial, final)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        except OSError as error:
            msg = f"cannot write the cache in {cache_dir}: {error}. Name another folder with --data.cache_dir."
            raise DataError(msg) from error
    return ImageStore(final, source)


def forget_unused(cache_dir: Path, now: float | None = None) -> list[str]:
    """Deletes caches that no run has opened for :data:`UNUSED_DAYS`, and what killed processes left half built.

    Only folders named as caches are touched. Returns the names of what was deleted.
    """
    oldest = (time.time() if now is None else now) - UNUSED_DAYS * 86400
    names = []
    for folder in cache_dir.iterdir() if cache_dir.is_dir() else []:
        if not _CACHE_NAME.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
            continue
        with suppress(OSError):
            index = folder / _INDEX
            if (index if index.is_file() else folder).stat().st_mtime < oldest:
                shutil.rmtree(folder)
                names.append(folder.name)
    return sorted(names)


def is_whole(folder: Path) -> bool:
    """Checks that a cache is there and each file is what was written, to the byte."""
    try:
        checksums = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["checksums"]
        return bool(checksums) and all(_checksum(folder / name) == found for name, found in checksums.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def resize(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resizes to a square: averaging areas where the image shrinks, bilinear where it grows."""
    way = cv2.INTER_AREA if max(pixels.shape[:2]) > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (size, size), interpolation=way), np.uint8)


def resize_mask(mask: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resizes a mask of 0 and 1 to a square of 0 and 1: 1 where more than half of a pixel's area is polyp."""
    return (resize(mask * np.uint8(255), size) > 127).astype(np.uint8)


def _build(source: Source, size: int, folder: Path) -> None:
    """Writes a cache into an empty folder; the index comes last."""
    count = len(source.names)
    images = np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=(count, size, size, 3))
    masks = np.lib.format.open_memmap(folder / "masks.npy", mode="w+", dtype=np.uint8, shape=(count, size, size))

    def store(index: int) -> tuple[tuple[int, int], NDArray[np.uint8]]:
        image, mask = source.read(index)
        images[index] = resize(image, size)
        if mask is None:
            mask = np.zeros(image.shape[:2], np.uint8)
        masks[index] = resize_mask(mask, size)
        return (mask.shape[0], mask.shape[1]), np.packbits(mask)

    what = f"caching {source.key} at {size}²"
    lines = count > 1 and not sys.stderr.isatty()
    if lines:
        announce(f"{what}: {count} images, once; later runs find them")
    pace = Pace(what, count)
    stored = []
    with ThreadPoolExecutor() as pool:
        bar = tqdm(pool.map(store, range(count)), what, count, unit="image", disable=lines or count < 2)
        try:
            for one in bar:
                stored.append(one)
                if lines:
                    pace.reach(len(stored))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    np.save(folder / "originals.npy", np.concatenate([packed for _, packed in stored]))
    images.flush()
    masks.flush()
    checksums = {name: _checksum(folder / name) for name in ("images.npy", "masks.npy", "originals.npy")}
    index = {"sizes": [size for size, _ in stored], "checksums": checksums}
    (folder / _INDEX).write_text(json.dumps(index), encoding="utf-8")


def _publish(partial: Path, final: Path) -> None:
    """Moves a built cache to its place; keeps what another process put there meanwhile, if that is whole."""
    while True:
        try:
            partial.rename(final)
            return
        except OSError:
            if not final.is_dir():
                raise
        if is_whole(final):
            return
        # Moved aside first: processes that still map the damaged files keep them until they let go.
        aside = partial.with_name(f"{partial.name}-damaged")
        with suppress(FileNotFoundError):
            final.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def _checksum(path: Path) -> list[int]:
    """Computes the size and the CRC-32 of a file."""
    total = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            total = zlib.crc32(chunk, total)
    return [path.stat().st_size, total]
