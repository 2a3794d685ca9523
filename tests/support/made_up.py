"""Studies and runs with known numbers, written as the runner and `fit` write them."""

import math
from pathlib import Path
from typing import Any

import torch

from polyp_lightning.checkpoints.stages import StageRecord
from polyp_lightning.study.results import IMAGES, RUNS, ImageScore, Result, append_result, write_images

IMAGES_EACH = 20
SET = "kvasir-20"


def result(run: str, **changes: Any) -> Result:
    """A plausible row; the dense network where nothing is changed."""
    values: dict[str, Any] = {
        "run": run, "kind": "dense", "arch": "Unet", "encoder": "resnet18", "encoder_weights": "imagenet",
        "data": "kvasir", "split": "880-120", "test_set": SET, "image_size": 192, "criterion": "", "schedule": "",
        "distill": 0, "target": 1.0, "seed": 0, "epochs": 12, "val_dice": 0.9, "dice": 0.85, "iou": 0.75,
        "pranet_dice": 0.83, "hd95": 60.0, "false_positive_rate": math.nan, "gmacs": 4.0, "dense_gmacs": 4.0,
        "params": 14_000_000, "dense_params": 14_000_000, "ms": 80.0, "ms_backend": "torch", "threads": 1,
        "machine": "A processor", "minutes": 6.0, "checkpoint": f"runs/{run}/best.ckpt",
        "command": f"python -m polyp_lightning fit --seed_everything {changes.get('seed', 0)}", "versions": "torch 2",
        "date": "2026-11-24T10:00:00",
    }  # fmt: skip
    return Result(**(values | changes))


def pruned(run: str, criterion: str, seed: int, dice: float, **changes: Any) -> Result:
    """A row at a quarter of the MACs, four times as fast."""
    return result(
        run,
        **{
            "kind": "pruned", "criterion": criterion, "schedule": "during", "target": 0.25, "seed": seed,
            "dice": dice, "gmacs": 1.0, "ms": 20.0, **changes,
        },
    )  # fmt: skip


def study(folder: Path) -> Path:
    """Three seeds of dense, taylor, random and the pruned widths from scratch; taylor beats random on every image."""
    for seed in range(3):
        _add(folder, result(f"dense-{seed}", seed=seed, dice=0.86 + 0.01 * seed))
        _add(folder, pruned(f"taylor-{seed}", "taylor", seed, 0.83 + 0.01 * seed))
        _add(folder, pruned(f"random-{seed}", "random", seed, 0.73 + 0.01 * seed))
        scratch = {"kind": "scratch", "schedule": "", "encoder_weights": ""}
        _add(folder, pruned(f"scratch-{seed}", "taylor", seed, 0.83 + 0.01 * seed, **scratch))
    return folder


def _add(folder: Path, row: Result) -> None:
    append_result(folder / "results.csv", row)
    # Every second image is better and every other one worse than the mean; scratch the other way round.
    sign = -1 if row.kind == "scratch" else 1
    dice = [row.dice + sign * (0.02 + 0.001 * i) * (-1) ** i for i in range(IMAGES_EACH)]
    images = [ImageScore(SET, f"frame{i:02d}", value, value / (2 - value), 10.0) for i, value in enumerate(dice)]
    write_images(folder / RUNS / row.run / IMAGES, images)


def stages() -> list[StageRecord]:
    """A dense stage and one at half of the MACs."""
    dense = StageRecord(0, 0, 4.0, 1.0, 4_000_000, {"encoder": 96}, {"encoder.conv1": 64, "encoder.conv2": 32})
    dense.score_end, dense.score_best = 0.88, 0.89
    cut = StageRecord(1, 2, 2.0, 0.5, 1_000_000, {"encoder": 40}, {"encoder.conv1": 32, "encoder.conv2": 8})
    cut.score_before, cut.score_after, cut.score_end, cut.score_best, cut.removed = 0.88, 0.7, 0.86, 0.87, 56
    return [dense, cut]


def fit_run(folder: Path, epochs: int = 4, dense: float | None = None) -> Path:
    """What `fit` leaves, without the weights, which most of a report does without; ``dense`` is an uncut run's Dice."""
    (folder / "checkpoints").mkdir(parents=True)
    record = {
        "schema": 1, "plan": {}, "versions": {"torch": "2.15.0"},
        "data": {"data": "phantom", "split": "by-number", "train": 5, "val": 1, "test": 1, "image_size": 64},
    }  # fmt: skip
    history = stages()
    if dense is not None:
        history = history[:1]
        history[0].score_end = history[0].score_best = dense
    callbacks = {"TaylorFOPruning": {"history": [row.as_dict() for row in history]}}
    settings = {"arch": "Unet", "encoder": "resnet18", "image_size": 64}
    stored = {"polyp_lightning": record, "hyper_parameters": settings, "callbacks": callbacks}
    torch.save(stored, folder / "checkpoints" / "last.ckpt")
    (folder / "config.yaml").write_text(
        "seed_everything: 7\nmodel: {arch: Unet, encoder: resnet18, encoder_weights: /a/home/file.pth}\n"
        f"pruning: {{criterion: taylor, target: 0.5}}\ntrainer: {{max_epochs: {epochs}}}\n",
        encoding="utf-8",
    )
    return folder
