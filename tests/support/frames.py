"""A data module of drawn frames, and a trainer that leaves nothing behind."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

SIZE = 64


def sample(index: int) -> dict[str, Any]:
    """A frame whose polyp is a bright square; every fourth has none. Original sizes differ."""
    generator = torch.Generator().manual_seed(index)
    height, width = 70 + 5 * index, 90 - 3 * index
    original = torch.zeros(height, width, dtype=torch.uint8)
    if index % 4 != 3:
        original[10 + index : 40 + index, 20:60] = 1
    mask = nn.functional.interpolate(original[None, None], (SIZE, SIZE), mode="nearest")[0]
    noise = torch.randint(0, 100, (3, SIZE, SIZE), generator=generator)
    return {
        "image": (noise + 120 * mask).to(torch.uint8),
        "mask": mask,
        "original_mask": original,
        "name": f"frame{index}",
        "path": f"images/frame{index}.png",
        "size": (height, width),
    }


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        key: torch.stack([s[key] for s in samples]) if key in ("image", "mask") else [s[key] for s in samples]
        for key in samples[0]
    }


class Frames(LightningDataModule):
    def __init__(self, count: int = 8, test_sets: int = 1) -> None:
        super().__init__()
        self.count, self.test_sets = count, test_sets
        self.test_names = ["first", "second"][:test_sets]

    def loader(self, start: int, stop: int, batch: int = 4) -> DataLoader[dict[str, Any]]:
        return DataLoader([sample(i) for i in range(start, stop)], batch_size=batch, collate_fn=collate)  # type: ignore[arg-type]

    def train_dataloader(self) -> Any:
        return self.loader(0, self.count)

    def val_dataloader(self) -> Any:
        return self.loader(0, self.count, 3)

    def test_dataloader(self) -> Any:
        sets = [self.loader(0, self.count, 3), self.loader(4, self.count, 3)]
        return sets if self.test_sets == 2 else sets[0]

    def predict_dataloader(self) -> Any:
        return self.loader(0, self.count, 3)

    def describe(self) -> dict[str, str | int]:
        return {"name": "frames", "train": self.count}


def trainer(folder: Path, epochs: int = 1, **options: Any) -> Trainer:
    settings = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "accelerator": "cpu",
        "log_every_n_steps": 1,
    }
    return Trainer(max_epochs=epochs, default_root_dir=folder, **{**settings, **options})
