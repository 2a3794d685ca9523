import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from test_results import a_result

from polyp_lightning.errors import DataError
from polyp_lightning.study.results import ImageScore, Result
from polyp_lightning.study.statistics import comparisons, holm, interval, label, paired, spread

P = st.lists(st.floats(0, 1), min_size=1, max_size=30)


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
    assert interval(values) == pytest.approx((low, high), abs=1e-3)


def test_interval__covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    intervals = [interval(rng.exponential(1, 60), resamples=499) for _ in range(200)]
    assert 0.88 <= np.mean([low <= 1 <= high for low, high in intervals]) <= 0.98


def test_paired__images_are_clusters_over_seeds() -> None:
    """Ten copies of one seed know no more than that seed."""
    rng = np.random.default_rng(0)
    a, b = rng.random((1, 50)), rng.random((1, 50))
    one, ten = paired(a, b), paired(np.repeat(a, 10, 0), np.repeat(b, 10, 0))
    assert (ten.low, ten.high, ten.p) == pytest.approx((one.low, one.high, one.p), abs=1e-9)
    assert (one.seeds, ten.seeds, ten.images) == (1, 10, 50)
    assert one.difference == pytest.approx(a.mean() - b.mean())


def test_paired__wilcoxon_by_hand() -> None:
    """Differences 1 to 5, all positive: of the 2⁵ signs, 2 are as extreme as this."""
    a = np.array([[1.0, 2.0, 3.0, 4.0, 5.0]])
    assert paired(a, np.zeros((1, 5))).p == pytest.approx(2 / 2**5)


def test_paired__equal_methods_are_not_told_apart() -> None:
    a = np.random.default_rng(0).random((3, 20))
    found = paired(a, a.copy())
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("b", [np.zeros((2, 4)), np.zeros(5), np.zeros((1, 0))])
def test_paired__refuses_what_is_not_paired(b: Any) -> None:
    with pytest.raises(DataError, match="must be"):
        paired(np.zeros((1, 5)) if b.size else b, b)


def test_spread__by_hand() -> None:
    found = spread([0.7, 0.8, 0.9])
    assert (found.mean, found.sd, found.seeds) == (pytest.approx(0.8), pytest.approx(0.1), 3)
    assert math.isnan(spread([0.5]).sd)


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
    rows = {row.other: row for row in comparisons(results, images)}
    assert list(rows) == ["random", "dense", "scratch of taylor", "taylor, oneshot", "taylor, distilled"]
    assert all((row.against, row.target, row.test_set) == ("taylor", 0.25, "t") for row in rows.values())
    worse = rows["random"]
    assert worse.paired.difference == pytest.approx(worse.reference.mean - worse.compared.mean, abs=1e-9)
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
    (row,) = comparisons(kept, images)
    assert (row.other, row.paired.seeds, row.reference.seeds) == ("random", 1, 1)
    assert comparisons(kept, images, against="fpgm") == []


def test_comparisons__refuses_other_images_and_none() -> None:
    results, images = study(taylor=0.8, random=0.7)
    with pytest.raises(DataError, match=r"random-0 has no values of single images of t"):
        comparisons(results, {**images, "random-0": []})
    changed = [replace(one, name=f"_{one.name}") for one in images["random-1"]]
    with pytest.raises(DataError, match=r"not tested on the same images of t \(such as _i0\)"):
        comparisons(results, {**images, "random-1": changed})


def test_label__names_what_sets_a_run_apart() -> None:
    assert label(a_result(kind="scratch", criterion="random", schedule="", distill=0)) == "scratch of random"
    assert label(a_result(criterion="taylor", schedule="oneshot", distill=1)) == "taylor, oneshot, distilled"
