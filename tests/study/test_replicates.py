import math

import pytest
from results import a_result

from polyp_lightning.study.replicates import group_seeds, keep_common_seeds, name_method


def test_replicates__mean_and_sample_deviation_over_seeds_by_hand() -> None:
    rows = [a_result(seed=seed, dice=dice) for seed, dice in enumerate((0.80, 0.82, 0.87))]
    (cell,) = group_seeds(reversed(rows))
    assert cell.seeds == [0, 1, 2]
    assert cell.mean("dice") == pytest.approx(2.49 / 3)
    # Deviations -0.03, -0.01, 0.04: squares 9, 1 and 16 in 10⁻⁴, over n - 1 = 2.
    assert cell.deviation("dice") == pytest.approx(math.sqrt(26e-4 / 2))


def test_replicates__unknown_numbers_are_left_out_and_one_seed_has_no_deviation() -> None:
    unknown = {"ms": math.nan, "false_positive_rate": math.nan}
    (cell,) = group_seeds([a_result(**unknown), a_result(**(unknown | {"seed": 1, "ms": 30.0}))])
    assert cell.mean("ms") == 30.0
    assert math.isnan(cell.deviation("ms"))
    assert math.isnan(cell.mean("false_positive_rate"))


@pytest.mark.parametrize(
    "change",
    [{"epochs": 24}, {"target": 0.5}, {"criterion": "random"}, {"schedule": "oneshot"}, {"distill": 1},
     {"kind": "scratch"}, {"image_size": 352}, {"test_set": "clinicdb-62"}, {"encoder": "resnet34"}],
)  # fmt: skip
def test_gathered__what_differs_in_more_than_the_seed_is_never_averaged(change: dict[str, object]) -> None:
    base = {"kind": "pruned", "criterion": "taylor", "schedule": "during", "distill": 0}
    rows = [a_result(**base, seed=0), a_result(**(base | {"seed": 1} | change))]
    assert [len(cell.rows) for cell in group_seeds(rows)] == [1, 1]


def test_gathered__a_second_try_with_one_seed_is_no_second_seed() -> None:
    (cell,) = group_seeds([a_result(run="a", dice=0.8), a_result(run="again", dice=0.9)])
    assert [row.run for row in cell.rows] == ["a"]


def test_on_common_seeds__an_easy_seed_of_one_side_does_not_count() -> None:
    seeds = {"a": (0, 2, 1), "b": (5, 2, 1)}
    one, other = group_seeds([a_result(criterion=name, seed=seed) for name in seeds for seed in seeds[name]])
    ours, theirs = keep_common_seeds(one, other)
    assert ours.seeds == theirs.seeds == [1, 2]
    assert (ours.method, theirs.method) == (one.method, other.method)


def test_label__names_what_sets_a_run_apart() -> None:
    assert name_method(a_result(kind="scratch", criterion="random", schedule="", distill=0)) == "scratch of random"
    assert name_method(a_result(criterion="taylor", schedule="oneshot", distill=1)) == "taylor, oneshot, distilled"
