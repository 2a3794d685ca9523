"""A real `fit` of a small network on phantoms, for processes that are killed: the command line's own parts."""

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from polyp_lightning.checkpoints import record
from polyp_lightning.cli import main
from polyp_lightning.training import module as segmenter

OPTIONS = [
    *("--data.phantom_frames", "28", "--data.image_size", "64", "--data.batch_size", "4", "--data.num_workers", "0"),
    *("--trainer.max_epochs", "6", "--trainer.accelerator", "cpu", "--trainer.logger", "false"),
    *("--trainer.enable_progress_bar", "false", "--pruning.target", "0.5", "--pruning.start", "2"),
    *("--pruning.end", "3", "--pruning.recalibration_batches", "2"),
]

TEACHER = "timm-tf_efficientnet_lite0"
"""The encoder of a network that is to be built as it was asked for."""


class SmallNet(nn.Module):
    """Skip, concatenation, batch norm and dropout (which draws random numbers) in few parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Dropout(0.2))
        self.wide = nn.Sequential(nn.Conv2d(24, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.head = nn.Conv2d(12, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, 1, H, W)."""
        skip = self.encoder(x)
        deep = nn.functional.interpolate(self.deep(skip), scale_factor=2.0)
        return nn.functional.interpolate(self.head(self.wide(torch.cat([skip, deep], 1))), scale_factor=2.0)


def unmixed(net: nn.Module) -> nn.Module:
    """Without layers in which images mix or chance enters: the same whatever batch an image is in."""
    for name, layer in net.named_children():
        if isinstance(layer, (nn.BatchNorm2d, nn.Dropout)):
            setattr(net, name, nn.Identity())
        unmixed(layer)
    return net


def replace_nets(make: Callable[..., nn.Module], patch: pytest.MonkeyPatch) -> None:
    """Has the segmenter, and what loads a checkpoint, build another network whatever they are asked for."""
    for module in (segmenter, record):
        patch.setattr(module, "build_net", make)


def use_small_net() -> None:
    """The segmenter builds a :class:`SmallNet`, but for a teacher; UNMIXED takes its batch norm away."""
    build_net = record.build_net

    def make(arch: str, encoder: str, *more: Any) -> nn.Module:
        if encoder == TEACHER:
            return build_net(arch, encoder, *more)
        return unmixed(SmallNet()) if os.environ.get("UNMIXED") else SmallNet()

    replace_nets(make, pytest.MonkeyPatch())


def announce(folder: Path) -> None:
    """Sends this process the signal DIE_BY (SIGKILL) at the moment DIE_AT."""
    from lightning.pytorch import Callback

    from polyp_lightning.callbacks import pruning as callback
    from polyp_lightning.callbacks.pruning import TaylorFOPruning
    from polyp_lightning.checkpoints import file as checkpoint_file

    # torchrun's second try lives.
    die_at = os.environ.get("DIE_AT", "") if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0" else ""

    def moment(name: str) -> None:
        # RANK_DIES: only that process of a distributed training, or "all".
        if name == die_at and os.environ.get("RANK_DIES", "0") in (rank(), "all"):
            os.kill(os.getpid(), int(os.environ.get("DIE_BY", "9")))

    def wrapped(owner: type | object, name: str, label: str) -> None:
        original = getattr(owner, name)
        count = 0

        def around(*args: object, **kwargs: object) -> object:
            nonlocal count
            result = original(*args, **kwargs)
            moment(f"{label}:{count}")
            count += 1
            return result

        setattr(owner, name, around)

    wrapped(segmenter.PolypSegmenter, "training_step", "step")
    wrapped(segmenter.PolypSegmenter, "validation_step", "validation")
    wrapped(callback, "remove", "cut")
    wrapped(checkpoint_file.os, "fsync", "write")
    wrapped(TaylorFOPruning, "on_train_epoch_start", "epoch start")
    wrapped(Callback, "on_train_epoch_end", "epoch end")


def rank() -> str:
    """Of all machines, as torchrun or SLURM number it; Lightning numbers the processes of one machine."""
    return os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or os.environ.get("LOCAL_RANK", "0")


def keep_validated(folder: Path) -> None:
    """Writes the names of the frames that each process validates into a file, a line for each batch."""
    step = segmenter.PolypSegmenter.validation_step

    def around(self: segmenter.PolypSegmenter, batch: dict[str, Any], batch_idx: int) -> None:
        with (folder / f"validated{rank()}.txt").open("a") as file:
            file.write(" ".join(batch["name"]) + "\n")
        step(self, batch, batch_idx)

    segmenter.PolypSegmenter.validation_step = around  # type: ignore[method-assign]


def overflow() -> None:
    """In step OVERFLOW of rank 1 a gradient is beyond half precision, before the processes' gradients are averaged."""
    step = segmenter.PolypSegmenter.training_step

    def around(self: segmenter.PolypSegmenter, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        loss = step(self, batch, batch_idx)
        if rank() == "1" and self.global_step == int(os.environ["OVERFLOW"]):
            parameter = next(self.net.parameters())
            handle = parameter.register_hook(lambda g: (handle.remove(), torch.full_like(g, torch.inf))[1])
        return loss

    if "OVERFLOW" in os.environ:
        segmenter.PolypSegmenter.training_step = around  # type: ignore[method-assign]


def keep_scores(folder: Path) -> None:
    """Writes the importance of the components that each cut chooses from, as each process has it, into a file."""
    from polyp_lightning.callbacks.pruning import TaylorFOPruning

    choose = TaylorFOPruning._choose

    def around(self: TaylorFOPruning, *args: Any) -> Any:
        removed = choose(self, *args)
        cut, criterion = str(self.stage or ""), cast("Any", self._criterion)
        path = folder / f"scores{rank()}{cut}.json"
        if not path.exists():
            path.write_text(json.dumps(criterion.importance(None, self._graph).tolist()))
            path.with_name(f"images{rank()}{cut}.json").write_text(json.dumps(criterion.count))
        return removed

    TaylorFOPruning._choose = around  # type: ignore[method-assign]


def keep_lessons(folder: Path) -> None:
    """Writes a line for each step of a taught network: its loss, whether it was taught, and both networks' digests."""
    from polyp_lightning.callbacks.distributed import digest
    from polyp_lightning.training.distillation import Teacher

    step, mixed, taught = segmenter.PolypSegmenter.training_step, Teacher.mix, []

    def asked(self: Teacher, *args: torch.Tensor) -> torch.Tensor:
        taught.append(True)
        return mixed(self, *args)

    def around(self: segmenter.PolypSegmenter, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        loss = step(self, batch, batch_idx)
        if self.teacher is not None:
            digests = [digest(net.state_dict()) for net in (self.net, self.teacher.net)]
            learns = any(parameter.requires_grad for parameter in self.teacher.net.parameters())
            with (folder / f"lessons{rank()}.jsonl").open("a") as file:
                file.write(json.dumps([loss.item(), bool(taught), *digests, learns]) + "\n")
        taught.clear()
        return loss

    Teacher.mix = asked  # type: ignore[method-assign]
    segmenter.PolypSegmenter.training_step = around  # type: ignore[method-assign]


def signal_service() -> None:
    """SERVICE_GETS=signal:epoch sends W&B's service a signal at the start of an epoch, after SERVICE_LIVES seconds."""
    from polyp_lightning.callbacks.pruning import TaylorFOPruning
    from polyp_lightning.tracking import logger

    number, _, epoch = os.environ.get("SERVICE_GETS", "0:-1").partition(":")
    start = TaylorFOPruning.on_train_epoch_start
    logger.FINISH_TIMEOUT = float(os.environ.get("SERVICE_FINISHES", "5"))

    def around(self: TaylorFOPruning, trainer: Any, *rest: Any) -> None:
        if trainer.current_epoch == int(epoch):
            time.sleep(float(os.environ["SERVICE_LIVES"]))
            for service in services():
                os.kill(service, int(number))
        start(self, trainer, *rest)

    TaylorFOPruning.on_train_epoch_start = around  # type: ignore[method-assign]


def services() -> list[int]:
    """Processes of W&B's that this one has started (Linux)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = stat.read_text().partition(")")
            found += [int(stat.parent.name)] if "wandb" in name and int(rest.split()[1]) == os.getpid() else []
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    use_small_net()
    announce(Path.cwd())
    keep_scores(Path.cwd())
    keep_validated(Path.cwd())
    overflow()
    keep_lessons(Path.cwd())
    signal_service()
    sys.exit(main(sys.argv[1:]))
