"""A fit of the small network in this process, with callbacks, optimizers and schedulers of the test's choice."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from small_run import SmallNet, replace_nets

from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.training.module import PolypSegmenter


def constant(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """No schedule."""
    return torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


def fitted(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    callbacks: list[Any],
    *,
    cls: type[PolypSegmenter] = PolypSegmenter,
    pruning: TaylorFOPruning | None = None,
    model: dict[str, Any] | None = None,
    ckpt_path: Path | None = None,
    net: type[torch.nn.Module] = SmallNet,
    **options: Any,
) -> tuple[PolypSegmenter, Trainer]:
    """4 epochs of 5 steps with cuts at the starts of epochs 1 and 2, unless told otherwise."""
    replace_nets(lambda *_: net(), monkeypatch)
    seed_everything(0, verbose=False)
    module = cls(**{"image_size": 64, "lr": 1e-2, "lr_scheduler": constant, **(model or {})})  # type: ignore[arg-type]
    data = PolypDataModule(phantom_frames=28, image_size=64, batch_size=4, num_workers=0, cache_dir=str(folder / "c"))
    trainer = Trainer(
        default_root_dir=folder,
        callbacks=[*callbacks, pruning or TaylorFOPruning(0.5, 1, 2, recalibration_batches=0)],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 4, "enable_checkpointing": False, **options},
    )
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return module, trainer
