"""Dice over a trainer's validation images, outside Lightning's own loop."""

from itertools import islice
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.seed import isolate_rng

from polyp_lightning.common.modes import evaluation_mode
from polyp_lightning.metrics import PerImageDice


@torch.no_grad()
def validation_dice(trainer: Trainer, module: LightningModule) -> float | None:
    """Per-image Dice over the validation set; None where there is none. Leaves modes and random numbers as they are."""
    loader: Any = trainer.val_dataloaders
    if isinstance(loader, list) and len(loader) == 1:
        loader = loader[0]
    if loader is None or isinstance(loader, (list, dict)):
        return None
    metric = PerImageDice().to(module.device)
    with evaluation_mode(module), isolate_rng(), trainer.precision_plugin.forward_context():
        # --trainer.limit_val_batches holds here too; infinite where the loader has no length.
        limit = trainer.num_val_batches[0]
        for batch in islice(loader, None if limit == float("inf") else int(limit)):
            here = trainer.strategy.batch_to_device(batch, module.device)
            metric.update(module(here["image"]) > 0, here["mask"])
    return float(metric.compute())
