"""A trained network without its trainer, for what comes after training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from polyp_lightning.checkpoints.record import Record, read_record, restore_net
from polyp_lightning.networks.build import ArchOptions, Triple, normalisation, normalise, per_channel


@dataclass(frozen=True)
class TrainedNet:
    """A network without its trainer, as a checkpoint holds it.

    Attributes:
        net: normalised float images (N, 3, S, S) to logits (N, 1, S, S); on the CPU, float32, in evaluation mode.
        arch: its architecture.
        encoder: its encoder.
        arch_options: its widths and depth where they are not smp's defaults.
        mean: per RGB channel what the network's input is normalised with, for values in [0, 1].
        std: likewise.
        image_size: side in pixels of the square images that it was trained on.
        data: what it was trained on, as ``PolypDataModule.describe()`` says; empty where that is not known.
        versions: of what wrote the checkpoint.
        val_dice: the epoch's Dice on the validation images at network resolution; None where it is not stored.
    """

    net: nn.Module
    arch: str
    encoder: str
    arch_options: ArchOptions
    mean: Triple
    std: Triple
    image_size: int
    data: dict[str, Any]
    versions: dict[str, str]
    val_dice: float | None

    @classmethod
    def from_record(cls, record: Record) -> "TrainedNet":
        """Builds the network that a checkpoint describes."""
        return cls(
            restore_net(record).float().eval(),
            record.arch,
            record.encoder,
            record.arch_options,
            *normalisation(record.encoder),
            record.image_size,
            record.data,
            record.versions,
            record.val_dice,
        )

    def network_input(self, image: Tensor) -> Tensor:
        """Normalises RGB images (N, 3, H, W) with values in 0 … 255, on the CPU."""
        return normalise(image, per_channel(self.mean), per_channel(self.std))


def load_net(path: Path, flag: str = "--ckpt_path") -> TrainedNet:
    """Loads the network of a checkpoint, pruned or not, without Lightning's trainer or module.

    ``flag`` is what the user gave the path with, for the messages.

    Raises:
        ConfigError: the file is no checkpoint of this project, or its parts don't fit together.
        PruningError: its plan belongs to another architecture.
    """
    return TrainedNet.from_record(read_record(path, flag))
