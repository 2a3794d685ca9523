"""A run that is killed and resumed ends with the same bits; checkpoints go from the device to the CPU and back."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from fits import data, fit_side, quiet_trainer
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from setting import Setting, exact_float32, relative_error

from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.tracking import StageCheckpoint

EPOCHS = 4
KILLED_AT = 3


def run(setting: Setting) -> None:
    """Kills a process in the epoch after the cuts, goes on from its last checkpoint, and compares."""
    whole, part = setting.folder / "whole", setting.folder / "part"
    name = "killed and resumed with deterministic algorithms: weights that differ from the uninterrupted run's"
    expected = train(setting, whole)
    command = [sys.executable, str(Path(__file__).with_name("run.py")), "--victim", str(part)]
    killed = subprocess.run(command + ["--rehearse"] * setting.rehearse, check=False, capture_output=True, text=True)
    if killed.returncode != -signal.SIGKILL:
        last = killed.stderr.strip().splitlines()[-1:] or [f"exit {killed.returncode}"]
        setting.results.row(name, "0", f"the process to be killed ended by itself: {last[0]}", False)
        return
    resumed = train(setting, part, ckpt=part / "checkpoints" / "last.ckpt")
    pairs = zip(expected.net.state_dict().values(), resumed.net.state_dict().values(), strict=True)
    differ = sum(not torch.equal(a.cpu(), b.cpu()) for a, b in pairs)
    setting.results.row(name, "0", f"{differ} of {len(expected.net.state_dict())}", differ == 0)
    _carry_over(setting, expected, whole / "checkpoints" / "last.ckpt")


def train(
    setting: Setting,
    folder: Path,
    *,
    device: str = "",
    epochs: int = EPOCHS,
    ckpt: Path | None = None,
    die: bool = False,
) -> Any:
    """An FPN, whose dropout draws random numbers and whose upsampling needs deterministic algorithms."""
    seed_everything(0, verbose=False)
    side = fit_side(setting)
    module = setting.module(arch="FPN", image_size=side, lr_scheduler=constant)
    trainer = quiet_trainer(
        device or setting.device.type,
        folder,
        max_epochs=epochs,
        deterministic=True,
        callbacks=[TaylorFOPruning(0.5, 1, 2, check="never"), StageCheckpoint(), *([Death()] if die else [])],
    )
    try:
        trainer.fit(module, datamodule=data(setting, side), ckpt_path=ckpt)
    finally:
        torch.use_deterministic_algorithms(False)
    return module


def constant(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """No schedule, so that a run may be made longer."""
    return torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)


class Death(Callback):
    """Kills the process in the second step of an epoch."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (KILLED_AT, 1):
            os.kill(os.getpid(), signal.SIGKILL)


def _carry_over(setting: Setting, module: Any, checkpoint: Path) -> None:
    images = setting.images(2, fit_side(setting))[0]
    with torch.no_grad(), exact_float32():
        here = module.net.to(setting.device).eval()(images.to(setting.device))
        there = load_net(checkpoint).net(images)
    setting.results.at_most("the device's checkpoint on the CPU: logits", relative_error(there, here), 1e-4)
    longer = EPOCHS + 1
    on_cpu = train(setting, setting.folder / "on_cpu", device="cpu", epochs=longer, ckpt=checkpoint)
    setting.results.row("the device's checkpoint goes on on the CPU", "1 epoch", *_epochs(on_cpu))
    back = train(
        setting, setting.folder / "back", epochs=longer + 1, ckpt=setting.folder / "on_cpu/checkpoints/last.ckpt"
    )
    setting.results.row("the CPU's checkpoint goes on on the device", "1 epoch", *_epochs(back))


def _epochs(module: Any) -> tuple[str, bool]:
    epochs = module.trainer.current_epoch
    finite = all(bool(tensor.isfinite().all()) for tensor in module.net.state_dict().values())
    return f"ended after {epochs} epochs", finite
