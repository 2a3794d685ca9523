"""Checks of a module's options, of the checkpoint that it starts from, and of its loss."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from polyp_lightning.checkpoints.record import Record
from polyp_lightning.common.errors import ConfigError, TrainingError, join_names
from polyp_lightning.networks.build import ArchOptions
from polyp_lightning.networks.names import check_named, is_own, name_net

_ANY_SIZE = "polyp_lightning.load(CHECKPOINT).predict(image) takes an image (H, W, 3) of any size"


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


@contextmanager
def explain_shapes(arch: str, image: Tensor) -> Iterator[None]:
    """Says in a sentence why a network can't take images (N, 3, H, W): their shape, size or number.

    Raises:
        ConfigError: in place of PyTorch's own errors.
    """
    if image.ndim != 4 or image.shape[1] != 3:
        msg = f"images are RGB (N, 3, H, W) with values in 0 … 255; got {tuple(image.shape)}. {_ANY_SIZE}"
        raise ConfigError(msg)
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if "more than 1 value per channel" in str(error):
            msg = (
                f"{arch} normalises single pixels over the images of a batch, of which there is {len(image)}; raise "
                "--data.batch_size to 2 or more"
            )
        elif "utput size is too small" in str(error) or "Kernel size can't be greater" in str(error):
            msg = f"images of {image.shape[-1]}² pixels are too small for {arch}: raise --data.image_size"
        elif str(error).startswith("Wrong input shape"):
            # smp's own words for a size that its encoder can't halve so often.
            msg = f"{str(error).partition('. Consider')[0]}. {_ANY_SIZE}"
        else:
            raise
        raise ConfigError(msg) from error


def check_same_net(record: Record, arch: str, encoder: str, options: ArchOptions | None) -> None:
    """Refuses a checkpoint whose network is not of the module's architecture."""
    check_named(record.arch, [arch])
    found, wanted = (record.arch, record.encoder, record.arch_options), (arch, encoder, dict(options or {}))
    if (found[0].lower(), *found[1:]) != (wanted[0].lower(), *wanted[1:]):
        msg = (
            f"the checkpoint holds {_name_net(*found)}, but {_name_net(*wanted)} was asked for; set --model.arch, "
            "--model.encoder and --model.arch_options to the checkpoint's, or use load_from_checkpoint"
        )
        raise ConfigError(msg)


def check_weights(arch: str, weights: list[float] | None) -> list[float] | None:
    """Refuses weights of maps that are negative or all 0, or of a network that returns one map."""
    if weights is None or (is_own(arch) and min(weights, default=0) >= 0 and sum(weights) > 0):
        return weights
    msg = (
        f"map_weights={weights} with arch={arch}: they are for the maps of a network of your own, at least 0 and not "
        "all of them 0 (--model.map_weights)"
    )
    raise ConfigError(msg)


class LossCheck:
    """Finds out whether a batch's loss is finite, without waiting for an accelerator in the middle of a step.

    The answer travels while the backward pass is launched: waiting for it before would leave the device without work.

    Args:
        loss: a scalar.
        batch: what it was computed from.
    """

    def __init__(self, loss: Tensor, batch: Mapping[str, Any]) -> None:
        self._loss, self._batch = loss.detach(), batch
        # To pinned memory, with an event to wait for.
        self._finite = self._loss.isfinite().to("cpu", non_blocking=loss.is_cuda)
        self._arrived = torch.cuda.Event() if loss.is_cuda else None
        if self._arrived is not None:
            self._arrived.record()

    def finish(self) -> None:
        """Waits for the answer; to be called before anything is learnt from the batch.

        Raises:
            TrainingError: the loss is not finite; names the images.
        """
        if self._arrived is not None:
            self._arrived.synchronize()
        if self._finite:
            return
        batch = self._batch
        pixels = batch["image"].isfinite().all()
        what = "check them and their masks" if pixels else "the images hold numbers that are not finite"
        files = [str(path) for path in batch.get("path", []) if path] or [str(name) for name in batch.get("name", [])]
        msg = (
            f"the training loss is {self._loss.item()} for the batch of {join_names(files, 16) or 'unnamed images'}: "
            f"{what}, or lower --model.lr. Nothing was learnt from this batch, and the last checkpoint is from before; "
            "go on from it with --ckpt_path last"
        )
        raise TrainingError(msg)


def _name_net(arch: str, encoder: str, options: ArchOptions) -> str:
    return f"{name_net(arch, encoder)}{f' and {options}' if options else ''}"
