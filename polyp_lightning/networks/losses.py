"""Training losses by name, each a function of logits and masks.

Every overlap term here is computed per image and then averaged, with one smoothing pixel in numerator and denominator.
So a small polyp weighs as much as a large one, and an image without a polyp has a loss and a gradient that push its
probabilities down. (smp's own overlap losses sum over the batch and are exactly zero on a batch without a polyp.)
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import Tensor

from polyp_lightning.common.errors import ConfigError, nearest
from polyp_lightning.common.options import option
from polyp_lightning.networks.own import Maps, resize_logits

Loss = Callable[[Any, Tensor], Tensor]
"""Loss of logits (N, 1, H, W), or of several maps by name, and masks."""


def dice_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Dice loss plus binary cross-entropy, equally weighted.

    ``mean_n (1 - (2·Σ p·t + 1) / (Σ p + Σ t + 1)) + BCE``, with p the probabilities and t the mask of image n; the
    soft Dice of Milletari et al., 2016 (doi 10.1109/3DV.2016.79), with plain sums.

    Takes logits (N, 1, H, W) of any float type and targets (N, 1, H, W), 0 or 1, of any type; returns a float32 scalar
    ≥ 0.
    """
    logits, target = logits.float(), target.float()
    return (1 - _overlap(logits, target, 0.5, 0.5)).mean() + F.binary_cross_entropy_with_logits(logits, target)


def tversky(logits: Tensor, target: Tensor) -> Tensor:
    """Tversky loss, with weight 0.7 for missed pixels and 0.3 for false ones.

    ``mean_n (1 - (TP + ½) / (TP + 0.3·FP + 0.7·FN + ½))`` with soft counts; Salehi et al., 2017
    (doi 10.1007/978-3-319-67389-9_44). Arguments and result as for :func:`dice_bce`.
    """
    return (1 - _overlap(logits.float(), target.float(), 0.3, 0.7)).mean()


def focal(logits: Tensor, target: Tensor) -> Tensor:
    """Focal binary cross-entropy, α = 0.25 and γ = 2, averaged over all pixels.

    ``mean (-α_t·(1 - p_t)²·log p_t)``; Lin et al., 2017 (doi 10.1109/ICCV.2017.324), as smp implements it. It has no
    overlap term. Arguments and result as for :func:`dice_bce`.
    """
    value: Tensor = smp.losses.FocalLoss("binary", alpha=0.25, gamma=2.0)(logits.float(), target.float())
    return value


def structure(logits: Tensor, target: Tensor) -> Tensor:
    """PraNet's structure loss: cross-entropy and IoU, both with more weight at the polyp's border.

    The weight is ``w = 1 + 5·|avg_pool31(t) - t|``; the loss ``mean_n (Σ w·bce / Σ w + 1 - (Σ w·p·t + 1) /
    (Σ w·(p + t) - Σ w·p·t + 1))``; Fan et al., 2020 (doi 10.1007/978-3-030-59725-2_26). This follows the paper: in its
    published code an outdated argument makes the cross-entropy term unweighted. Arguments and result as for
    :func:`dice_bce`.
    """
    logits, target = logits.float(), target.float()
    over = (1, 2, 3)
    weight = 1 + 5 * (F.avg_pool2d(target, kernel_size=31, stride=1, padding=15) - target).abs()
    pixels = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    cross_entropy = (weight * pixels).sum(over) / weight.sum(over)
    probability = logits.sigmoid()
    intersection = (weight * probability * target).sum(over)
    union = (weight * (probability + target)).sum(over) - intersection
    return (cross_entropy + 1 - (intersection + 1) / (union + 1)).mean()


LOSSES: dict[str, Loss] = {loss.__name__: loss for loss in (dice_bce, tversky, focal, structure)}
"""Name → loss; help texts, messages and tests read it. A new loss is a function above and an entry here."""


def build_loss(name: str, weights: Sequence[float] | None = None) -> Loss:
    """Returns the loss of that name, which also takes several maps, with their weights; refuses any other.

    >>> import torch
    >>> value = build_loss("dice_bce")(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    >>> round(value.item(), 4)  # 1 - 5/7 + ln 2
    0.9789
    """
    if name not in LOSSES:
        msg = f"loss={name!r} is not one of {', '.join(LOSSES)}. {nearest(name, LOSSES)} (--model.loss)"
        raise ConfigError(msg)
    return partial(add_losses, LOSSES[name], weights)


def add_losses(loss: Loss, weights: Sequence[float] | None, output: Tensor | Maps, target: Tensor) -> Tensor:
    """Adds the losses of all maps that a network returns (deep supervision); of one map it is that map's loss.

    ``Σ_k w_k·loss(map_k, target)``; Lee et al., 2015 (arXiv:1409.5185). A map that is smaller than the target is
    resized to it, bilinearly.

    Args:
        loss: of one map.
        weights: w, in the order of the maps; None for 1 each. A tensor, the prediction alone, has none.
        output: logits (N, 1, H, W), or several maps by name.
        target: (N, 1, H, W), 0 or 1.

    Raises:
        ConfigError: there are not as many weights as maps.
    """
    if not isinstance(output, Mapping):
        return loss(output, target)
    weights = [1.0] * len(output) if weights is None else weights
    if len(weights) != len(output):
        msg = (
            f"{len(weights)} weights for the {len(output)} maps {', '.join(output)} of the network; give one for each "
            f"({option('model.map_weights')})"
        )
        raise ConfigError(msg)
    size = target.shape[-2:]
    each = [w * loss(resize_logits(one, size), target) for w, one in zip(weights, output.values(), strict=True)]
    return torch.stack(each).sum()


def _overlap(logits: Tensor, target: Tensor, false_positive: float, false_negative: float) -> Tensor:
    """Returns each image's Tversky index (N,), smoothed by ½ pixel; with both weights ½ it is Dice, smoothed by one."""
    over = (1, 2, 3)
    probability = logits.sigmoid()
    hit = (probability * target).sum(over)
    wrong = false_positive * (probability.sum(over) - hit) + false_negative * (target.sum(over) - hit)
    return (hit + 0.5) / (hit + wrong + 0.5)
