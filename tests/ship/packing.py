"""Makes the package's networks of trained runs: ``packing.py RUNS/realtime RUNS/dense``, each named after its folder.

Of each run the checkpoint with the best validation Dice of the last stage counts, or with ``--last`` the last one, for
runs with too few validation images to choose by. Its weights are averaged with those of the runs that it went on from,
or of the packed network, as far back as widths and image size are the same: each has ended with a rate near zero
(Izmailov et al., 2018, arXiv:1803.05407). The mean is stripped of what only training needs and of weights that no
forward pass reads, and its weights are halved where they are matrices or kernels; biases and batch norm stay float32.
The alarm threshold is chosen on the validation images. Nothing here looks at a test image: ``check.py`` does, and
writes the card.
"""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from polyp_lightning.checkpoints import named
from polyp_lightning.checkpoints.file import read, write
from polyp_lightning.checkpoints.record import ALARM, KEY, parse_record
from polyp_lightning.checkpoints.run_folder import best_checkpoint, best_checkpoints, read_config
from polyp_lightning.checkpoints.trained import TrainedNet
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.files import sha256
from polyp_lightning.common.frame_rule import ALARM_THRESHOLD
from polyp_lightning.common.tables import read_rows, write_rows
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.metrics import choose_threshold, frame_scores, per_image_dice
from polyp_lightning.networks.complexity import measure
from polyp_lightning.pruning import trace

SENSITIVITY = 0.9
"""The least share of validation frames with a polyp that give an alarm."""

LARGEST_CHANGE = 0.0005
"""Of the validation Dice over frames with a polyp, by halving the weights."""

TABLE = "nets.csv"
_KEPT = ("schema", "plan", "data", "versions")


@dataclass(frozen=True)
class Packed:
    """A network of the package: a row of ``nets.csv``."""

    net: str
    sha256: str
    bytes: int
    date: str
    seed: int
    epochs: int
    averaged: int
    checkpoint: str
    image_size: int
    gmacs: float
    params: int
    val_images: int
    val_dice: float
    val_dice_halved: float
    alarm_threshold: float
    val_polyp_frames: int
    val_found: int
    val_clean_frames: int
    val_false_alarms: int


@dataclass(frozen=True)
class Validation:
    """Each validation image's Dice at network resolution, its score, and whether it shows a polyp."""

    dice: NDArray[np.float64]
    scores: NDArray[np.float64]
    polyps: NDArray[np.bool_]


def main() -> None:
    """Packs, and says what was packed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="the folders of finished runs")
    parser.add_argument("--out", type=Path, default=named.FOLDER)
    parser.add_argument("--last", action="store_true", help="the last checkpoint, not the best")
    options = parser.parse_args()
    for run in options.runs:
        row = pack(run, options.out, options.last)
        print(
            f"{row.net}: {row.bytes / 1e6:.2f} MB, {row.gmacs:.3f} GMACs; val Dice {row.val_dice:.4f}, halved "
            f"{row.val_dice_halved:.4f}; alarm above {row.alarm_threshold:.5f}: {row.val_found} of "
            f"{row.val_polyp_frames} frames found, {row.val_false_alarms} of {row.val_clean_frames} false"
        )


def load_data(data: Mapping[str, Any]) -> PolypDataModule:
    """Finds the data that a network was trained on."""
    root = os.environ.get("POLYP_DATA")
    return PolypDataModule(str(data["data"]), root, str(data["split"]), int(data["image_size"]), 8, 0)


def load_validation(data: Mapping[str, Any]) -> Any:
    """Makes the loader of the validation images of the data that a network was trained on."""
    return load_data(data).val_dataloader()


def pack(run: Path, out: Path, last: bool = False) -> Packed:
    """Writes a run's network, its best or its last, as ``OUT/NAME.ckpt`` and its row of the table.

    Raises:
        ConfigError: the run has no checkpoint, or its Dice is not the same with halved weights.
    """
    chosen = run / "checkpoints" / "last.ckpt" if last else best_checkpoint(run)
    alike = list(read_alike(run, chosen))
    whole = average(alike)
    stored = strip(whole, ALARM_THRESHOLD)
    full, halved = (validate(one, load_validation(parse_record(one).data)) for one in (whole, stored))
    # One stray pixel in one of the few frames without a polyp would count as 1 / 288.
    change = abs(float((full.dice - halved.dice)[full.polyps].mean()))
    if change > LARGEST_CHANGE:
        msg = f"{chosen}: halved weights change the validation Dice by {change:.4f}, more than {LARGEST_CHANGE}"
        raise ConfigError(msg)
    # Of the weights that ship.
    threshold = choose_threshold(halved.scores, halved.polyps, SENSITIVITY)
    target = out / f"{run.name}.ckpt"
    write(strip(whole, threshold), target)
    alarms, polyps = halved.scores > threshold, halved.polyps
    net, config = TrainedNet.from_record(parse_record(stored)), read_config(run)
    cost = measure(net.net, net.image_size)
    row = Packed(
        run.name, sha256(target), target.stat().st_size, f"{datetime.now(UTC):%Y-%m-%d}",
        int(config.get("seed_everything", 0)), count_epochs(run), len(alike), chosen.name,
        net.image_size, round(cost.gmacs, 4), cost.params_used, len(polyps), round(float(full.dice.mean()), 5),
        round(float(halved.dice.mean()), 5), threshold, int(polyps.sum()), int((alarms & polyps).sum()),
        int((~polyps).sum()), int((alarms & ~polyps).sum()),
    )  # fmt: skip
    rows = {one.net: one for one in read_rows(out / TABLE, Packed)} if (out / TABLE).is_file() else {}
    write_rows(out / TABLE, Packed, [one for _, one in sorted((rows | {row.net: row}).items())])
    return row


def trace_back(run: Path) -> Iterator[Path]:
    """Yields the folder of a run and those of the runs that it started from; in the end perhaps a packed network."""
    here: Path | None = run
    while here:
        yield here
        start = read_config(here).get("model", {}).get("init_from") if here.is_dir() else None
        here = _origin_of(Path(start)) if start else None


def _origin_of(checkpoint: Path) -> Path:
    """Returns the folder of the run that wrote a checkpoint, or the checkpoint itself if it is a packed network."""
    return checkpoint if (checkpoint.parent / TABLE).is_file() else checkpoint.parent.parent


def find_weights(origin: Path) -> Path | None:
    """Finds what counts of a run's folder, or of a packed network; nothing where the run has left no checkpoint."""
    if origin.is_file():
        return origin
    return best_checkpoint(origin) if best_checkpoints(origin / "checkpoints") else None


def read_alike(run: Path, chosen: Path) -> Iterator[dict[str, Any]]:
    """Reads a run's checkpoint and those that it went on from, while widths and image size are the same."""
    first = read(chosen)
    yield first
    earlier = takewhile(lambda path: path is not None, map(find_weights, islice(trace_back(run), 1, None)))
    yield from takewhile(lambda other: describe(other) == describe(first), (read(path) for path in earlier if path))


def describe(checkpoint: Mapping[str, Any]) -> tuple[Any, ...]:
    """Describes what networks must have in common for the mean of their weights to be one: shapes and image size."""
    shapes = {name: tuple(value.shape) for name, value in checkpoint["state_dict"].items()}
    return shapes, parse_record(checkpoint).data["image_size"]


def average(checkpoints: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the first checkpoint with the mean of all weights and of batch norm's statistics; its counts stay."""
    states = [one["state_dict"] for one in checkpoints]
    mean = {
        name: torch.stack([one[name].float() for one in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    return {**checkpoints[0], "state_dict": mean}


def count_epochs(run: Path) -> int:
    """Counts the epochs of a run, and of those that it started from."""
    return sum(_own_epochs(one) for one in trace_back(run))


def _own_epochs(origin: Path) -> int:
    if origin.is_dir():
        return int(read_config(origin).get("trainer", {}).get("max_epochs", 0))
    return next(row.epochs for row in read_rows(origin.parent / TABLE, Packed) if row.net == origin.stem)


def strip(checkpoint: Mapping[str, Any], threshold: float) -> dict[str, Any]:
    """Returns a checkpoint without what only training needs, its matrices and kernels in half precision."""
    own, whole = checkpoint[KEY], TrainedNet.from_record(parse_record(checkpoint))
    unread = {f"net.{name}" for name in trace(whole.net, (2, 3, whole.image_size, whole.image_size)).dead}
    return {
        "state_dict": {name: _store(value, name not in unread) for name, value in checkpoint["state_dict"].items()},
        "hyper_parameters": {**checkpoint["hyper_parameters"], "encoder_weights": None},
        "pytorch-lightning_version": checkpoint["pytorch-lightning_version"],
        "epoch": 0,
        "global_step": 0,
        KEY: {key: own[key] for key in _KEPT} | {"optimizers": [], ALARM: threshold, "card": TERMS},
    }


TERMS = (
    "For research and education. Not a medical device. Trained on Kvasir-SEG, CVC-ClinicDB, PolypGen and CP-CHILD, "
    "whose terms hold for these weights; the card beside this file in the package says more."
)


def _store(value: Tensor, is_read: bool) -> Tensor:
    if not value.is_floating_point() or value.ndim < 2:
        return value.clone()
    # An expanded zero is a single value in the file too.
    return value.half() if is_read else torch.zeros(1, dtype=torch.float16).expand(value.shape)


@torch.no_grad()
def validate(checkpoint: Mapping[str, Any], batches: Any) -> Validation:
    """Runs a network over batches of images with masks."""
    net = TrainedNet.from_record(parse_record(checkpoint))
    dice, scores, polyps = [], [], []
    for batch in batches:
        probability, mask = net.net(net.network_input(batch["image"])).sigmoid()[:, 0], batch["mask"][:, 0] != 0
        dice.append(per_image_dice(probability > 0.5, mask))
        scores.append(frame_scores(probability))
        polyps.append(mask.flatten(1).any(1))
    found = (torch.cat(one).numpy() for one in (dice, scores, polyps))
    return Validation(*(one if one.dtype == bool else one.astype(np.float64) for one in found))


if __name__ == "__main__":
    main()
