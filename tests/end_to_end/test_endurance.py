"""Two hundred short epochs with forty cuts: nothing grows."""

import gc
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from small_run import SmallNet, replace_nets

from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.pruning.budget import Limits
from polyp_lightning.tracking import StageCheckpoint
from polyp_lightning.training.module import PolypSegmenter

EPOCHS, FIRST, EVERY = 200, 2, 5


class Wide(SmallNet):
    """Forty cuts need something to cut."""

    def __init__(self) -> None:
        super().__init__()
        for name, inside, outside, stride in (("encoder", 3, 32, 2), ("deep", 32, 64, 2), ("wide", 96, 48, 1)):
            layers = [torch.nn.Conv2d(inside, outside, 3, stride, 1), torch.nn.BatchNorm2d(outside), torch.nn.ReLU()]
            setattr(self, name, torch.nn.Sequential(*layers))
        self.head = torch.nn.Conv2d(48, 1, 1)


def resident() -> int:
    """Bytes of this process in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def hooks(module: torch.nn.Module) -> int:
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(m, name)) for m in module.modules() for name in names)


class Gauge(Callback):
    def __init__(self) -> None:
        self.rows: list[dict[str, int]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gc.collect()
        handles = len(list(Path("/proc/self/fd").iterdir()))
        parameters = sum(isinstance(o, torch.nn.Parameter) for o in gc.get_objects())
        row = {"memory": resident(), "handles": handles, "hooks": hooks(pl_module), "parameters": parameters}
        self.rows.append(row)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_fit__two_hundred_epochs_with_forty_cuts_grow_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_nets(lambda *_: Wide(), monkeypatch)
    torch.set_num_threads(1)
    last = FIRST + EVERY * 39
    pruning: Any = TaylorFOPruning(
        0.3, FIRST, last, EVERY, "linear", limits=Limits(), recalibration_batches=1, check="first"
    )
    gauge = Gauge()
    trainer = Trainer(
        max_epochs=EPOCHS,
        default_root_dir=tmp_path,
        callbacks=[pruning, StageCheckpoint(), gauge],
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = PolypDataModule(
        phantom_frames=14, image_size=64, batch_size=5, num_workers=0, cache_dir=str(tmp_path / "cache")
    )
    trainer.fit(PolypSegmenter(image_size=64), datamodule=data)
    assert pruning.stage == 40
    assert pruning.history[-1].share == pytest.approx(0.3, abs=0.02)
    early, late = gauge.rows[FIRST + EVERY], gauge.rows[-1]
    print({key: (early[key], late[key]) for key in early})
    assert late["memory"] <= 1.1 * early["memory"]
    for key in ("handles", "hooks", "parameters"):
        assert late[key] <= early[key], key
    assert len(list((tmp_path / "checkpoints").iterdir())) == 41 + 2, "a best for each stage, last and pick"
