"""The data sets as a LightningDataModule."""

import os
from pathlib import Path
from typing import Any, get_args

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DataLoader, Sampler

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.data.cache import FrameStore, default_cache_dir, open_store
from polyp_lightning.data.datasets import Dataset, DatasetName, FrameId, check_choice, load_dataset
from polyp_lightning.data.loading import FrameDataset, SeededSampler, collate, start_worker
from polyp_lightning.data.transforms import Augmentation, Strength


class PolypDataModule(LightningDataModule):
    """Frames and masks of one data set, cached at the network's resolution.

    A batch is a dict: ``image`` uint8 (N, 3, S, S), RGB, not normalised; ``mask`` uint8 (N, 1, S, S) of 0 and 1, absent
    where the data set has no masks; ``name``, ``path``: lists of str (no path for the phantom); ``size``: list of
    original (height, width); in test batches also ``original_mask``: list of uint8 (H, W).

    Args:
        name: The data set: ``phantom`` is drawn and needs no files; ``folder`` is any pair of images/ and masks/.
        root: The folder that holds Kvasir-SEG/, CVC-ClinicDB/, …; for ``folder`` the folder itself. Not given, it is
            the environment's POLYP_DATA, or else ``datasets``.
        split: The split by name; not given, the honest one of the data set: ``880-120`` (kvasir), ``sequence``
            (clinicdb, which also has ``pranet``), ``900-550`` (pranet), ``lists`` or ``80-10-10`` (folder). Kvasir's
            ``880-120-final`` trains on 80 of the 100 validation frames as well, by settings that were chosen before.
        image_size: Side in pixels of the square frames.
        batch_size: Frames in a batch.
        num_workers: Processes that load batches; 0 loads in the main process.
        augmentation: Of the training frames: ``light`` for short runs, ``strong`` for dozens of epochs.
        seed: Decides the order and the augmentation of the training frames; never the split. Not given, it is the
            run's: that of ``seed_everything``, or else 0.
        cache_dir: The folder of the decoded frames; not given, the user's folder of caches.
        phantom_frames: How many frames the phantom has; five sevenths of them train.

    Raises:
        ConfigError: If a number is out of range, or the name or split is unknown.
    """

    def __init__(
        self,
        name: DatasetName = "phantom",
        root: str | None = None,
        split: str | None = None,
        image_size: int = 96,
        batch_size: int = 8,
        num_workers: int = 2,
        augmentation: Strength = "light",
        seed: int | None = None,
        cache_dir: str | None = None,
        phantom_frames: int = 560,
    ) -> None:
        super().__init__()
        # Where Lightning keeps it, for the processes that it starts, too.
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", "0")) if seed is None else seed
        least = {"image_size": (image_size, 32), "batch_size": (batch_size, 1), "num_workers": (num_workers, 0)}
        for option, (value, bound) in (least | {"seed": (self.seed, 0)}).items():
            if value < bound:
                msg = f"--data.{option}={value} is too small: at least {bound}."
                raise ConfigError(msg)
        if augmentation not in get_args(Strength):
            msg = f"--data.augmentation={augmentation} is unknown: light or strong."
            raise ConfigError(msg)
        check_choice(name, split)
        self.name = name
        self.root = Path(root or os.environ.get("POLYP_DATA") or "datasets").expanduser()
        self.split = split
        self.image_size = image_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augmentation = augmentation
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
        self.phantom_frames = phantom_frames
        self._dataset: Dataset | None = None
        self._stores: dict[str, FrameStore] | None = None

    @property
    def dataset(self) -> Dataset:
        """The frames and their split; finds them on disk at first use.

        Raises:
            DataError: If files are missing, or the split does not fit them.
        """
        if self._dataset is None:
            self._dataset = load_dataset(str(self.name), self.root, self.split, self.phantom_frames)
        return self._dataset

    @property
    def stores(self) -> dict[str, FrameStore]:
        """The cached frames of each source; decodes them at first use where no cache holds them.

        Raises:
            DataError: If a frame cannot be read.
        """
        if self._stores is None:
            sources = self.dataset.sources.items()
            self._stores = {key: open_store(source, self.image_size, self.cache_dir) for key, source in sources}
        return self._stores

    @property
    def test_names(self) -> list[str]:
        """The test sets' names with their sizes, in the order of the test loaders, such as ``kvasir-120``."""
        return list(self.dataset.tests)

    def describe(self) -> dict[str, str | int]:
        """What a result on this data set rests on, in plain values and without paths.

        Returns:
            ``data``, ``split``, ``protocol`` (a sentence), ``train``, ``val``, ``test`` (numbers of frames),
            ``test_sets``, ``image_size`` and ``cache_key`` (which changes with any byte of the data).
        """
        dataset = self.dataset
        return {
            "data": dataset.name,
            "split": dataset.split,
            "protocol": dataset.protocol,
            "train": len(dataset.train),
            "val": len(dataset.val),
            "test": sum(map(len, dataset.tests.values())),
            "test_sets": ", ".join(dataset.tests),
            "image_size": self.image_size,
            "cache_key": " ".join(store.folder.name for store in self.stores.values()),
        }

    def prepare_data(self) -> None:
        """Builds the cache, on one process a machine."""
        _ = self.stores

    def setup(self, stage: str) -> None:
        """Opens the cache, and refuses to fit or score where there are no masks."""
        if stage != "predict" and not all(store.has_masks for store in self.stores.values()):
            msg = f"{self.root} has no folder masks/: add it to train or score; without it, only predict works."
            raise DataError(msg)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Shuffled, augmented batches; a last batch that is not full is dropped unless it is the only one."""
        frames = self._frames(self.dataset.train, "train", Augmentation(self.augmentation))
        drop_last = len(frames) > self.batch_size
        return self._loader(frames, sampler=SeededSampler(frames, self.seed), drop_last=drop_last)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The validation frames, in order; of several processes each has its share, and every frame counts once.

        Raises:
            DataError: there are more processes than frames.
        """
        frames = self._frames(self.dataset.val, "val")
        trainer = self.trainer
        processes = 1 if trainer is None else trainer.world_size
        if trainer is None or processes == 1:
            return self._loader(frames)
        if len(frames) < processes:
            msg = f"{processes} processes share {len(frames)} validation frames; lower --trainer.devices"
            raise DataError(msg)
        # Lightning's own sampler for this would repeat frames until all processes have as many.
        share = UnrepeatedDistributedSampler(frames, processes, trainer.global_rank, shuffle=False)
        return self._loader(frames, sampler=share)

    def test_dataloader(self) -> list[DataLoader[dict[str, Any]]]:
        """One loader for each of `test_names`, in order, with masks at the original resolution."""
        tests = self.dataset.tests.values()
        return [self._loader(self._frames(frames, "test", originals=True)) for frames in tests]

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The test frames of all test sets; all frames of a folder without masks or without a test part."""
        return self._loader(self._frames(self.dataset.predict, "test"))

    def _frames(
        self, ids: list[FrameId], part: str, augment: Augmentation | None = None, originals: bool = False
    ) -> FrameDataset:
        if not ids:
            msg = f"the {part} part of {self.root} is empty: write image names into {self.root / part}.txt."
            raise DataError(msg)
        numbers = {key: {name: i for i, name in enumerate(store.names)} for key, store in self.stores.items()}
        return FrameDataset([(self.stores[key], numbers[key][name]) for key, name in ids], augment, originals)

    def _loader(
        self, frames: FrameDataset, sampler: Sampler[Any] | None = None, drop_last: bool = False
    ) -> DataLoader[dict[str, Any]]:
        workers = min(self.num_workers, len(frames))
        return DataLoader(
            frames,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=drop_last,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate,
            worker_init_fn=start_worker,
            # Lets PyTorch draw its workers' base seed without touching the global generator.
            generator=torch.Generator().manual_seed(self.seed),
        )
