"""The definitions of ``functional`` as torchmetrics that accumulate over images, across batches and processes.

All take predictions and masks in pairs: a batch (N, 1, H, W) or (N, H, W) of each, or a list of (H, W) images of
different sizes. Predictions are probabilities in [0, 1] or masks; targets are masks with values 0 and 1. Results are
weighted by image, never by pixel or batch. States are sums, which reduce across processes exactly.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from polyp_lightning.metrics import functional, papers

Images = Tensor | Sequence[Tensor]


class MeanOverImages(Metric):
    """The mean of a value per image; NaN while no image has one."""

    is_differentiable = False
    full_state_update = False
    shape: tuple[int, ...] = ()
    """Of an image's value."""
    total: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros(self.shape), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, prediction: Images, target: Images) -> None:
        """Adds images.

        Raises:
            ValueError: predictions and targets differ in number or shape.
        """
        for images, masks in _stack(prediction, target):
            values = self.values(images, masks)
            self.total += values.sum(0)
            self.count += len(values)

    def compute(self) -> Tensor:
        """The mean so far, a float scalar."""
        return self.total / self.count

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """One value for each image that counts: from predictions (N, H, W) and bool masks (N, H, W) to at most (N,)."""
        raise NotImplementedError


class PerImageDice(MeanOverImages):
    """Each image's :func:`~polyp_lightning.metrics.functional.per_image_dice` at threshold 0.5.

    >>> metric = PerImageDice()
    >>> metric.update(torch.tensor([[[0.9, 0.9], [0.1, 0.1]]]), torch.tensor([[[1, 0], [0, 0]]]))
    >>> round(metric.compute().item(), 4)
    0.6667
    """

    higher_is_better = True

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Each image's Dice."""
        return functional.per_image_dice(functional.binarise(prediction), target)


class PerImageIoU(MeanOverImages):
    """Each image's :func:`~polyp_lightning.metrics.functional.per_image_iou` at threshold 0.5."""

    higher_is_better = True

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Each image's IoU."""
        return functional.per_image_iou(functional.binarise(prediction), target)


class PraNetDice(MeanOverImages):
    """Each image's :func:`~polyp_lightning.metrics.functional.pranet_dice`, from probabilities.

    Only for comparison with the literature that uses it.
    """

    higher_is_better = True

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Each image's mean Dice over thresholds."""
        return functional.pranet_dice(prediction, target)


class HD95(MeanOverImages):
    """The :func:`~polyp_lightning.metrics.functional.hd95` of images with a polyp and a prediction, in pixels.

    It is undefined for the others, which :class:`HD95LeftOut` counts: read the two together.
    """

    higher_is_better = False

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The HD95 of each image that has one."""
        pairs = zip(functional.binarise(prediction), target, strict=True)
        distances = [functional.hd95(found, mask) for found, mask in pairs if found.any() and mask.any()]
        return torch.tensor(distances, dtype=torch.float32, device=target.device)


class HD95LeftOut(MeanOverImages):
    """The number of images that :class:`HD95` leaves out because prediction or mask is empty."""

    higher_is_better = False

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """1 for each image left out, else 0."""
        found = functional.binarise(prediction)
        return (~(found.flatten(1).any(1) & target.flatten(1).any(1))).float()

    def compute(self) -> Tensor:
        """The number so far, a float scalar."""
        return self.total


class Precision(MeanOverImages):
    """Each image's :func:`~polyp_lightning.metrics.papers.precision` at threshold 0.5."""

    higher_is_better = True

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Each image's precision."""
        return papers.precision(functional.binarise(prediction), target)


class Recall(MeanOverImages):
    """Each image's :func:`~polyp_lightning.metrics.papers.recall` at threshold 0.5."""

    higher_is_better = True

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Each image's recall."""
        return papers.recall(functional.binarise(prediction), target)


class MeanAbsoluteError(MeanOverImages):
    """Each image's :func:`~polyp_lightning.metrics.papers.mean_absolute_error`."""

    higher_is_better = False

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Each image's error."""
        return papers.mean_absolute_error(prediction, target)


class StructureMeasure(MeanOverImages):
    """Each image's :func:`~polyp_lightning.metrics.papers.structure_measure`."""

    higher_is_better = True

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Each image's S-measure."""
        return papers.structure_measure(prediction, target)


class WeightedF(MeanOverImages):
    """Each image's :func:`~polyp_lightning.metrics.papers.weighted_f`."""

    higher_is_better = True

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Each image's weighted F."""
        return papers.weighted_f(prediction, target)


class EMeasure(MeanOverImages):
    """The images' :func:`~polyp_lightning.metrics.papers.e_measure`, averaged over thresholds."""

    higher_is_better = True
    shape = (functional.LEVELS,)

    def values(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Each image's E-measure by threshold: (N, 256)."""
        return papers.e_measure(prediction, target)

    def compute(self) -> Tensor:
        """The mean so far, a float scalar."""
        return super().compute().mean()


class EMeasureMax(EMeasure):
    """The same at the best threshold of all images together, which the test images themselves choose."""

    def compute(self) -> Tensor:
        """The highest mean so far, a float scalar."""
        return MeanOverImages.compute(self).max()


def evaluation_metrics() -> MetricCollection:
    """Makes the metrics of masks that are reported of a test set, by the names under which they are logged."""
    metrics: dict[str, Metric | MetricCollection] = {
        "dice": PerImageDice(),
        "iou": PerImageIoU(),
        "dice_pranet": PraNetDice(),
        "hd95": HD95(),
        "hd95_left_out": HD95LeftOut(),
        "precision": Precision(),
        "recall": Recall(),
        "weighted_f": WeightedF(),
        "structure": StructureMeasure(),
        "e_measure": EMeasure(),
        "e_measure_max": EMeasureMax(),
        "mae": MeanAbsoluteError(),
    }
    # Named, not found by comparing states, which are alike by chance on a few images.
    shared = ["e_measure", "e_measure_max"]
    return MetricCollection(metrics, compute_groups=[shared, *([name] for name in metrics if name not in shared)])


def _stack(prediction: Images, target: Images) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields pairs of stacks (N, H, W) of images of one size, the targets as bool."""
    predictions = [prediction] if isinstance(prediction, Tensor) else prediction
    targets = [target] if isinstance(target, Tensor) else target
    for images, masks in zip(predictions, targets, strict=True):
        if images.shape != masks.shape or images.ndim < 2:
            msg = f"prediction {tuple(images.shape)} and target {tuple(masks.shape)} must be masks of one shape"
            raise ValueError(msg)
        size = images.shape[-2:]
        yield images.detach().reshape(-1, *size), masks.reshape(-1, *size) != 0
