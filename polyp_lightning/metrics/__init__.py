"""How good a segmentation is: the definitions as pure functions, and as metrics that accumulate over images."""

from polyp_lightning.metrics.functional import binarise, hd95, per_image_dice, per_image_iou, pranet_dice
from polyp_lightning.metrics.metrics import (
    HD95,
    FalsePositiveFrameRate,
    HD95LeftOut,
    PerImageDice,
    PerImageIoU,
    PraNetDice,
    evaluation_metrics,
)

__all__ = [
    "HD95",
    "FalsePositiveFrameRate",
    "HD95LeftOut",
    "PerImageDice",
    "PerImageIoU",
    "PraNetDice",
    "binarise",
    "evaluation_metrics",
    "hd95",
    "per_image_dice",
    "per_image_iou",
    "pranet_dice",
]
