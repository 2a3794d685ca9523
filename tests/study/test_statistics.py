import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results import a_result
from scipy import stats

from polyp_lightning.common.errors import DataError
from polyp_lightning.study.replicates import group_seeds
from polyp_lightning.study.results import ImageScore, Result
from polyp_lightning.study.statistics import bootstrap_interval, compare_methods, compare_pairs, holm

P = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_holm__what_was_not_tested_makes_no_test_stricter() -> None:
    assert holm([0.01, math.nan, 0.04]) == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)


def test_holm__worked_example() -> None:
    """Four hypotheses with 0.01, 0.04, 0.03, 0.005, by hand: ×3, ×1 (but ≥ the one before), ×2, ×4."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(P)
def test_holm__keeps_the_order_and_lies_between_raw_and_bonferroni(values: list[float]) -> None:
    found = holm(values)
    order = np.argsort(values, kind="stable")
    assert all(found[a] <= found[b] for a, b in pairwise(order))
    assert all(p <= q <= min(1, len(values) * p) + 1e-12 for p, q in zip(values, found, strict=True))


@given(P, st.floats(0.001, 0.2))
def test_holm__rejects_what_the_step_down_procedure_rejects(values: list[float], alpha: float) -> None:
    rejected = set()
    for rank, index in enumerate(np.argsort(values, kind="stable")):
        if values[index] * (len(values) - rank) > alpha:
            break
        rejected.add(int(index))
    assert {i for i, p in enumerate(holm(values)) if p <= alpha} == rejected


def test_interval__of_a_normal_sample_is_that_of_the_t_distribution() -> None:
    values = np.random.default_rng(0).normal(0.02, 0.1, 400)
    low, high = stats.t.interval(0.95, 399, values.mean(), stats.sem(values))
    assert bootstrap_interval(values) == pytest.approx((low, high), abs=1e-3)


def test_interval__covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    intervals = [bootstrap_interval(rng.exponential(1, 60), resamples=499) for _ in range(200)]
    assert 0.88 <= np.mean([low <= 1 <= high for low, high in intervals]) <= 0.98


def test_paired__images_are_clusters_over_seeds() -> None:
    """Ten copies of a seed know no more of the images than two."""
    rng = np.random.default_rng(0)
    a, b = rng.random((1, 50)), rng.random((1, 50))
    two, ten = (compare_pairs(np.repeat(a, n, 0), np.repeat(b, n, 0)) for n in (2, 10))
    assert (ten.low, ten.high, ten.p) == pytest.approx((two.low, two.high, two.p), abs=1e-9)
    assert (len(two.by_seed), len(ten.by_seed), ten.images) == (2, 10, 50)
    assert two.difference == pytest.approx(a.mean() - b.mean())


def test_paired__one_seed_has_a_difference_and_nothing_that_looks_like_evidence() -> None:
    one = compare_pairs(np.full((1, 50), 0.9), np.zeros((1, 50)))
    assert one.difference == pytest.approx(0.9)
    assert all(math.isnan(value) for value in (one.low, one.high, one.p))


def test_paired__seeds_that_contradict_each_other_do_not_agree() -> None:
    """By hand: +0.2 and −0.1, in the mean +0.05 on every image, which the images alone would call certain."""
    found = compare_pairs(np.array([[0.7] * 20, [0.4] * 20]), np.full((2, 20), 0.5))
    assert found.by_seed == pytest.approx((0.2, -0.1))
    assert found.low > 0
    assert found.p < 0.001
    assert not found.agree
    assert compare_pairs(np.full((2, 3), 0.6), np.full((2, 3), 0.5)).agree


def test_paired__wilcoxon_by_hand() -> None:
    """Differences 1 to 5, all positive: of the 2⁵ signs, 2 are as extreme as this."""
    a = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]] * 2)
    assert compare_pairs(a, np.zeros((2, 5))).p == pytest.approx(2 / 2**5)


def test_paired__equal_methods_are_not_told_apart() -> None:
    a = np.random.default_rng(0).random((3, 20))
    found = compare_pairs(a, a.copy())
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("b", [np.zeros((2, 4)), np.zeros(5), np.zeros((1, 0))])
def test_paired__refuses_what_is_not_paired(b: Any) -> None:
    with pytest.raises(DataError, match="must be"):
        compare_pairs(np.zeros((1, 5)) if b.size else b, b)


def study(**means: float) -> tuple[list[Result], dict[str, list[ImageScore]]]:
    """Three seeds of each method on 40 images of equal difficulty for all."""
    base = a_result(criterion="taylor", schedule="during", distill=0, target=0.25, kind="pruned", test_set="t")
    kinds: dict[str, dict[str, Any]] = {
        "dense": {"kind": "dense", "criterion": "", "schedule": "", "target": 1.0},
        "scratch": {"kind": "scratch", "schedule": ""},
        "oneshot": {"schedule": "oneshot"},
        "distilled": {"distill": 1},
    }
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 0.1, 40)
    results, images = [], {}
    for name, mean in means.items():
        for seed in range(3):
            dice = mean + hard + rng.normal(0, 0.02, 40)
            run = f"{name}-{seed}"
            changes = kinds.get(name, {"criterion": name})
            results.append(replace(base, run=run, seed=seed, dice=float(dice.mean()), **changes))
            images[run] = [ImageScore("t", f"i{n}", float(d), 0.0, 0.0) for n, d in enumerate(dice)]
            images[run].append(ImageScore("another", "x", 0.0, 0.0, 0.0))
    return results, images


def test_comparisons__one_row_for_each_other_method() -> None:
    results, images = study(taylor=0.8, random=0.7, dense=0.85, scratch=0.8, oneshot=0.78, distilled=0.81)
    rows = {row.compared.method: row for row in compare_methods(group_seeds(results), images)}
    assert list(rows) == ["random", "dense", "scratch of taylor", "taylor, oneshot", "taylor, distilled"]
    sides = {(row.reference.method, row.reference.target, row.reference.setting.test_set) for row in rows.values()}
    assert sides == {("taylor", 0.25, "t")}
    worse = rows["random"]
    assert worse.paired.difference == pytest.approx(worse.reference.mean("dice") - worse.compared.mean("dice"))
    assert 0.08 < worse.paired.low < worse.paired.difference < worse.paired.high < 0.12
    assert worse.p_holm < 1e-6
    assert rows["dense"].paired.high < 0
    assert [row.p_holm for row in rows.values()] == pytest.approx(holm([row.paired.p for row in rows.values()]))


def test_comparisons__only_seeds_that_both_have_and_equal_targets() -> None:
    results, images = study(taylor=0.8, random=0.7, magnitude=0.75)
    kept = [
        replace(one, target=0.5) if one.criterion == "magnitude" else one
        for one in results
        if one.run not in ("random-0", "taylor-2")
    ]
    (row,) = compare_methods(group_seeds(kept), images)
    assert (row.compared.method, row.reference.seeds, row.compared.seeds) == ("random", [1], [1])
    assert math.isnan(row.p_holm)
    assert compare_methods(group_seeds(kept), images, against="fpgm") == []


def test_comparisons__refuses_other_images_and_none() -> None:
    results, images = study(taylor=0.8, random=0.7)
    with pytest.raises(DataError, match=r"random-0 has no values of single images of t"):
        compare_methods(group_seeds(results), {**images, "random-0": []})
    changed = [replace(one, name=f"_{one.name}") for one in images["random-1"]]
    with pytest.raises(DataError, match=r"not tested on the same images of t \(such as _i0\)"):
        compare_methods(group_seeds(results), {**images, "random-1": changed})


def test_comparisons__a_longer_training_is_no_fair_rival() -> None:
    results, images = study(taylor=0.8, random=0.7)
    longer = [replace(one, epochs=2 * one.epochs) if one.criterion == "random" else one for one in results]
    assert compare_methods(group_seeds(longer), images) == []


def test_comparisons__unequal_seeds_beside_equal_ones() -> None:
    """Three seeds against three, and against one that must neither be tested nor weigh on the other's correction."""
    results, images = study(taylor=0.8, random=0.79, magnitude=0.5)
    some = [one for one in results if one.run not in ("magnitude-1", "magnitude-2")]
    rows = {row.compared.method: row for row in compare_methods(group_seeds(some), images)}
    assert rows["magnitude"].reference.seeds == [0]
    assert math.isnan(rows["magnitude"].paired.high)
    assert rows["random"].reference.seeds == [0, 1, 2]
    assert rows["random"].p_holm == rows["random"].paired.p
