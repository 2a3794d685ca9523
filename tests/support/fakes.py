"""A tiny network, its data and a callback that pretends to prune."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from polyp_lightning.checkpoints.stages import StageRecord

SIZE = 16


def record(stage: int, **changes: Any) -> StageRecord:
    """A plausible row: every cut takes a quarter of the MACs."""
    share = 1 - 0.25 * stage
    values: dict[str, Any] = {
        "stage": stage,
        "epoch": 2 * stage,
        "gmacs": 4.0 * share,
        "share": share,
        "params": int(6_629_233 * share),
        "widths": {"encoder.conv1": 64, "encoder.layer1": int(256 * share), "decoder.blocks.0": int(128 * share)},
        "layers": {"encoder.conv1": 64, "encoder.layer1.0.conv1": int(64 * share)},
        "score_before": 0.90 if stage else None,
        "score_after": 0.70 - 0.05 * stage if stage else None,
        "score_end": 0.88 - 0.01 * stage,
        "score_best": 0.89 - 0.01 * stage,
    }
    return StageRecord(**(values | changes))


class FakePruning(Callback):
    """Begins a stage at the epochs named, and fills in the Dice values as the real one does."""

    method = "taylor"

    def __init__(self, cuts: tuple[int, ...] = (2, 4)) -> None:
        self.cuts = cuts
        self.history: list[StageRecord] = []

    @property
    def stage(self) -> int:
        return max(len(self.history) - 1, 0)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.history:
            self.history = [record(0, score_end=None, score_best=None)]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch in self.cuts[self.stage :]:
            before = self.history[-1].score_end
            self.history.append(
                record(self.stage + 1, epoch=trainer.current_epoch, score_before=before, score_end=None)
            )
            self.history[-1].score_best = None
        row = self.history[-1]
        values = {"stage": row.stage, "complexity/gmacs": row.gmacs, "complexity/params": row.params}
        pl_module.log_dict({k: float(v) for k, v in values.items()})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            row, dice = self.history[-1], float(trainer.callback_metrics["val/dice"])
            row.score_end, row.score_best = dice, max(dice, row.score_best or 0.0)

    def state_dict(self) -> dict[str, Any]:
        return {"history": [row.as_dict() for row in self.history]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = [StageRecord.from_dict(row) for row in state_dict["history"]]


class FakeSegmenter(LightningModule):
    """One convolution; validation Dice follows a script, so that a test knows which epoch is best."""

    image_size = SIZE

    def __init__(self, dice: tuple[float, ...] = (0.5, 0.9, 0.6, 0.7, 0.4, 0.3)) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Conv2d(3, 1, 3, padding=1)
        self.dice = dice

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image.float() / 255)

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = nn.functional.binary_cross_entropy_with_logits(self(batch["image"]), batch["mask"].float())
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        dice = self.dice[self.current_epoch]
        self.log_dict({"val/loss": 1 - dice, "val/dice": dice, "val/iou": dice / (2 - dice)}, batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def _item(index: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(index)
    image = torch.randint(0, 256, (3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    mask = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
    mask[:, 2 : 6 + index, 3:9] = 1
    return {"image": image, "mask": mask, "name": f"frame{index}"}


class FakeData(LightningDataModule):
    """Eight random frames for training, six for validation."""

    image_size = SIZE

    def describe(self) -> dict[str, str | int]:
        return {"name": "fake", "split": "honest", "protocol": "by sequence", "image_size": SIZE, "cache_key": "abc"}

    def train_dataloader(self) -> Any:
        return DataLoader([_item(i) for i in range(8)], batch_size=4)

    def val_dataloader(self) -> Any:
        return DataLoader([_item(i) for i in range(6)], batch_size=6)


def trainer(folder: Path, callbacks: list[Callback], logger: Any = False, epochs: int = 6) -> Trainer:
    """A trainer for the CPU without output of its own."""
    return Trainer(
        default_root_dir=folder,
        callbacks=callbacks,
        logger=logger,
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        log_every_n_steps=1,
        enable_model_summary=False,
        enable_progress_bar=any("ProgressBar" in type(c).__name__ for c in callbacks),
    )
