"""The data sets as a LightningDataModule."""

import os
import shlex
from pathlib import Path
from typing import Any, get_args

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DataLoader, Sampler

from polyp_lightning.common.errors import ConfigError, DataError, join_names
from polyp_lightning.data.augmentation import Augmentation, Strength
from polyp_lightning.data.cache import ImageStore, default_cache_dir, open_store
from polyp_lightning.data.dataset import Dataset, ImageId
from polyp_lightning.data.loading import ImageDataset, SeededSampler, collate, start_worker
from polyp_lightning.data.masks import ANY_COLOUR, parse_colours
from polyp_lightning.data.mixing import Mixture
from polyp_lightning.data.sets import check_choice, load_dataset
from polyp_lightning.data.test_folders import load_tests, parse_tests


class PolypDataModule(LightningDataModule):
    """Images and masks of one data set or several, cached at the network's resolution.

    A batch is a dict: ``image`` uint8 (N, 3, S, S), RGB, not normalised; ``mask`` uint8 (N, 1, S, S) of 0 and 1, absent
    where the data set has no masks; ``name``, ``path``: lists of str (no path for the phantom); ``size``: list of
    original (height, width); in test batches also ``original_mask``: list of uint8 (H, W).

    Args:
        name: the data set, or several with commas between: ``phantom`` is drawn and needs no files; ``folder`` is any
            pair of images/ and masks/; ``mix`` is what the project's own networks are trained on,
            ``kvasir,clinicdb,polypgen,cpchild``. All validation images choose, and each test set is scored apart.
        root: the folder of data sets; for ``folder`` the folder itself. Not given, it is the environment's POLYP_DATA,
            or else ``datasets``.
        split: the split by name; not given, the data set's first, the honest one. A wrong name is answered with the
            right ones. Of several data sets, theirs with commas between, in the same order.
        image_size: side in pixels of the square images.
        batch_size: images in a batch.
        num_workers: processes that load batches; 0 loads in the main process.
        augmentation: of the training images: ``light`` for short runs, ``strong`` for dozens of epochs.
        seed: decides the order and the augmentation of the training images; never the split. Not given, it is the
            run's: that of ``seed_everything``, or else 0.
        cache_dir: the folder of the decoded images; not given, the user's folder of caches.
        phantom_frames: how many frames the phantom has; five sevenths of them train.
        shares: of several data sets, what share of an epoch's training images some of them make up, such as
            ``{cpchild: 0.04}``; the others are shown whole. Not given, an epoch shows every image once.
        mask_colours: the colours of masks that are polyp, by name or as #ff0000, with commas between: red for the
            neoplastic ones of BKAI-IGH NeoPolyp, #010101 for the label 1. Any: all but black.
        tests: folders to test on in place of the data set's own images: NAME=FOLDER,NAME=FOLDER with images/ and masks/
            each, or a name in ROOT/TestDataset, or pranet for its five.

    Raises:
        ConfigError: a number is out of range, or the name or split is unknown.
    """

    def __init__(
        self,
        name: str = "phantom",
        root: str | None = None,
        split: str | None = None,
        image_size: int = 96,
        batch_size: int = 8,
        num_workers: int = 2,
        augmentation: Strength = "light",
        seed: int | None = None,
        cache_dir: str | None = None,
        phantom_frames: int = 560,
        shares: dict[str, float] | None = None,
        mask_colours: str = ANY_COLOUR,
        tests: str | None = None,
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
            msg = f"--data.augmentation={augmentation} is unknown: {join_names(list(get_args(Strength)))}."
            raise ConfigError(msg)
        check_choice(name, split)
        parse_colours(mask_colours)
        self.name = name
        self.root = Path(root or os.environ.get("POLYP_DATA") or "datasets").expanduser()
        self.split = split
        self.tests = tests
        self.image_size = image_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augmentation = augmentation
        self.cache_dir = Path(cache_dir).expanduser() if cache_dir else default_cache_dir()
        self.phantom_frames = phantom_frames
        self.shares = shares
        self.mask_colours = mask_colours
        self._dataset: Dataset | None = None
        self._stores: dict[str, ImageStore] | None = None

    @property
    def dataset(self) -> Dataset:
        """The images and their split; finds them on disk at first use."""
        if self._dataset is None and self.tests is not None:
            self._dataset = load_tests(parse_tests(self.tests, self.root), self.mask_colours)
        if self._dataset is None:
            self._dataset = load_dataset(str(self.name), self.root, self.split, self.phantom_frames, self.mask_colours)
        return self._dataset

    @property
    def stores(self) -> dict[str, ImageStore]:
        """The cached images of each source; decodes them at first use where no cache holds them."""
        if self._stores is None:
            sources = self.dataset.sources.items()
            self._stores = {key: open_store(source, self.image_size, self.cache_dir) for key, source in sources}
        return self._stores

    @property
    def test_names(self) -> list[str]:
        """The test sets' names with their sizes, in the order of the test loaders, such as ``kvasir-120``."""
        return list(self.dataset.tests)

    @property
    def mixture(self) -> Mixture | None:
        """What an epoch shows of each data set, where they have shares."""
        return Mixture(self.dataset.train_sizes, self.shares, self.seed) if self.shares else None

    def describe(self) -> dict[str, str | int]:
        """Describes what a result on this data set rests on, in plain values and without paths.

        Returns:
            ``data``, ``split``, ``protocol`` (a sentence), ``train``, ``val``, ``test`` (numbers of images),
            ``test_sets``, ``image_size`` and ``cache_key`` (which changes with any byte of the data); where data sets
            have shares, ``epoch``, what one shows of each; where not every colour counts, ``mask_colours``.
        """
        dataset, mixture = self.dataset, self.mixture
        counts = {} if mixture is None else mixture.counts
        epoch = {"epoch": ", ".join(f"{count} {name}" for name, count in counts.items())} if counts else {}
        colours = {} if self.mask_colours == ANY_COLOUR else {"mask_colours": self.mask_colours}
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
            **epoch,
            **colours,
        }

    def prepare_data(self) -> None:
        """Builds the cache, on one process a machine."""
        _ = self.stores

    def setup(self, stage: str) -> None:
        """Opens the cache; refuses to fit or score without masks, and to fit on what is there to be tested on."""
        if self.tests is not None and stage in ("fit", "validate"):
            msg = f"--data.tests={self.tests} names images to test on alone: leave it out of {stage}."
            raise ConfigError(msg)
        if stage != "predict" and not all(store.has_masks for store in self.stores.values()):
            msg = f"{self.root} has no folder masks/: add it to train or score; without it, only predict works."
            raise DataError(msg)
        if stage == "predict":
            self._name_the_part()

    def _name_the_part(self) -> None:
        """Says how many images are left out of a prediction, and how to take all."""
        chosen, files = len(self.dataset.predict), [path for store in self.stores.values() for path in store.paths]
        if chosen < len(files) and Path(files[0]).is_file():
            folders = shlex.join(dict.fromkeys(str(Path(file).parent) for file in files))
            rank_zero_info(
                f"predict: {chosen} of {len(files)} images, the test part; all with --source {folders} in place of "
                "--data.name and --data_root"
            )

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Loads shuffled, augmented batches; a last batch that is not full is dropped unless it is the only one."""
        images = self._images(self.dataset.train, "train", Augmentation(self.augmentation))
        sampler = SeededSampler(images, self.seed, self.mixture)
        return self._loader(images, sampler=sampler, drop_last=len(sampler) > self.batch_size)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Loads the validation images, in order; of several processes each has its share, and every image counts once.

        Raises:
            DataError: there are more processes than images.
        """
        images = self._images(self.dataset.val, "val")
        trainer = self.trainer
        processes = 1 if trainer is None else trainer.world_size
        if trainer is None or processes == 1:
            return self._loader(images)
        if len(images) < processes:
            msg = f"{processes} processes share {len(images)} validation images; lower --trainer.devices"
            raise DataError(msg)
        # Lightning's own sampler for this would repeat images until all processes have as many.
        share = UnrepeatedDistributedSampler(images, processes, trainer.global_rank, shuffle=False)
        return self._loader(images, sampler=share)

    def test_dataloader(self) -> list[DataLoader[dict[str, Any]]]:
        """Makes one loader for each of `test_names`, in order, with masks at the original resolution."""
        tests: list[list[ImageId]] = list(self.dataset.tests.values()) or [[]]
        return [self._loader(self._images(images, "test", originals=True)) for images in tests]

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Loads the test images of all test sets; all images of a folder without masks or without a test part."""
        return self._loader(self._images(self.dataset.predict, "test"))

    def _images(
        self, ids: list[ImageId], part: str, augment: Augmentation | None = None, originals: bool = False
    ) -> ImageDataset:
        if not ids:
            msg = f"the {part} part of {self.root} is empty: write image names into {self.root / part}.txt."
            if self.name != "folder":
                msg = f"{self.name} has no {part} images: name a data set that has some beside it (--data.name)."
            raise DataError(msg)
        numbers = {key: {name: i for i, name in enumerate(store.names)} for key, store in self.stores.items()}
        return ImageDataset([(self.stores[key], numbers[key][name]) for key, name in ids], augment, originals)

    def _loader(
        self, images: ImageDataset, sampler: Sampler[Any] | None = None, drop_last: bool = False
    ) -> DataLoader[dict[str, Any]]:
        workers = min(self.num_workers, len(images))
        return DataLoader(
            images,
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
