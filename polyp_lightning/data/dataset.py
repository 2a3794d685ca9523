"""A data set: what is known of it by name, and its images once they are found and divided."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.fetching import Verification
from polyp_lightning.data.sources import FileSource, ImagePair, Source, find_pairs
from polyp_lightning.data.splitting import check_parts, shipped_list

PARTS = ("train", "val", "test")

ImageId = tuple[str, str]
"""A source's key and the image's name."""


@dataclass(frozen=True)
class Dataset:
    """Images and what they are for.

    Attributes:
        protocol: the split in one sentence.
        train: images to train on.
        val: images to choose by.
        tests: name of the test set → its images.
        predict: images to segment where nothing else is asked for.
        train_sizes: in a mix, how many of the training images each data set has, in their order; else empty.
    """

    name: str
    split: str
    protocol: str
    sources: dict[str, Source]
    train: list[ImageId]
    val: list[ImageId]
    tests: dict[str, list[ImageId]]
    predict: list[ImageId]
    train_sizes: dict[str, int] = field(default_factory=dict)

    def read(self, image: ImageId) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Reads an image and its mask, see :class:`~polyp_lightning.data.sources.Source`."""
        source = self.sources[image[0]]
        return source.read(source.names.index(image[1]))


@dataclass(frozen=True)
class DatasetSpec:
    """What ``--data.name`` can name.

    Attributes:
        splits: the names of its splits; the first is the default.
        load: finds and divides its images, without reading pixels: from the folder of data sets, the split (None for
            the default), and how many frames are drawn where they are.
        fetch: downloads it into the folder of data sets and returns what to tell the user, or raises a DataError that
            says how to get it; None where there is nothing to fetch.
        verify: compares its files with the published ones; None where no hashes are shipped.
        mixes: whether it can be one of several.
    """

    name: str
    splits: tuple[str, ...]
    load: Callable[[Path, str | None, int], Dataset]
    fetch: Callable[[Path], str] | None = None
    verify: Callable[[Path], Verification] | None = None
    mixes: bool = True


@dataclass(frozen=True)
class PublishedImages:
    """Images as a published archive unpacks.

    Attributes:
        key: the source's key.
        layouts: folders of images and of masks below the folder of data sets; the first pair that is there is taken.
        remedy: how to get them, for messages.
    """

    key: str
    layouts: tuple[tuple[str, str], ...]
    remedy: str

    def find(self, root: Path) -> list[ImagePair]:
        """Finds the pairs below the folder of data sets.

        Raises:
            DataError: no layout is there, a folder is empty, or an image has no partner.
        """
        layouts = [(root / images, root / masks) for images, masks in self.layouts]
        for images, masks in layouts:
            if images.is_dir() and masks.is_dir():
                return find_pairs(images, masks)
            if images.is_dir() or masks.is_dir():
                msg = f"there is no folder {masks if images.is_dir() else images}, only its partner. {self.remedy}"
                raise DataError(msg)
        tried = " or ".join(f"{images} and {masks.name}" for images, masks in layouts)
        msg = f"the data set is not there: looked for {tried}. {self.remedy}"
        raise DataError(msg)


@dataclass(frozen=True)
class Split:
    """A split whose lists are shipped.

    Attributes:
        protocol: the split in one sentence.
        lists: images → the stem of their lists in ``data/splits``, such as ``kvasir-880-120``.
    """

    protocol: str
    lists: Mapping[PublishedImages, str]

    def load(self, name: str, split: str, root: Path) -> Dataset:
        """Finds the images and divides them by the lists."""
        data = Dataset(name, split, self.protocol, {}, [], [], {}, [])
        for images, stem in self.lists.items():
            key, pairs = images.key, images.find(root)
            parts = {part: shipped_list(f"{stem}-{part}") for part in PARTS}
            check_parts(parts, [pair.name for pair in pairs], str(pairs[0].image.parent), images.remedy)
            train, val, test = ([(key, image) for image in parts[part]] for part in PARTS)
            data.sources[key] = FileSource(key, pairs)
            data.train.extend(train)
            data.val.extend(val)
            data.tests[f"{key}-{len(test)}"] = test
            data.predict.extend(test)
        return data


def describe_published(
    name: str,
    splits: Mapping[str, Split],
    fetch: Callable[[Path], str] | None = None,
    verify: Callable[[Path], Verification] | None = None,
) -> DatasetSpec:
    """Describes a data set whose split lists are shipped; the first split is the default."""

    def load(root: Path, split: str | None, _frames: int) -> Dataset:
        chosen = split or next(iter(splits))
        return splits[chosen].load(name, chosen, root)

    return DatasetSpec(name, tuple(splits), load, fetch, verify)
