import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import a_result
from scipy import stats

from polyp_lightning.study.curve import (
    ALL,
    ALPHA,
    CurvePoint,
    adjust_in_sequence,
    build_curve,
    find_held,
    find_p,
    read_curve,
    resample_means,
    write_curve,
)
from polyp_lightning.study.replicates import group_seeds
from polyp_lightning.study.results import ImageScore, Result

SEEDS, IMAGES = 3, 60
FALL = {0.5: 0.0, 0.25: -0.015, 0.1: -0.1}
"""By how much Dice falls at each budget."""


def made(worst: float = 40.0) -> tuple[list[Result], dict[str, list[ImageScore]]]:
    """Dense, taylor at three budgets and random at one, with hard and easy images, by three seeds."""
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 0.1, IMAGES)
    base = a_result(epochs=9, test_set="t", gmacs=1.0, dense_gmacs=1.0, params=8, dense_params=8, distill=0)
    rows, images = [], {}
    for name, target, fall in (
        ("dense", 1.0, 0.0), *(("taylor", k, v) for k, v in FALL.items()), ("random", 0.25, -0.2),
    ):  # fmt: skip
        for seed in range(SEEDS):
            run, kind = f"{name}{target}-{seed}", "dense" if name == "dense" else "pruned"
            dice = 0.85 + fall + hard + rng.normal(0, 0.01, IMAGES)
            changes = {"criterion": "" if kind == "dense" else name, "schedule": "" if kind == "dense" else "during"}
            costs = {"gmacs": target, "params": int(8 * target)}
            rows.append(replace(base, run=run, kind=kind, target=target, seed=seed, **changes, **costs))
            hd95 = [math.nan if n == 0 else worst * (1 - d) for n, d in enumerate(dice)]
            images[run] = [
                ImageScore("t", f"i{n}", float(d), 0.0, h) for n, (d, h) in enumerate(zip(dice, hd95, strict=True))
            ]
    return rows, images


def point(points: list[CurvePoint], method: str, target: float, metric: str = "dice", seed: str = ALL) -> CurvePoint:
    key = (method, target, metric, seed)
    (found,) = (one for one in points if (one.method, one.target, one.metric, one.seed) == key)
    return found


def test_resample_means__equals_a_loop_that_draws_seeds_and_images() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(0.1, 0.2, (3, 1)) + rng.normal(0, 0.3, (1, 25)) + rng.normal(0, 0.1, (3, 25))
    values[0, 3] = values[2, 7] = np.nan
    loop = []
    for _ in range(3000):
        rows, columns = rng.integers(0, 3, 3), rng.integers(0, 25, 25)
        drawn = [v for row in rows for column in columns if not math.isnan(v := values[row, column])]
        loop.append(sum(drawn) / len(drawn))
    found = resample_means(values, resamples=20000)
    assert found.mean() == pytest.approx(np.mean(loop), abs=0.006)
    levels = (0.025, 0.2, 0.5, 0.8, 0.975)
    assert np.quantile(found, levels) == pytest.approx(np.quantile(loop, levels), abs=0.02)


def test_resample_means__equal_seeds_leave_the_bootstrap_over_images() -> None:
    values = np.random.default_rng(1).normal(0.02, 0.1, 200)
    found = resample_means(np.stack([values] * 3))
    assert found.std() == pytest.approx(values.std() / math.sqrt(200), rel=0.03)


def test_p__that_of_students_test_where_seeds_are_equal() -> None:
    values = np.random.default_rng(2).normal(0.012, 0.1, 300)
    wanted = stats.ttest_1samp(values, 0, alternative="greater").pvalue
    assert find_p(np.stack([values] * 2)) == pytest.approx(wanted, rel=0.25)
    assert math.isnan(find_p(values[None]))


def test_p__rejects_a_true_inferiority_about_as_rarely_as_it_says() -> None:
    """At the margin itself: a mean contrast of zero, with seeds and images that both vary."""
    rng, rejected = np.random.default_rng(3), 0
    for _ in range(200):
        contrast = rng.normal(0, 0.01, (3, 1)) + rng.normal(0, 0.1, (1, 80)) + rng.normal(0, 0.05, (3, 80))
        rejected += find_p(contrast) <= ALPHA
    assert rejected / 200 <= 0.06


@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=8))
def test_sequence__rejects_what_step_by_step_testing_rejects(p_values: list[float]) -> None:
    rejected = 0
    for p in p_values:
        if not p <= ALPHA:
            break
        rejected += 1
    assert [p <= ALPHA for p in adjust_in_sequence(p_values)] == [n < rejected for n in range(len(p_values))]


def test_curve__differences_intervals_and_what_holds() -> None:
    rows, images = made()
    points = build_curve(group_seeds(rows), images)
    for target, fall in FALL.items():
        one = point(points, "taylor", target)
        ours, dense = ([images[f"{name}-{s}"] for s in range(3)] for name in (f"taylor{target}", "dense1.0"))
        wanted = np.mean(
            [[x.dice - y.dice for x, y in zip(*pair, strict=True)] for pair in zip(ours, dense, strict=True)]
        )
        assert one.difference == pytest.approx(wanted)
        assert one.low < wanted < one.high
        assert one.low < fall + 0.004
        assert one.high > fall - 0.004
        assert (one.share, one.params_share) == pytest.approx((target, int(8 * target) / 8))
        assert one.images == IMAGES
        assert one.value == pytest.approx(np.mean([x.dice for run in ours for x in run]))
        by_seed = [point(points, "taylor", target, seed=str(s)).difference for s in range(3)]
        assert np.mean(by_seed) == pytest.approx(wanted)
    taylor = [one for one in points if one.method == "taylor"]
    strict, loose = find_held(taylor, "dice", "p_strict"), find_held(taylor, "dice", "p_loose")
    assert strict is not None
    assert loose is not None
    assert (strict.target, loose.target) == (0.5, 0.25)
    assert find_held([one for one in points if one.method == "random"], "dice", "p_loose") is None
    # The decision is that of the interval.
    assert point(points, "taylor", 0.5).low > -0.01 > point(points, "taylor", 0.25).low > -0.02


def test_curve__a_budget_that_fails_stops_the_smaller_ones() -> None:
    rows, images = made()
    points = [one for one in build_curve(group_seeds(rows), images) if one.method == "taylor"]
    lucky = [replace(one, p_strict=0.001) if one.target == 0.1 else one for one in points]
    held = find_held(lucky, "dice", "p_strict")
    assert held is not None
    assert held.target == 0.5


def test_curve__hd95_counts_where_both_have_one_and_larger_is_worse() -> None:
    rows, images = made()
    images["dense1.0-1"][5] = replace(images["dense1.0-1"][5], hd95=math.nan)
    points = build_curve(group_seeds(rows), images)
    one = point(points, "taylor", 0.1, "hd95")
    assert one.images == IMAGES - 1
    pairs = [
        (x.hd95, y.hd95)
        for s in range(3)
        for x, y in zip(images[f"taylor0.1-{s}"], images[f"dense1.0-{s}"], strict=True)
        if not math.isnan(x.hd95 + y.hd95)
    ]
    assert len(pairs) == 3 * (IMAGES - 1) - 1
    assert one.difference == pytest.approx(np.mean([x - y for x, y in pairs]))
    assert one.difference > 3
    assert one.p_loose > 0.9
    assert point(points, "taylor", 0.5, "hd95").p_loose < 0.01


def test_curve__one_seed_has_no_interval_and_a_longer_training_is_not_compared() -> None:
    rows, images = made()
    kept = [replace(row, epochs=10) if row.criterion == "random" else row for row in rows if row.seed == 0]
    points = build_curve(group_seeds(kept), images)
    assert {one.method for one in points} == {"dense", "taylor"}
    one = point(points, "taylor", 0.5)
    assert all(math.isnan(value) for value in (one.low, one.high, one.p_strict, one.p_loose))
    assert find_held(points, "dice", "p_loose") is None


def test_curve__comes_back_equal_from_its_file(tmp_path: Path) -> None:
    rows, images = made()
    points = build_curve(group_seeds(rows), images)
    write_curve(tmp_path / "curve.csv", points)
    assert repr(read_curve(tmp_path / "curve.csv")) == repr(points)
