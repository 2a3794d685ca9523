"""A trained network together with the data that it was trained on, from a checkpoint."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from tqdm import tqdm

from polyp_lightning.checkpoints.record import KEY, as_flags, read
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.metrics import PerImageDice
from polyp_lightning.training.module import PolypSegmenter


@dataclass(frozen=True)
class LoadedRun:
    """A trained module, in evaluation mode, and its data."""

    module: PolypSegmenter
    data: PolypDataModule

    def images(self, batches: int) -> Iterator[Tensor]:
        """Training images (N, 3, S, S), uint8."""
        return (batch["image"] for batch in self._train(batches, "new batch-norm statistics"))

    def scored(self, batches: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Network inputs and masks of training images."""
        found = self._train(batches, "scoring")
        return ((self.module.network_input(batch["image"]), batch["mask"]) for batch in found)

    def one_input(self) -> Tensor:
        """A training image as the network takes it, (1, 3, S, S)."""
        return self.module.network_input(next(iter(self.data.train_dataloader()))["image"][:1])

    @torch.no_grad()
    def val_dice(self) -> float:
        """Per-image Dice on the validation images at network resolution."""
        metric = PerImageDice()
        for batch in self.data.val_dataloader():
            metric.update(self.module(batch["image"]) > 0, batch["mask"])
        return float(metric.compute())

    def checkpoint(self, pruned: dict[str, str]) -> dict[str, Any]:
        """The network as it is now, as a checkpoint without an optimizer; ``pruned`` says how it came about."""
        stored: dict[str, Any] = {
            "state_dict": self.module.state_dict(),
            "hyper_parameters": dict(self.module.hparams),
            "pytorch-lightning_version": lightning.__version__,
            "epoch": 0,
            "global_step": 0,
        }
        self.module.on_save_checkpoint(stored)
        stored[KEY] |= {"data": self.data.describe(), "pruned": pruned}
        return stored

    def _train(self, batches: int, what: str) -> Iterator[dict[str, Any]]:
        loader = self.data.train_dataloader()
        # A bar in a file is noise.
        yield from tqdm(islice(loader, batches), what, min(batches, len(loader)), disable=not sys.stderr.isatty())


def load_run(path: Path, root: str | None, batch_size: int) -> LoadedRun:
    """A checkpoint's network and its data.

    Args:
        path: a checkpoint of `fit` or `prune`.
        root: the folder of data sets, as ``--data.root``.
        batch_size: images in a batch.

    Raises:
        ConfigError: the file is no checkpoint, or does not say what it was trained on.
        DataError: the data are not there.
    """
    stored = read(path)
    named = dict(flag.removeprefix("--").split("=", 1) for flag in as_flags(stored))
    lacking = [key for key in ("model.arch", "model.encoder", "data.name", "data.image_size") if key not in named]
    if lacking:
        msg = f"--ckpt_path {path} does not say its {', '.join(lacking)}; give a checkpoint that `fit` has written"
        raise ConfigError(msg)
    size = int(named["data.image_size"])
    module = PolypSegmenter(
        named["model.arch"],
        named["model.encoder"],
        loss=named.get("model.loss", "dice_bce"),
        lr=float(named.get("model.lr", 1e-3)),
        image_size=size,
        init_from=str(path),
        arch_options=json.loads(named.get("model.arch_options", "null")),
    )
    name = named["data.name"]
    data = PolypDataModule(name, root, named.get("data.split"), size, batch_size)
    if name == "phantom":
        # Drawn as large as it was.
        data.phantom_frames = sum(int(stored[KEY]["data"][part]) for part in ("train", "val", "test"))
    data.prepare_data()
    data.setup("fit")
    return LoadedRun(module.eval(), data)
