"""The train loader with a warm cache against the same loader that decodes and resizes the JPEGs each time.

On Kvasir-SEG below $POLYP_DATA, or else on phantom frames written as JPEGs of Kvasir's usual size. Both sides have read
their files a moment ago, so the disk plays no part.
"""

import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from measuring import Effort, Row, take_turns
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

from polyp_lightning.data.cache import ImageStore, resize, resize_mask
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.data.loading import ImageDataset
from polyp_lightning.data.reading import read_image, read_mask
from polyp_lightning.data.sets import kvasir
from polyp_lightning.data.sets.phantom import SEED, draw_frame, frame_name

LIMIT = 5.0
SIDE = 256
# Enough for passes of a second or so; Kvasir's frames are alike in size and content.
FRAMES = 240
JPEG_SIZE = (622, 531)

Loader = DataLoader[dict[str, Any]]


def measure(effort: Effort) -> list[Row]:
    """The whole loader first; then without augmentation, which is the same work on both sides."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        frames = _fill(home)
        module = PolypDataModule("folder", name, image_size=SIDE, cache_dir=str(home / "cache"))
        module.prepare_data()
        side = f"{SIDE}², {module.num_workers} workers"
        what = f"images a second of the train loader, {frames}, {side}: cache against decoding"
        whole = _row(what, _loaders(module), effort, LIMIT)
        rest = _row("the same without augmentation", _loaders(module, bare=True), effort, None)
    return [whole, rest]


class DecodingStore:
    """Looks like a cache of files, and decodes and resizes them at each access.

    Args:
        store: the cache of the same frames, for their names and sizes.
    """

    has_masks = True

    def __init__(self, store: ImageStore) -> None:
        self.names, self.paths, self.sizes = store.names, store.paths, store.sizes

    def image(self, index: int) -> NDArray[np.uint8]:
        """RGB uint8 (S, S, 3)."""
        return resize(read_image(Path(self.paths[index])), SIDE)

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Uint8 (S, S) of 0 and 1."""
        path = Path(self.paths[index])
        return resize_mask(read_mask(path.parent.parent / "masks" / path.name), SIDE)


def _loaders(module: PolypDataModule, *, bare: bool = False) -> tuple[Loader, Loader]:
    """The train loader on the cache, and one on the files; ``bare`` of augmentation or not."""
    cached, decoding = module.train_dataloader(), module.train_dataloader()
    for loader in (cached, decoding):
        images = cast("ImageDataset", loader.dataset)
        images.augment = None if bare else images.augment
    files = cast("ImageDataset", decoding.dataset)
    files.images = [(cast("ImageStore", DecodingStore(store)), index) for store, index in files.images]
    return cached, decoding


def _row(what: str, loaders: tuple[Loader, Loader], effort: Effort, limit: float | None) -> Row:
    """Times whole passes, with workers that have been started before."""
    cached, decoding = loaders
    pairs = take_turns(_passing(cached), _passing(decoding), effort)
    images = len(cached) * cast("int", cached.batch_size)
    return Row(
        f"{what}, n = {len(pairs.ours)}",
        [1 / ratio for ratio in pairs.ratios],
        "×",
        limit,
        at_least=True,
        ours=_rate(images, pairs.ours),
        reference=_rate(images, pairs.reference),
    )


def _passing(loader: Loader) -> Callable[[], None]:
    """A function that takes every batch of one epoch."""

    def one_pass() -> None:
        for _ in loader:
            pass

    return one_pass


def _rate(images: int, seconds: Sequence[float]) -> str:
    return f"{images / statistics.median(seconds):.0f} /s"


def _fill(home: Path) -> str:
    """Gives a folder images/ and masks/, and says of what."""
    for part in ("images", "masks"):
        (home / part).mkdir()
    root = Path(os.environ.get("POLYP_DATA", ""))
    if os.environ.get("POLYP_DATA") and (root / kvasir.ARCHIVE.folder).is_dir():
        return _link_kvasir(root.absolute(), home)
    return _draw_phantoms(home)


def _link_kvasir(root: Path, home: Path) -> str:
    for pair in kvasir.IMAGES.find(root)[:FRAMES]:
        (home / "images" / pair.image.name).symlink_to(pair.image)
        (home / "masks" / pair.image.name).symlink_to(cast("Path", pair.mask))
    return f"{FRAMES} Kvasir-SEG frames"


def _draw_phantoms(home: Path) -> str:
    # Drawing takes longer than decoding: a few frames are drawn and written several times.
    drawn = [draw_frame(SEED, number) for number in range(FRAMES // 8)]
    for number in range(FRAMES):
        image, mask = drawn[number % len(drawn)]
        for part, pixels in (("images", image), ("masks", mask * np.uint8(255))):
            picture = Image.fromarray(cv2.resize(pixels, JPEG_SIZE))
            picture.save(home / part / f"{frame_name(number)}.jpg", quality=92)
    return f"{FRAMES} phantom frames as {JPEG_SIZE[0]}×{JPEG_SIZE[1]} JPEGs"
