"""Passes over a trainer's data beside its own loop, of which the training notices nothing afterwards.

The order of the frames, the random numbers and every module's mode are as if nobody had looked; only what a pass is
for is changed: :func:`recalibrate` sets batch norm's running statistics.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.optim.swa_utils import update_bn

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.modes import evaluation_mode
from polyp_lightning.metrics import PerImageDice
from polyp_lightning.pruning.criteria import Criterion
from polyp_lightning.pruning.graph import ChannelGraph
from polyp_lightning.training.gradient_scaler import scaler_of


def recalibrate(trainer: Trainer, module: LightningModule, batches: int) -> None:
    """New batch-norm statistics from a few training batches."""
    with _training_batches(trainer, module, batches) as some:
        update_bn((batch["image"] for batch in some), module)


def gather(trainer: Trainer, module: Any, criterion: Criterion, graph: ChannelGraph, batches: int) -> None:
    """Let a criterion run passes of its own over a few training batches, in evaluation mode.

    Raises:
        ConfigError: the module does not say how it prepares images and what its loss is.
    """
    lacking = [name for name in ("net", "network_input", "loss") if not callable(getattr(module, name, None))]
    if lacking:
        msg = (
            f"criterion {criterion.name!r} runs passes of its own and needs {', '.join(lacking)} of "
            f"{type(module).__name__}: take criterion taylor, which watches the training steps, or add them"
        )
        raise ConfigError(msg)
    with _training_batches(trainer, module, batches) as some:
        pairs = ((module.network_input(batch["image"]), batch["mask"]) for batch in some)
        criterion.gather(module.net, graph, pairs, module.loss)


@torch.no_grad()
def validation_dice(trainer: Trainer, module: LightningModule) -> float | None:
    """Per-image Dice over the validation set, outside Lightning's own loop; None where there is none."""
    loader: Any = trainer.val_dataloaders
    if isinstance(loader, list) and len(loader) == 1:
        loader = loader[0]
    if loader is None or isinstance(loader, (list, dict)):
        return None
    metric = PerImageDice().to(module.device)
    with evaluation_mode(module), isolate_rng(), trainer.precision_plugin.forward_context():
        # --trainer.limit_val_batches holds here too; infinite where the loader has no length.
        limit = trainer.num_val_batches[0]
        for batch in islice(_on_device(trainer, module, loader), None if limit == float("inf") else int(limit)):
            metric.update(module(batch["image"]) > 0, batch["mask"])
    return float(metric.compute())


def loss_scale(trainer: Trainer) -> float:
    """What the loss is multiplied with before it is propagated: the factor of a gradient scaler, else 1."""
    scaler = scaler_of(trainer)
    return 1.0 if scaler is None else float(scaler.get_scale())


def noise(image_size: int) -> Tensor:
    """One image for the exactness check; a generator of its own leaves the training's random numbers alone."""
    return torch.randn(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))


@contextmanager
def _training_batches(trainer: Trainer, module: LightningModule, count: int) -> Iterator[Iterator[dict[str, Any]]]:
    loader: Any = trainer.train_dataloader
    with evaluation_mode(module), isolate_rng(), _position_kept(loader), trainer.precision_plugin.forward_context():
        yield islice(_on_device(trainer, module, loader), count)


def _on_device(trainer: Trainer, module: LightningModule, loader: Any) -> Iterator[dict[str, Any]]:
    for batch in loader:
        yield trainer.strategy.batch_to_device(batch, module.device)


@contextmanager
def _position_kept(loader: Any) -> Iterator[None]:
    """The loader's sampler and generator are afterwards where they were, as if nobody had iterated."""
    sampler = getattr(loader, "sampler", None)
    epoch = getattr(sampler, "epoch", None)
    generators = [g for owner in (loader, sampler) if (g := getattr(owner, "generator", None)) is not None]
    states = [generator.get_state() for generator in generators]
    yield
    if epoch is not None:
        sampler.set_epoch(epoch)  # type: ignore[union-attr]
    for generator, state in zip(generators, states, strict=True):
        generator.set_state(state)
