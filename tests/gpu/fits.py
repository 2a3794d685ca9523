"""Fits with cuts on the device, in each precision and with the options that change how a step runs."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.plugins import MixedPrecision
from setting import Setting

from polyp_lightning.callbacks.averaging import PrunableEMA
from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.data.datamodule import PolypDataModule

EPOCHS = 3
TARGET = 0.5


def run(setting: Setting) -> None:
    """One row for each kind of fit: two cuts, each checked in float64, and the share of the MACs that is left."""
    ema, fused = {"callbacks": [PrunableEMA(0.9)]}, {"model": {"optimizer": fused_adamw}}
    compiled = {"model": {"compile_net": setting.compiler}}
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "32": ("32-true", {}),
        "bf16-mixed": ("bf16-mixed", {}),
        "16-mixed": ("16-mixed", {}),
        "16-mixed, fused AdamW": ("16-mixed", fused),
        "bf16-mixed, accumulating 2 batches": ("bf16-mixed", {"accumulate_grad_batches": 2}),
        "bf16-mixed, PrunableEMA": ("bf16-mixed", ema),
        "bf16-mixed, torch.compile": ("bf16-mixed", compiled),
    }
    for name, (precision, options) in kinds.items():
        start = time.perf_counter()
        module, pruning, losses = fit(setting, precision, **options)
        share = pruning.history[-1].share
        here = all(tensor.device.type == setting.device.type for tensor in module.net.state_dict().values())
        ok = pruning.stage == 2 and abs(share / TARGET - 1) < 0.03 and all(map(math.isfinite, losses)) and here
        got = f"{pruning.stage} cuts, {share:.1%}, loss {losses[0]:.2f} → {losses[-1]:.2f}"
        seconds = time.perf_counter() - start
        setting.results.row(f"fit with cuts, {name} ({seconds:.0f} s)", f"2 cuts, {TARGET:.0%}", got, ok)


def fit(
    setting: Setting,
    precision: Any,
    callbacks: list[Any] | None = None,
    model: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[LightningModule, TaylorFOPruning, list[float]]:
    """Trains on phantom frames with cuts at the starts of epochs 1 and 2; leaves the module on the device."""
    seed_everything(0, verbose=False)
    pruning, losses = TaylorFOPruning(TARGET, 1, 2, check="always", recalibration_batches=2), Losses()
    if precision == "16-mixed":
        # Lightning's own on a GPU; given, it is there in a rehearsal on the CPU as well.
        scaler = torch.amp.GradScaler(setting.device.type)
        chosen: dict[str, Any] = {"plugins": MixedPrecision(precision, setting.device.type, scaler)}
    else:
        chosen = {"precision": precision}
    side = fit_side(setting)
    module = setting.module(**({"image_size": side, "lr": 1e-3} | (model or {})))
    trainer = quiet_trainer(
        setting.device.type,
        setting.folder,
        max_epochs=EPOCHS,
        enable_checkpointing=False,
        callbacks=[*(callbacks or []), pruning, losses],
        **chosen,
        **options,
    )
    trainer.fit(module, datamodule=data(setting, side))
    module.to(setting.device)
    return module, pruning, losses.seen


class Losses(Callback):
    """The mean training loss of each epoch."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.seen.append(float(trainer.callback_metrics["train/loss_step"]))


def fused_adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, fused=True)


def fit_side(setting: Setting) -> int:
    return 64 if setting.rehearse else 224


def data(setting: Setting, side: int) -> PolypDataModule:
    """Few drawn frames; the cache of the first fit serves the others."""
    frames, batch, workers = (28, 5, 0) if setting.rehearse else (112, 8, 4)
    cache = str(setting.folder / "cache")
    return PolypDataModule("phantom", None, None, side, batch, workers, seed=0, cache_dir=cache, phantom_frames=frames)


def quiet_trainer(device: str, folder: Path, **options: Any) -> Trainer:
    """A trainer that draws and writes nothing."""
    accelerator = "gpu" if device == "cuda" else "cpu"
    given = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "devices": 1}
    return Trainer(accelerator=accelerator, default_root_dir=folder, **(given | options))
