"""Where images come from: pairs of files in two folders, or anything else that can be read by number."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.errors import DataError, join_names
from polyp_lightning.common.files import sha256
from polyp_lightning.data.listing import SUFFIXES, list_images, normal_name
from polyp_lightning.data.masks import Colour
from polyp_lightning.data.reading import RULES, read_pair


class Source(Protocol):
    """Numbered images with names, to be read once into the cache.

    Attributes:
        key: a short name for files and messages, such as ``kvasir``.
        names: the images' names, in the order of their numbers.
        paths: each image's file; empty strings where there is none.
        has_masks: whether the images have masks.
    """

    key: str
    names: list[str]
    paths: list[str]
    has_masks: bool

    def fingerprint(self) -> str:
        """Computes a digest of everything that decides the pixels and their order: changes with any of them."""
        ...

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Reads an image: RGB uint8 (H, W, 3), and the mask uint8 (H, W) of 0 and 1, or None without masks."""
        ...


@dataclass(frozen=True)
class ImagePair:
    """An image file and its mask's, if there are masks; the name is the image file's without suffix, in NFC."""

    name: str
    image: Path
    mask: Path | None


class FileSource:
    """Images in files; the attributes are those of `Source`, and the colours of masks that count, see `masks`.

    Files without masks that are known to show no polyp are ``polyp_free``: their masks are empty.
    """

    def __init__(self, key: str, pairs: Sequence[ImagePair], polyp_free: bool = False) -> None:
        self.key = key
        self.pairs = list(pairs)
        self.names = [pair.name for pair in pairs]
        self.paths = [str(pair.image) for pair in pairs]
        self.polyp_free = polyp_free
        self.has_masks = polyp_free or pairs[0].mask is not None
        self.mask_colours: tuple[Colour, ...] = ()

    def fingerprint(self) -> str:
        """Computes a digest over the rules of reading, the names and the SHA-256 of every file.

        Every byte is read at every start: Kvasir-SEG's 114 MB take a fraction of a second, and no table of dates and
        sizes can then be out of date.
        """
        files = [path for pair in self.pairs for path in (pair.image, pair.mask) if path is not None]
        with ThreadPoolExecutor() as pool:
            digests = pool.map(file_digest, files)
        total = hashlib.sha256(f"{RULES} {self.mask_colours}\n".encode())
        for path, digest in zip(files, digests, strict=True):
            total.update(f"{normal_name(path.name)} {digest}\n".encode())
        return total.hexdigest()

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Decodes a pair, see `read_pair`."""
        image, mask = read_pair(self.pairs[index].image, self.pairs[index].mask, self.mask_colours)
        return image, np.zeros(image.shape[:2], np.uint8) if self.polyp_free else mask


def find_pairs(images: Path, masks: Path | None, name_of: Callable[[str], str] = str) -> list[ImagePair]:
    """Pairs the files of two folders by name, whatever their suffixes; in natural order.

    An image's name is its file's without suffix; where a mask's file is called otherwise, ``name_of`` makes one name of
    either.

    Raises:
        DataError: there are no images, two files of a folder share a name, or a file has no partner.
    """
    by_name = _find_files(images, name_of)
    if not by_name:
        msg = f"{images} holds no images. Files that end in {', '.join(SUFFIXES)} are read: put them there."
        raise DataError(msg)
    if masks is None:
        return [ImagePair(name, path, None) for name, path in by_name.items()]
    partners = _find_files(masks, name_of)
    for have, lack, folder in ((by_name, partners, masks), (partners, by_name, images)):
        alone = [have[name].name for name in have if name not in lack]
        if alone:
            msg = (
                f"no file in {folder} is called like {join_names(alone)}, apart from the suffix. "
                "Each image needs one mask of its name: add the missing files, or remove these."
            )
            raise DataError(msg)
    return [ImagePair(name, path, partners[name]) for name, path in by_name.items()]


def file_digest(path: Path) -> str:
    """Computes the SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return sha256(path)
    except OSError as error:
        msg = f"cannot read {path}: {error}. Make it readable, or remove it and its partner."
        raise DataError(msg) from error


def _find_files(folder: Path, name_of: Callable[[str], str]) -> dict[str, Path]:
    """Finds the images in a folder: name → file."""
    found: dict[str, Path] = {}
    for path in list_images(folder):
        name = name_of(normal_name(path.stem))
        if name in found:
            msg = f"{folder} holds both {found[name].name} and {path.name}. Names must differ: remove one of them."
            raise DataError(msg)
        found[name] = path
    return found
