"""Checks of a module's options, of the checkpoint that it starts from, and of its loss."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from polyp_lightning.checkpoints.record import Record
from polyp_lightning.common.errors import ConfigError, TrainingError, join_names
from polyp_lightning.networks.build import ArchOptions


def check_options(lr: float, image_size: int, starts: Mapping[str, str | None]) -> None:
    """Refuses a learning rate of 0 or less, an image size that is no multiple of 32, and two ``starts`` at once."""
    if not lr > 0:
        msg = f"lr={lr} must be positive (--model.lr)"
        raise ConfigError(msg)
    if image_size < 32 or image_size % 32:
        msg = (
            f"image_size={image_size} must be a multiple of 32: encoders halve the image five times (--data.image_size)"
        )
        raise ConfigError(msg)
    given = [f"--model.{name}" for name, path in starts.items() if path is not None]
    if len(given) > 1:
        msg = f"both {' and '.join(given)} name what to start from; give one of them"
        raise ConfigError(msg)


def check_same_net(record: Record, arch: str, encoder: str, options: ArchOptions | None) -> None:
    """Refuses a checkpoint whose network is not of the module's architecture."""
    found, wanted = (record.arch, record.encoder, record.arch_options), (arch, encoder, dict(options or {}))
    if (found[0].lower(), *found[1:]) != (wanted[0].lower(), *wanted[1:]):
        msg = (
            f"the checkpoint holds {_name_net(*found)}, but {_name_net(*wanted)} was asked for; set --model.arch, "
            "--model.encoder and --model.arch_options to the checkpoint's, or use load_from_checkpoint"
        )
        raise ConfigError(msg)


def check_finite(loss: Tensor, batch: Mapping[str, Any]) -> None:
    """Checks the loss of a batch before anything is learnt from it.

    Raises:
        TrainingError: it is not finite; names the images.
    """
    if torch.isfinite(loss):
        return
    image = batch["image"]
    what = "the images hold numbers that are not finite" if not image.isfinite().all() else "check them and their masks"
    files = [str(path) for path in batch.get("path", []) if path] or [str(name) for name in batch.get("name", [])]
    msg = (
        f"the training loss is {loss.item()} for the batch of {join_names(files, 16) or 'unnamed images'}: {what}, or "
        "lower --model.lr. Nothing was learnt from this batch, and the last checkpoint is from before; go on from it "
        "with --ckpt_path last"
    )
    raise TrainingError(msg)


def _name_net(arch: str, encoder: str, options: ArchOptions) -> str:
    return f"{arch} with {encoder}{f' and {options}' if options else ''}"
