"""Compares networks by validation Dice: ``POLYP_DATA=… compare.py dense realtime a.ckpt a.ckpt+b.ckpt``.

A few hundred frames hardly tell two trainings of one network apart, and how the frames happen to lie moves their mean
Dice by 0.01. Endoscopes have no upright, so each frame is shown in the eight orientations of the square, and its Dice
is the mean of theirs. Networks come by name, as files, or as files whose weights are averaged (``+``); all are measured
on the validation images of the first one's training.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from packing import average, load_data, validate
from torch import Tensor

from polyp_lightning.checkpoints import named
from polyp_lightning.checkpoints.file import read
from polyp_lightning.checkpoints.record import parse_record
from polyp_lightning.study.statistics import bootstrap_interval


def main() -> None:
    """Prints a line a network: Dice of the frames with a polyp as they are, and in eight orientations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", help="a name, a checkpoint, or checkpoints joined by +")
    networks = parser.parse_args().networks
    # All of them first: a name with a typo is told at once.
    checkpoints = [read_mean(network) for network in networks]
    data = load_data(parse_record(checkpoints[0]).data)
    batches = list(data.val_dataloader())
    polyps = np.concatenate([(batch["mask"] != 0).flatten(1).any(1).numpy() for batch in batches])
    sets = np.array([key for key, _ in data.dataset.val])[polyps]
    first = None
    for network, checkpoint in zip(networks, checkpoints, strict=True):
        dice = turned_dice(checkpoint, batches)[:, polyps]
        first = dice if first is None else first
        print(format_line(network, dice, first, sets), flush=True)


def read_mean(network: str) -> dict[str, Any]:
    """Reads a network of the package, a checkpoint, or several, joined by ``+``, as one of their mean weights."""
    return average([read(find_checkpoint(one)) for one in network.split("+")])


def find_checkpoint(network: str) -> Path:
    """Finds the checkpoint of a name or path."""
    return Path(network) if Path(network).is_file() else named.find_net(network, "compare.py")


def turn(images: Tensor, orientation: int) -> Tensor:
    """Turns images (…, S, S) into one of the eight orientations of the square, 0 as they are."""
    turned = torch.rot90(images, orientation % 4, (-2, -1))
    return turned.flip(-1) if orientation >= 4 else turned


def turned_dice(checkpoint: Mapping[str, Any], batches: Sequence[Any]) -> NDArray[np.float64]:
    """Returns each frame's Dice at 0.5 and network resolution, in each orientation: (8, N)."""
    views = [
        validate(checkpoint, ({key: turn(batch[key], o) for key in ("image", "mask")} for batch in batches))
        for o in range(8)
    ]
    return np.stack([view.dice for view in views])


def format_line(network: str, dice: NDArray[np.float64], first: NDArray[np.float64], sets: NDArray[np.str_]) -> str:
    """Formats a network's Dice (8, N) beside the first one's, with the 95 % bootstrap interval over frames."""
    mean, difference = dice.mean(0), (dice - first).mean(0)
    low, high = bootstrap_interval(difference)
    by_set = ", ".join(f"{name} {mean[sets == name].mean():.3f}" for name in dict.fromkeys(sets))
    return (
        f"{network}: as they are {dice[0].mean():.3f}, in eight orientations {mean.mean():.3f} ({by_set}); "
        f"to the first {difference.mean():+.3f} [{low:+.3f}, {high:+.3f}]"
    )


if __name__ == "__main__":
    main()
