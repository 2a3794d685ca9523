import math
from pathlib import Path

import pytest
from made_up import pruned, result, study

from polyp_lightning.report.answer import answer, asked
from polyp_lightning.report.cells import by_setting, cells, nearest_target
from polyp_lightning.report.comparing import compared, outcome
from polyp_lightning.report.sources import Study, read_source


def test_cells__mean_and_sample_deviation_over_seeds_by_hand() -> None:
    rows = [pruned(f"r{seed}", "taylor", seed, dice) for seed, dice in enumerate((0.80, 0.82, 0.87))]
    (cell,) = cells(reversed(rows))
    assert cell.seeds == [0, 1, 2]
    assert cell.mean("dice") == pytest.approx(2.49 / 3)
    # Deviations -0.03, -0.01, 0.04: squares 9, 1 and 16 in 10⁻⁴, over n - 1 = 2.
    assert cell.deviation("dice") == pytest.approx(math.sqrt(26e-4 / 2))


def test_cells__unknown_numbers_are_left_out_and_one_seed_has_no_deviation() -> None:
    (cell,) = cells([result("a", ms=math.nan), result("b", seed=1, ms=30.0)])
    assert cell.mean("ms") == 30.0
    assert math.isnan(cell.deviation("ms"))
    assert math.isnan(cell.mean("false_positive_rate"))


@pytest.mark.parametrize(
    "change",
    [{"epochs": 24}, {"target": 0.5}, {"criterion": "random"}, {"schedule": "oneshot"}, {"distill": 1},
     {"kind": "scratch"}, {"image_size": 352}, {"test_set": "clinicdb-62"}, {"encoder": "resnet34"}],
)  # fmt: skip
def test_cells__what_differs_in_more_than_the_seed_is_never_averaged(change: dict[str, object]) -> None:
    rows = [pruned("a", "taylor", 0, 0.8), pruned("b", **{"criterion": "taylor", "seed": 1, "dice": 0.9} | change)]
    assert [len(cell.rows) for cell in cells(rows)] == [1, 1]


def test_cells__order_dense_taylor_others_scratch() -> None:
    names = ("random", "taylor", "magnitude_l1", "taylor_weight")
    rows = [pruned(name, name, 0, 0.8) for name in names]
    rows += [pruned("s", "taylor", 0, 0.8, kind="scratch", schedule=""), result("d")]
    wanted = ["dense", "taylor", "taylor_weight", "magnitude_l1", "random", "scratch of taylor"]
    assert [cell.method for cell in cells(rows)] == wanted


def test_nearest_target__the_nearest_and_none_for_a_method_that_was_not_run() -> None:
    found = cells([pruned(str(t), "taylor", 0, 0.8, target=t) for t in (0.5, 0.125, 0.06)])
    nearest = nearest_target(found, "taylor", 0.25)
    assert nearest is not None
    assert nearest.target == 0.125
    assert nearest_target(found, "random", 0.25) is None


def test_by_setting__most_runs_first() -> None:
    rows = [result("a", encoder="a"), result("b", encoder="b"), result("c", encoder="b", seed=1)]
    assert [setting.encoder for setting in by_setting(cells(rows))] == ["b", "a"]


def test_answer__three_lines_with_the_figures(tmp_path: Path) -> None:
    source = read_source(study(tmp_path))
    assert isinstance(source, Study)
    found = cells(source.rows)
    comparisons = compared([source])
    assert comparisons is not None
    cost, contest, time = answer(asked(found), comparisons, found)
    assert "0.870 ± 0.010 dense at 4.000 GMACs (n = 3)" in cost
    assert "0.840 ± 0.010 with 25 % of the MACs, 1.000 GMACs (n = 3): −0.030." in cost
    # On every image 0.1 better, so that the interval is that value.
    assert "better than random +0.100 [+0.100, +0.100]" in contest
    assert "not told apart from scratch of taylor" in contest
    assert time.startswith("4.00 times fewer MACs, 4.00 times faster: 80.0 ± 0.0 → 20.0 ± 0.0 ms")


def test_answer__says_what_is_missing() -> None:
    (line,) = answer(None, None, cells([result("a")]))
    assert line.startswith("Not answered yet: 1 results")
    rows = [result("d"), pruned("t", "taylor", 0, 0.8, machine="Another")]
    _, contest, time = answer(asked(cells(rows)), None, cells(rows))
    assert "no other method was run" in contest
    assert "not measured on one machine" in time


def test_compared__runs_without_single_images_are_left_out_and_counted(tmp_path: Path) -> None:
    source = read_source(study(tmp_path))
    assert isinstance(source, Study)
    more = Study(tmp_path, [*source.rows, pruned("gone", "fpgm", 0, 0.5)])
    found = compared([more])
    assert found is not None
    assert found.left_out == 1
    assert {row.other: outcome(row) for row in found.rows} == {
        "dense": "worse than",
        "random": "better than",
        "scratch of taylor": "not told apart from",
    }
    assert compared([Study(tmp_path / "empty", source.rows)]) is None
