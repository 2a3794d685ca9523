import math

import numpy as np
import pytest
import torch
from torchmetrics import Metric

from polyp_lightning import metrics
from polyp_lightning.metrics import HD95, HD95LeftOut, PerImageDice, alarm_metrics, evaluation_metrics

ALL = list(dict.fromkeys(type(one) for made in (evaluation_metrics(), alarm_metrics(0.5)) for one in made.values()))


def frames(count: int = 6, size: tuple[int, int] = (20, 17)) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities and masks; the second frame has neither a polyp nor a prediction, the third only a prediction."""
    generator = torch.Generator().manual_seed(5)
    probability = torch.rand(count, 1, *size, generator=generator)
    mask = (torch.rand(count, 1, *size, generator=generator) > 0.6).to(torch.uint8)
    mask[1:3] = 0
    probability[1] *= 0.4
    return probability, mask


@pytest.mark.parametrize("kind", ALL)
def test_update__lists_and_batches_agree(kind: type[Metric]) -> None:
    probability, mask = frames()
    whole, parts, images = kind(), kind(), kind()
    whole.update(probability, mask)
    parts.update(probability[:1, 0], mask[:1, 0])
    parts.update(probability[1:], mask[1:])
    images.update([p[0] for p in probability], [m[0] for m in mask])
    torch.testing.assert_close(whole.compute(), parts.compute())
    torch.testing.assert_close(whole.compute(), images.compute())


@pytest.mark.parametrize("kind", ALL)
def test_state__sums_across_processes(kind: type[Metric]) -> None:
    probability, mask = frames()
    whole, one, two = kind(), kind(), kind()
    whole.update(probability, mask)
    one.update(probability[:4], mask[:4])
    two.update(probability[4:], mask[4:])
    assert all(getattr(reduce, "__name__", None) == "dim_zero_sum" for reduce in one._reductions.values())
    for name in one._defaults:
        setattr(one, name, getattr(one, name) + getattr(two, name))
    torch.testing.assert_close(one.compute(), whole.compute())


@pytest.mark.parametrize("kind", ALL)
def test_update__shapes_that_differ(kind: type[Metric]) -> None:
    with pytest.raises(ValueError, match=r"prediction \(4, 4\) and target \(4, 5\)"):
        kind().update([torch.zeros(4, 4)], [torch.zeros(4, 5)])
    with pytest.raises(ValueError, match="zip"):
        kind().update([torch.zeros(4, 4)] * 2, [torch.zeros(4, 4)])


def test_per_image_dice__weighs_images_of_different_sizes_alike() -> None:
    small, large = torch.ones(2, 2, dtype=torch.bool), torch.ones(50, 60, dtype=torch.bool)
    metric = PerImageDice()
    metric.update([small, large], [small, ~large])
    assert metric.compute().item() == 0.5


def test_hd95__leaves_out_images_without_one_and_counts_them() -> None:
    probability, mask = frames()
    distance, left_out = HD95(), HD95LeftOut()
    for metric in (distance, left_out):
        metric.update(probability, mask)
    kept = [0, 3, 4, 5]
    expected = [metrics.hd95(probability[i, 0] > 0.5, mask[i, 0] > 0) for i in kept]
    assert distance.compute().item() == pytest.approx(np.mean(expected))
    assert left_out.compute().item() == 2


def test_hd95__is_nan_when_every_image_is_left_out() -> None:
    distance = HD95()
    distance.update(torch.zeros(2, 8, 8), torch.ones(2, 8, 8))
    assert math.isnan(distance.compute().item())


def test_evaluation_metrics__reset_and_names() -> None:
    collection = metrics.evaluation_metrics()
    collection.update(*frames())
    overlap = {"dice", "iou", "dice_pranet", "hd95", "hd95_left_out", "precision", "recall"}
    assert set(collection.compute()) == overlap | {"weighted_f", "structure", "e_measure", "e_measure_max", "mae"}
    collection.reset()
    collection.update(torch.ones(1, 8, 8), torch.ones(1, 8, 8))
    assert collection.compute()["dice"].item() == 1


def test_e_measure__the_maximum_is_that_of_the_mean_curve() -> None:
    probability, mask = frames()
    mean, best = metrics.EMeasure(), metrics.EMeasureMax()
    for metric in (mean, best):
        metric.update(probability, mask)
    curve = metrics.papers.e_measure(probability[:, 0], mask[:, 0] > 0).mean(0)
    torch.testing.assert_close(mean.compute(), curve.mean())
    torch.testing.assert_close(best.compute(), curve.max())
