import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.networks.losses import LOSSES, build_loss

Array = NDArray[np.float64]


def images(logits: torch.Tensor, target: torch.Tensor) -> Iterator[tuple[Array, Array]]:
    for z, t in zip(logits.double().numpy()[:, 0], target.double().numpy()[:, 0], strict=True):
        yield 1 / (1 + np.exp(-z)), t


def cross_entropy(p: Array, t: Array) -> Array:
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


def dice_bce(logits: torch.Tensor, target: torch.Tensor) -> float:
    dice = [1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1) for p, t in images(logits, target)]
    return float(np.mean(dice) + np.mean([cross_entropy(p, t) for p, t in images(logits, target)]))


def tversky(logits: torch.Tensor, target: torch.Tensor) -> float:
    values = []
    for p, t in images(logits, target):
        tp, fp, fn = (p * t).sum(), (p * (1 - t)).sum(), ((1 - p) * t).sum()
        values.append(1 - (tp + 0.5) / (tp + 0.3 * fp + 0.7 * fn + 0.5))
    return float(np.mean(values))


def focal(logits: torch.Tensor, target: torch.Tensor) -> float:
    values = []
    for p, t in images(logits, target):
        pt, alpha = np.where(t == 1, p, 1 - p), np.where(t == 1, 0.25, 0.75)
        values.append(-alpha * (1 - pt) ** 2 * np.log(pt))
    return float(np.mean(values))


def structure(logits: torch.Tensor, target: torch.Tensor) -> float:
    values = []
    for p, t in images(logits, target):
        weight = np.ones_like(t)
        for y, x in np.ndindex(*t.shape):
            window = t[max(0, y - 15) : y + 16, max(0, x - 15) : x + 16]
            weight[y, x] += 5 * abs(window.sum() / 31**2 - t[y, x])
        inter, total = (weight * p * t).sum(), (weight * (p + t)).sum()
        bce = (weight * cross_entropy(p, t)).sum() / weight.sum()
        values.append(bce + 1 - (inter + 1) / (total - inter + 1))
    return float(np.mean(values))


REFERENCES = {loss.__name__: loss for loss in (dice_bce, tversky, focal, structure)}


def batch(seed: int = 0, dtype: torch.dtype = torch.uint8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, 1, 40, 33, generator=generator)
    target = torch.zeros(3, 1, 40, 33, dtype=dtype)
    target[0, 0, 5:25, 8:30] = 1
    target[1, 0, 20, 3] = 1  # the third image has no polyp
    return logits, target


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_loss__equals_a_loop_over_images(name: str, dtype: torch.dtype) -> None:
    logits, target = batch(dtype=dtype)
    assert build_loss(name)(logits, target).item() == pytest.approx(REFERENCES[name](logits, target), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_loss__an_image_without_polyp_has_a_gradient_that_lowers_it(name: str) -> None:
    logits = torch.zeros(2, 1, 32, 32, requires_grad=True)
    build_loss(name)(logits, torch.zeros(2, 1, 32, 32, dtype=torch.uint8)).backward()
    assert logits.grad is not None
    assert (logits.grad > 0).all()


def test_dice_bce__gradient_without_a_polyp_is_the_formula_s_and_the_difference_quotient_s() -> None:
    """Without a polyp an image's loss is 1 - 1/(Σp + 1) + BCE, so dL/dz = (p(1 - p)/(Σp + 1)² + p/(H·W))/N."""
    logits = (3 * torch.randn(2, 1, 4, 5, generator=torch.Generator().manual_seed(1))).requires_grad_()
    target = torch.zeros(2, 1, 4, 5, dtype=torch.uint8)
    build_loss("dice_bce")(logits, target).backward()
    p = logits.detach().double().sigmoid()
    formula = (p * (1 - p) / (p.sum((1, 2, 3), keepdim=True) + 1) ** 2 + p / 20) / 2
    assert logits.grad is not None
    assert torch.allclose(logits.grad.double(), formula, rtol=1e-5, atol=1e-9)
    step = 1e-4
    for index in np.ndindex(*logits.shape):
        up, down = logits.detach().double().clone(), logits.detach().double().clone()
        up[index] += step
        down[index] -= step
        quotient = (dice_bce(up, target) - dice_bce(down, target)) / (2 * step)
        assert formula[index].item() == pytest.approx(quotient, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_loss__better_is_lower_and_extremes_are_finite(name: str) -> None:
    _, target = batch()
    sign = 2 * target.float() - 1
    right, wrong = (build_loss(name)(k * sign, target) for k in (1e4, -1e4))
    assert 0 <= right.item() < 1e-3
    assert math.isfinite(wrong.item())
    assert wrong > right + 0.1


@pytest.mark.parametrize("name", LOSSES)
def test_loss__is_float32_under_bfloat16(name: str) -> None:
    logits, target = batch()
    value = build_loss(name)(logits.bfloat16(), target)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(build_loss(name)(logits, target).item(), rel=0.02)


@pytest.mark.parametrize("name", LOSSES)
def test_loss__weighs_images_alike(name: str) -> None:
    logits, target = batch()
    alone = [build_loss(name)(logits[i : i + 1], target[i : i + 1]).item() for i in range(3)]
    assert build_loss(name)(logits, target).item() == pytest.approx(np.mean(alone), rel=1e-5)


def test_build_loss__unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"loss='tverski' is not one of dice_bce, .*Did you mean tversky\?"):
        build_loss("tverski")


def test_build_loss__maps_are_added_with_their_weights() -> None:
    logits, target = batch()
    other = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    maps = {"main": logits, "side": other}
    one, two = (dice_bce(each, target) for each in maps.values())
    assert build_loss("dice_bce")(maps, target).item() == pytest.approx(one + two, rel=1e-5)
    assert build_loss("dice_bce", [1, 0.25])(maps, target).item() == pytest.approx(one + 0.25 * two, rel=1e-5)


def test_build_loss__a_smaller_map_is_resized_to_the_mask() -> None:
    # Constant: whatever the size, it is the same map.
    target = torch.zeros(1, 1, 8, 8)
    target[..., :4] = 1
    small, whole = torch.full((1, 1, 2, 2), 0.7), torch.full((1, 1, 8, 8), 0.7)
    assert build_loss("dice_bce")({"0": small}, target).item() == pytest.approx(dice_bce(whole, target), rel=1e-5)


def test_build_loss__as_many_weights_as_maps() -> None:
    with pytest.raises(ConfigError, match="1 weights for the 2 maps a, b"):
        build_loss("dice_bce", [1.0])({"a": batch()[0], "b": batch()[0]}, batch()[1])
