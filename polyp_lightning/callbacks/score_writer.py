"""Writes what a test showed: the metrics, and the values of every image."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from polyp_lightning.callbacks.score_table import build_score_table
from polyp_lightning.checkpoints.test_scores import (
    IMAGES,
    SCORES,
    CheckpointScores,
    ImageScore,
    add_scores,
    write_images,
)
from polyp_lightning.common.files import sha256
from polyp_lightning.common.terminal import show, show_text
from polyp_lightning.training.trainer_facts import data_facts, run_folder, set_names

_COLUMNS = ("dice", "iou", "hd95", "frame_score", "polyp")


class ScoreWriter(Callback):
    """Writes ``test_images.csv`` and adds to ``test_results.json`` in the run's folder when a test ends.

    It takes what ``test_step`` returns: the images' ``name`` and their ``scores``, a dict of floats for each.
    """

    def __init__(self) -> None:
        self._images: list[ImageScore] = []
        self._tested: CheckpointScores | None = None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets an earlier test."""
        self._images = []

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Takes down the images of a batch."""
        test_set = set_names(trainer, trainer.test_dataloaders)[dataloader_idx]
        for name, scores in zip(outputs["name"], outputs["scores"], strict=True):
            self._images.append(ImageScore(test_set, name, **{key: scores[key] for key in _COLUMNS if key in scores}))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes both files."""
        folder = run_folder(trainer)
        write_images(folder / IMAGES, self._images)
        self._tested = self._scores(trainer)
        add_scores(folder, self._tested)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prints the table, below the list of all metrics that Lightning prints."""
        tested, self._tested = self._tested, None
        if tested is not None:
            rows = [((name,), _texts(values)) for name, values in tested.test_sets.items()]
            folder = run_folder(trainer)
            show(build_score_table(rows, ["test set"]))
            show_text(f"Written: {folder / IMAGES}, {folder / SCORES}")

    def _scores(self, trainer: Trainer) -> CheckpointScores:
        path = Path(str(trainer.ckpt_path)) if trainer.ckpt_path else None
        counts: dict[str, int] = defaultdict(int)
        for image in self._images:
            counts[image.test_set] += 1
        prefixes = {name: f"test/{name}/" if len(counts) > 1 else "test/" for name in counts}
        values = {key: float(value) for key, value in trainer.callback_metrics.items()}
        sets = {
            name: {"images": counts[name]}
            | {key.removeprefix(start): value for key, value in values.items() if key.startswith(start)}
            for name, start in prefixes.items()
        }
        digest = sha256(path) if path else ""
        date = datetime.now(UTC).isoformat(timespec="seconds")
        return CheckpointScores(path.name if path else "", digest, data_facts(trainer), sets, date)


def _texts(values: Mapping[str, float]) -> dict[str, str]:
    return {key: f"{value:.3f}" for key, value in values.items() if value == value}
