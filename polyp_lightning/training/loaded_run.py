"""A trained network together with the data that it was trained on, from a checkpoint."""

import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from tqdm import tqdm

from polyp_lightning.checkpoints.record import KEY, make_record, read_record
from polyp_lightning.checkpoints.trained import TrainedNet
from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.common.terminal import show_text
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.metrics import PerImageDice
from polyp_lightning.networks.losses import Loss, build_loss


@dataclass(frozen=True)
class LoadedRun:
    """A trained network in evaluation mode, which is changed in place, its loss, and its data, ready to be loaded."""

    trained: TrainedNet
    loss: Loss
    data: PolypDataModule
    _file: str

    @property
    def net(self) -> nn.Module:
        """The network, see :class:`TrainedNet`."""
        return self.trained.net

    @property
    def image_size(self) -> int:
        """Side in pixels of the square images that it was trained on."""
        return self.trained.image_size

    def inputs(self, batches: int) -> Iterator[Tensor]:
        """Yields network inputs of training images, for new batch-norm statistics."""
        found = self._train(batches, "new batch-norm statistics")
        return (self.trained.network_input(batch["image"]) for batch in found)

    def inputs_and_masks(self, batches: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields network inputs and masks of training images, for a criterion."""
        found = self._train(batches, "scoring")
        return ((self.trained.network_input(batch["image"]), batch["mask"]) for batch in found)

    def one_input(self) -> Tensor:
        """Loads a training image as the network takes it, (1, 3, S, S)."""
        return self.trained.network_input(next(iter(self.data.train_dataloader()))["image"][:1])

    @torch.no_grad()
    def val_dice(self) -> float:
        """Computes the per-image Dice on the validation images at network resolution."""
        metric = PerImageDice()
        for batch in self.data.val_dataloader():
            metric.update(self.net(self.trained.network_input(batch["image"])) > 0, batch["mask"])
        return float(metric.compute())

    def checkpoint(self, pruned: dict[str, str]) -> dict[str, Any]:
        """Makes a checkpoint of the network as it is now, without an optimizer; ``pruned`` says how it came about."""
        start = {"encoder_weights": None, "init_from": self._file, "architecture_from": None}
        return {
            "state_dict": {f"net.{name}": value for name, value in self.net.state_dict().items()},
            "hyper_parameters": {**self.trained.settings, "encoder_weights": None},
            "pytorch-lightning_version": lightning.__version__,
            "epoch": 0,
            "global_step": 0,
            KEY: make_record(self.net, self.data, start, []) | {"pruned": pruned},
        }

    def _train(self, batches: int, what: str) -> Iterator[dict[str, Any]]:
        loader = self.data.train_dataloader()
        # A bar in a file is noise.
        yield from tqdm(islice(loader, batches), what, min(batches, len(loader)), disable=not sys.stderr.isatty())


def load_run(
    path: Path, root: str | None, batch_size: int, named: Collection[str] = (), stand_ins: int = 0
) -> LoadedRun:
    """Loads a checkpoint's network and its data; where they are not there, so many drawn phantoms, which it says.

    ``named`` are the networks of the user's own that may be imported.

    Raises:
        ConfigError: the file is no checkpoint, or does not say what it was trained on.
        DataError: the data are not there, and nothing may stand in for them.
    """
    record = read_record(path)
    lacking = [
        f"data.{flag}" for flag, key in (("name", "data"), ("image_size", "image_size")) if key not in record.data
    ]
    if lacking:
        msg = f"--ckpt_path {path} does not say its {', '.join(lacking)}; give a checkpoint that `fit` has written"
        raise ConfigError(msg)
    trained = TrainedNet.from_record(record, named)
    trained.net.to(memory_format=torch.channels_last)
    name = record.data["data"]
    data = PolypDataModule(name, root, record.data.get("split"), record.data["image_size"], batch_size)
    if name == "phantom":
        # Drawn as large as it was.
        data.phantom_frames = sum(int(record.data[part]) for part in ("train", "val", "test"))
    try:
        data.prepare_data()
    except DataError as error:
        if not stand_ins:
            raise
        show_text(f"Scored on {stand_ins} drawn phantoms in place of {name}: {error}")
        data = PolypDataModule("phantom", None, None, data.image_size, batch_size)
        # Five sevenths of them train.
        data.phantom_frames = max(7, -(-stand_ins * 7 // 5))
        data.prepare_data()
    data.setup("fit")
    return LoadedRun(trained, build_loss(record.settings.get("loss", "dice_bce")), data, path.name)
