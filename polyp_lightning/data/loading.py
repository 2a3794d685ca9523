"""From the cache to batches: items, their order, and how they are put together."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, cast

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler, get_worker_info

from polyp_lightning.data.cache import FrameStore
from polyp_lightning.data.transforms import Augmentation

Item = dict[str, Any]
Batch = dict[str, Any]


class FrameDataset(Dataset[Item]):
    """Frames of one or more stores.

    Args:
        frames: Store and number of each frame.
        augment: What to do to each frame; None for nothing.
        originals: Whether items hold the mask at the original resolution too.
    """

    def __init__(
        self, frames: Sequence[tuple[FrameStore, int]], augment: Augmentation | None = None, originals: bool = False
    ) -> None:
        self.frames = list(frames)
        self.augment = augment
        self.originals = originals

    def __len__(self) -> int:
        """How many frames there are."""
        return len(self.frames)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        """One frame, for `collate`.

        Args:
            key: The frame's position, with the augmentation's seed where the frames are augmented.
        """
        position, seed = key if isinstance(key, tuple) else (key, 0)
        store, index = self.frames[position]
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
    """Shuffles, and gives each position a seed of its own for the augmentation.

    Order and seeds depend on the seed, the epoch and the position alone: not on the number of workers, and not on
    whether the run was interrupted. Lightning sets the epoch; where nobody does, each pass counts as one. Being a
    distributed sampler, Lightning leaves it in place on several devices.

    Args:
        dataset: The frames.
        seed: The run's seed.
    """

    def __init__(self, dataset: FrameDataset, seed: int) -> None:
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        super().__init__(
            dataset,
            num_replicas=torch.distributed.get_world_size() if distributed else 1,
            rank=torch.distributed.get_rank() if distributed else 0,
            shuffle=True,
            seed=seed,
        )

    def __iter__(self) -> Iterator[Item]:
        """Yields pairs of position and seed."""
        epoch = self.epoch
        positions = list(super().__iter__())
        self.set_epoch(epoch + 1)
        seeds = np.random.SeedSequence([self.seed, epoch]).generate_state(len(self.dataset))  # type: ignore[arg-type]
        # The base class is typed as if samplers yielded items; they yield what the data set is indexed with.
        return iter(cast("list[Item]", [(position, int(seeds[cast("int", position)])) for position in positions]))


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
    pixels = _memory(4 * area if has_mask else 3 * area)
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
        """Take the content of `_unpacked`. Not a constructor: Lightning and torch copy batches as they copy dicts."""
        self.update(_unpacked(pixels, shape, rest))
        self._parts = (pixels, shape, rest)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        parts = getattr(self, "_parts", None)
        return (_unpacked, parts) if parts else (dict, (dict(self),))


def _unpacked(pixels: Tensor, shape: tuple[int, ...], rest: Batch) -> Batch:
    """The batch with image and mask as views of ``pixels``: N·S·S·3 bytes of images, then N·S·S of masks or none."""
    area = math.prod(shape)
    batch = rest | {"image": pixels[: 3 * area].view(*shape, 3).permute(0, 3, 1, 2)}
    if len(pixels) > 3 * area:
        batch["mask"] = pixels[3 * area :].view(shape).unsqueeze(1)
    return batch


def _memory(size: int) -> Tensor:
    """Room for uint8 values; in a worker process in shared memory, where they would have to be copied otherwise."""
    if get_worker_info() is None:
        return torch.empty(size, dtype=torch.uint8)
    # As torch's own default_collate does.
    storage = torch.UntypedStorage._new_shared(size)
    return torch.empty(0, dtype=torch.uint8).set_(storage)


def start_worker(worker: int) -> None:
    """Keeps OpenCV to one thread in a worker process: the workers share the machine's cores."""
    cv2.setNumThreads(0)
