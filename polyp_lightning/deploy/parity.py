"""Compares an exported model's results with the network's."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.deploy.runners.arrays import Runner
from polyp_lightning.deploy.samples import Sample
from polyp_lightning.deploy.signature import THRESHOLD
from polyp_lightning.metrics.functional import per_image_dice

LARGEST_DIFFERENCE = 1e-4
LEAST_AGREEMENT = 0.9999


@dataclass(frozen=True)
class Parity:
    """How far two models agree: the largest difference of a probability, and the share of pixels with one mask."""

    difference: float
    agreement: float

    def __str__(self) -> str:
        """For the report of an export."""
        return f"largest |Δ| {self.difference:.1e}, same mask on {self.agreement:.4%} of the pixels"


def compare(one: Runner, other: Runner, samples: Sequence[Sample]) -> Parity:
    """Runs both on every frame, one at a time."""
    difference, same = 0.0, []
    for sample in samples:
        a, b = one(sample.frame[None]), other(sample.frame[None])
        # A comparison that NaN passes would be none.
        difference = max(difference, float(np.nan_to_num(np.abs(a - b), nan=np.inf).max()))
        same.append(float(((a > THRESHOLD) == (b > THRESHOLD)).mean()))
    return Parity(difference, float(np.mean(same)))


def require_parity(parity: Parity, what: str) -> None:
    """Checks that a model differs by no more than rounding does.

    Raises:
        ConfigError: the difference exceeds 1e-4, or less than 99.99 % of the pixels agree.
    """
    if parity.difference <= LARGEST_DIFFERENCE and parity.agreement >= LEAST_AGREEMENT:
        return
    msg = (
        f"{what} differs from the network: {parity} (allowed: {LARGEST_DIFFERENCE:.0e} and {LEAST_AGREEMENT:.2%}); "
        "nothing was written. Try another --format, and report the network's name."
    )
    raise ConfigError(msg)


def mean_dice(model: Runner, samples: Sequence[Sample]) -> float:
    """Returns the mean Dice per image at the original resolution."""
    masked = [(sample.frame, sample.mask) for sample in samples if sample.mask is not None]
    return float(np.mean([image_dice(model(frame[None])[0, 0], mask) for frame, mask in masked]))


def image_dice(probability: NDArray[np.float32], mask: NDArray[np.uint8]) -> float:
    """Returns the Dice of probabilities (S, S) and a mask (H, W) at its size; as in ``test``, logits are resized."""
    logit = torch.from_numpy(probability).double().logit(eps=1e-12)[None, None]
    found = F.interpolate(logit, mask.shape, mode="bilinear")[:, 0] > 0
    return float(per_image_dice(found, torch.from_numpy(mask)[None] > 0))
