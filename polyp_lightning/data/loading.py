"""From the cache to batches: images are augmented, ordered and put together."""

import math
import signal
from collections.abc import Iterator, Sequence
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, get_worker_info

from polyp_lightning.data.augmentation import Augmentation
from polyp_lightning.data.cache import ImageStore
from polyp_lightning.data.mixing import Mixture

Item = dict[str, Any]
Batch = dict[str, Any]


class ImageDataset(Dataset[Item]):
    """Images of one or more stores, augmented where that is asked for.

    With ``originals``, items hold the mask at the original resolution too.
    """

    def __init__(
        self, images: Sequence[tuple[ImageStore, int]], augment: Augmentation | None = None, originals: bool = False
    ) -> None:
        self.images = list(images)
        self.augment = augment
        self.originals = originals

    def __len__(self) -> int:
        """Counts the images."""
        return len(self.images)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        """Reads one image, for `collate`; the key is its position, with a seed where images are augmented."""
        position, seed = key if isinstance(key, tuple) else (key, 0)
        store, index = self.images[position]
        item: Item = {
            "image": store.image(index),
            "name": store.names[index],
            "path": store.paths[index],
            "size": store.sizes[index],
        }
        if store.has_masks:
            item["mask"] = store.mask(index)
            if self.originals:
                item["original_mask"] = store.original_mask(index)
            if self.augment is not None:
                item["image"], item["mask"] = self.augment(item["image"], item["mask"], seed)
        return item


class SeededSampler(DistributedSampler[Item]):
    """Shuffles, and gives each place in the epoch a seed of its own for the augmentation.

    Order and seeds depend on the seed, the epoch and the place alone: not on the number of workers, and not on
    whether the run was interrupted. Lightning sets the epoch; where nobody does, each pass counts as one. Being a
    distributed sampler, Lightning leaves it in place on several devices.

    An epoch shows every image once, or, of a mixture, what it draws.
    """

    def __init__(self, dataset: ImageDataset, seed: int, mixture: Mixture | None = None) -> None:
        self.mixture = mixture
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        super().__init__(
            dataset if mixture is None else range(len(mixture)),  # type: ignore[arg-type]  # only its length matters
            num_replicas=torch.distributed.get_world_size() if distributed else 1,
            rank=torch.distributed.get_rank() if distributed else 0,
            shuffle=True,
            seed=seed,
        )

    def __iter__(self) -> Iterator[Item]:
        """Yields pairs of position and seed."""
        epoch = self.epoch
        places = cast("list[int]", list(super().__iter__()))
        self.set_epoch(epoch + 1)
        seeds = np.random.SeedSequence([self.seed, epoch]).generate_state(len(self.dataset))  # type: ignore[arg-type]
        # The base class is typed as if samplers yielded items; they yield what the data set is indexed with.
        images = range(len(seeds)) if self.mixture is None else self.mixture.draw(epoch)
        return iter(cast("list[Item]", [(images[place], int(seeds[place])) for place in places]))


def collate(items: Sequence[Item]) -> Batch:
    """Puts items together into a batch.

    Returns:
        ``image``: uint8 (N, 3, S, S) in channels-last memory. ``mask``: uint8 (N, 1, S, S) of 0 and 1, where there are
        masks. ``name``, ``path``: lists of str. ``size``: list of original (height, width). ``original_mask``, where
        items have it: list of uint8 (H, W) of 0 and 1.
    """
    rest: Batch = {key: [item[key] for item in items] for key in ("name", "path", "size")}
    if "original_mask" in items[0]:
        rest["original_mask"] = [torch.from_numpy(item["original_mask"]) for item in items]
    shape = (len(items), *items[0]["image"].shape[:2])
    area, has_mask = math.prod(shape), "mask" in items[0]
    pixels = _allocate(4 * area if has_mask else 3 * area)
    np.stack([item["image"] for item in items], out=pixels[: 3 * area].numpy().reshape(*shape, 3))
    if has_mask:
        np.stack([item["mask"] for item in items], out=pixels[3 * area :].numpy().reshape(shape))
    return _OneTensorBatch().pack(pixels, shape, rest)


class _OneTensorBatch(Batch):
    """A batch that travels between processes as one tensor and arrives as an ordinary dict.

    Each tensor that a worker hands over costs the main process a connection, which at this size takes as long as the
    pixels do.
    """

    def pack(self, pixels: Tensor, shape: tuple[int, ...], rest: Batch) -> "_OneTensorBatch":
        """Takes the content of `_unpack`. Not a constructor: Lightning and torch copy batches as they copy dicts."""
        self.update(_unpack(pixels, shape, rest))
        self._parts = (pixels, shape, rest)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        parts = getattr(self, "_parts", None)
        return (_unpack, parts) if parts else (dict, (dict(self),))


def _unpack(pixels: Tensor, shape: tuple[int, ...], rest: Batch) -> Batch:
    """Makes the batch, image and mask as views of ``pixels``: N·S·S·3 bytes of images, then N·S·S of masks or none."""
    area = math.prod(shape)
    batch = rest | {"image": pixels[: 3 * area].view(*shape, 3).permute(0, 3, 1, 2)}
    if len(pixels) > 3 * area:
        batch["mask"] = pixels[3 * area :].view(shape).unsqueeze(1)
    return batch


def _allocate(size: int) -> Tensor:
    """Allocates uint8 values, in a worker process in shared memory: they would have to be copied there otherwise."""
    if get_worker_info() is None:
        return torch.empty(size, dtype=torch.uint8)
    # As torch's own default_collate does.
    storage = torch.UntypedStorage._new_shared(size)
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def start_worker(worker: int) -> None:
    """Keeps OpenCV to one thread in a worker process, since the workers share the cores; and SIGTERM from ending it.

    Schedulers send that to every process of a job. The main one ends after its step, and then its workers: one that is
    gone by then would be an error.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
