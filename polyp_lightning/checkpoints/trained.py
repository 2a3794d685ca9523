"""A trained network without its trainer, for what comes after training."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from polyp_lightning.checkpoints.record import Record, read_record, restore_net
from polyp_lightning.networks.build import Triple, normalisation, normalise, per_channel


@dataclass(frozen=True)
class TrainedNet(Record):
    """What a checkpoint says, without its weights, and the network that it describes, without its trainer.

    Attributes:
        net: normalised float images (N, 3, S, S) to logits (N, 1, S, S); on the CPU, float32, in evaluation mode.
        mean: per RGB channel what the network's input is normalised with, for values in [0, 1].
        std: likewise.
    """

    net: nn.Module
    mean: Triple
    std: Triple

    @classmethod
    def from_record(cls, record: Record, named: Collection[str] = ()) -> "TrainedNet":
        """Builds the network that a checkpoint describes; see :func:`load_net`."""
        mean, std = normalisation(record.encoder, record.settings.get("mean"), record.settings.get("std"))
        net = restore_net(record, named).float().eval()
        return cls(**{**vars(record), "weights": None}, net=net, mean=mean, std=std)

    def network_input(self, image: Tensor) -> Tensor:
        """Normalises RGB images (N, 3, H, W) with values in 0 … 255, on the CPU."""
        return normalise(image, per_channel(self.mean), per_channel(self.std))


def load_net(path: Path, flag: str = "--ckpt_path", named: Collection[str] = ()) -> TrainedNet:
    """Loads the network of a checkpoint, pruned or not, without Lightning's trainer or module.

    ``flag`` is what the user gave the path with, for the messages; ``named`` are the classes and functions of the
    user's own that may be imported.

    Raises:
        UnnamedClassError: the network is made by one that is not named.
        ConfigError: the file is no checkpoint of this project, or its parts don't fit together.
        PruningError: its plan belongs to another architecture.
    """
    return TrainedNet.from_record(read_record(path, flag), named)
