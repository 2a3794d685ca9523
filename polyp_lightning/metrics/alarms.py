"""How often frames give an alarm, rightly or not, as torchmetrics that accumulate over images.

All take probabilities as the network gives them and masks of the same size, as the metrics of ``metrics`` do; when a
frame gives an alarm is said in :mod:`polyp_lightning.common.frame_rule`.
"""

from typing import Any

import torch
from scipy import ndimage
from torch import Tensor
from torchmetrics import MetricCollection

from polyp_lightning.common.frame_rule import ALARM_THRESHOLD, count_deciding
from polyp_lightning.metrics.metrics import MeanOverImages


def frame_scores(probability: Tensor) -> Tensor:
    """Computes each map's :func:`~polyp_lightning.common.frame_rule.frame_score`: from (N, H, W) to (N,), float32."""
    values = probability.float().flatten(1)
    return values.topk(count_deciding(values.shape[1])).values[:, -1]


class AlarmMetric(MeanOverImages):
    """A mean over frames or polyps, by the alarms at a threshold in [0, 1)."""

    def __init__(self, threshold: float = ALARM_THRESHOLD, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold

    def alarms(self, prediction: Tensor) -> Tensor:
        """Whether each map gives an alarm, (N,) bool."""
        return frame_scores(prediction) > self.threshold


class FalsePositiveFrameRate(AlarmMetric):
    """The share of frames without a polyp that give an alarm; NaN if all frames have one."""

    higher_is_better = False

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """For each frame without a polyp, 1 if it gives an alarm, else 0."""
        return self.alarms(prediction)[~target.flatten(1).any(1)].float()


class FrameSensitivity(AlarmMetric):
    """The share of frames with a polyp that give an alarm; NaN if none has one."""

    higher_is_better = True

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """For each frame with a polyp, 1 if it gives an alarm, else 0."""
        return self.alarms(prediction)[target.flatten(1).any(1)].float()


class PolypSensitivity(AlarmMetric):
    """The share of polyps that are found, each weighted alike; NaN if there is none.

    A polyp is a connected component of a mask (8 neighbours). It is found where its frame gives an alarm and a pixel
    of it is drawn: its probability exceeds 0.5, or the alarm threshold where that is lower.
    """

    higher_is_better = True

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """For each polyp of the frames, 1 if it is found, else 0."""
        drawn = prediction.float() > min(self.threshold, ALARM_THRESHOLD)
        drawn &= self.alarms(prediction)[:, None, None]
        found = []
        for map_, mask in zip(drawn.cpu().numpy(), target.cpu().numpy(), strict=True):
            polyps, count = ndimage.label(mask, structure=[[1, 1, 1]] * 3)
            hit = set(polyps[map_].tolist())
            found += [float(number in hit) for number in range(1, count + 1)]
        return torch.tensor(found, dtype=torch.float32, device=target.device)


def alarm_metrics(threshold: float) -> MetricCollection:
    """Makes the metrics of alarms that are reported of a test set, by the names under which they are logged."""
    return MetricCollection(
        {
            "false_positive_rate": FalsePositiveFrameRate(threshold),
            "frame_sensitivity": FrameSensitivity(threshold),
            "polyp_sensitivity": PolypSensitivity(threshold),
        },
        compute_groups=False,
    )
