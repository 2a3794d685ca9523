"""A few validation images with the predicted and the true mask, for the dashboard."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

CLASS_LABELS = {0: "mucosa", 1: "polyp"}
"""The names under which the dashboard shows the two values of a mask."""


@dataclass(frozen=True)
class Overlay:
    """One image, uint8 (S, S, 3), RGB, with its predicted and its true mask, uint8 (S, S), 1 on polyps."""

    name: str
    image: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    truth: NDArray[np.uint8]


def predict_overlays(trainer: Trainer, module: LightningModule, batch: dict[str, Any], limit: int) -> list[Overlay]:
    """Runs the network, in whatever mode and precision it is in, on the first ``limit`` images of a batch.

    The batch holds ``image``, uint8 (N, 3, S, S), ``mask``, uint8 (N, 1, S, S) of 0 and 1, and ``name``.
    """
    image, mask = batch["image"][:limit], batch["mask"][:limit]
    with torch.no_grad(), trainer.precision_plugin.forward_context():
        logits = module(image)
    images = _array(image.permute(0, 2, 3, 1))
    predictions, truths = _array(logits[:, 0] > 0), _array(mask[:, 0])
    return [Overlay(*parts) for parts in zip(batch["name"], images, predictions, truths, strict=False)]


def _array(tensor: Tensor) -> NDArray[np.uint8]:
    return tensor.to("cpu", torch.uint8).numpy()


def to_wandb_images(overlays: list[Overlay], stage: int) -> list[Any]:
    """Returns the overlays as ``wandb.Image`` with the masks ``prediction`` and ``truth``."""
    import wandb

    return [
        wandb.Image(
            item.image,
            caption=f"{item.name}, stage {stage}",
            masks={
                "prediction": {"mask_data": item.prediction, "class_labels": CLASS_LABELS},
                "truth": {"mask_data": item.truth, "class_labels": CLASS_LABELS},
            },
        )
        for item in overlays
    ]
