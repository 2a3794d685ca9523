"""TaylorFO on the device against float64 on the CPU, in each precision that one trains in."""

import copy
from typing import Any

import torch
from setting import Setting, exact_float32, relative_error
from torch import nn

from polyp_lightning.networks.losses import dice_bce
from polyp_lightning.pruning import ChannelGraph, trace
from polyp_lightning.pruning.criteria import TaylorFO

# How much further from float64 the device may be than the CPU is in the same precision: other kernels, other orders.
MARGIN = 4.0


def run(setting: Setting) -> None:
    """Compares importances, normalised and not; fp16 with the factor of a real gradient scaler."""
    # Large enough for batch norm: over a handful of values it makes any rounding large.
    side, results = 64 if setting.rehearse else 224, setting.results
    net = setting.net()
    graph = trace(net, (2, 3, side, side))
    images, masks = setting.images(4 if setting.rehearse else 8, side)
    cpu = torch.device("cpu")
    kinds = {"fp32": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    for normalise in (True, False):
        truth = gather(net, graph, images.double(), masks, cpu, None, normalise)
        for name, dtype in kinds.items():
            scaler = torch.amp.GradScaler(setting.device.type) if dtype is torch.float16 else None
            with exact_float32():
                found = gather(net, graph, images, masks, setting.device, dtype, normalise, scaler)
                own = gather(net, graph, images, masks, cpu, dtype, normalise, scaler and torch.amp.GradScaler("cpu"))
            error, limit = relative_error(found, truth), MARGIN * relative_error(own, truth)
            what = f"TaylorFO{'' if normalise else ', not normalised'}, {name}: error against float64 on the CPU"
            results.at_most(what, error, limit)
    results.row("a batch whose gradients overflow is left out", "2 images", *_overflow(setting, net, graph, side))


def gather(
    net: nn.Module,
    graph: ChannelGraph,
    images: torch.Tensor,
    masks: torch.Tensor,
    device: torch.device,
    dtype: torch.dtype | None,
    normalise: bool,
    scaler: torch.amp.GradScaler | None = None,
) -> Any:
    """The importance after one training step of a copy."""
    net = copy.deepcopy(net).to(device, images.dtype).train()
    criterion = TaylorFO(normalise=normalise)
    criterion.attach(net, graph)
    with torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None):
        logits = net(images.to(device))
    loss = dice_bce(logits, masks.to(device)) if images.dtype == torch.float32 else _double_loss(logits, masks)
    if scaler is not None:
        loss = scaler.scale(loss)
        criterion.loss_scale = scaler.get_scale()
    loss.backward()
    criterion.detach()
    return criterion.importance(net, graph)


def _double_loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The same formula without the rounding to float32."""
    masks, over = masks.to(logits), (1, 2, 3)
    probability = logits.sigmoid()
    dice = (2 * (probability * masks).sum(over) + 1) / (probability.sum(over) + masks.sum(over) + 1)
    return (1 - dice).mean() + nn.functional.binary_cross_entropy_with_logits(logits, masks)


def _overflow(setting: Setting, net: nn.Module, graph: ChannelGraph, side: int) -> tuple[str, bool]:
    criterion, net = TaylorFO(), copy.deepcopy(net)
    images = setting.images(2, side)[0].to(setting.device)
    criterion.attach(net, graph)
    for factor in (1.0, float("inf")):
        (net(images).mean() * factor).backward()
    criterion.detach()
    return f"{criterion.count} images", criterion.count == 2
