from dataclasses import replace
from pathlib import Path

from made_up import pruned, result, study

from polyp_lightning.report.answer import answer, find_question
from polyp_lightning.report.cells import collect_cells, find_target, group_by_setting
from polyp_lightning.report.comparing import classify, compare_studies
from polyp_lightning.report.inputs import Study, read_source


def test_cells__order_dense_taylor_others_scratch() -> None:
    names = ("random", "taylor", "magnitude_l1", "taylor_weight")
    rows = [pruned(name, name, 0, 0.8) for name in names]
    rows += [pruned("s", "taylor", 0, 0.8, kind="scratch", schedule=""), result("d")]
    wanted = ["dense", "taylor", "taylor_weight", "magnitude_l1", "random", "scratch of taylor"]
    assert [cell.method for cell in collect_cells(rows)] == wanted


def test_nearest_target__the_nearest_and_none_for_a_method_that_was_not_run() -> None:
    found = collect_cells([pruned(str(t), "taylor", 0, 0.8, target=t) for t in (0.5, 0.125, 0.06)])
    nearest = find_target(found, "taylor", 0.25)
    assert nearest is not None
    assert nearest.target == 0.125
    assert find_target(found, "random", 0.25) is None


def test_by_setting__most_runs_first() -> None:
    rows = [result("a", encoder="a"), result("b", encoder="b"), result("c", encoder="b", seed=1)]
    assert [setting.encoder for setting in group_by_setting(collect_cells(rows))] == ["b", "a"]


def test_answer__three_lines_with_the_figures(tmp_path: Path) -> None:
    source = read_source(study(tmp_path))
    assert isinstance(source, Study)
    found = collect_cells(source.rows)
    comparisons = compare_studies([source])
    assert comparisons is not None
    cost, contest, time = answer(find_question(found), comparisons, found)
    assert "0.870 ± 0.010 dense at 4.000 GMACs (n = 3)" in cost
    assert "0.840 ± 0.010 with 25 % of the MACs, 1.000 GMACs (n = 3): −0.030 (seeds 0, 1, 2)." in cost
    # On every image 0.1 better, so that the interval is that value.
    assert "better than random +0.100 [+0.100, +0.100]" in contest
    assert "not told apart from scratch of taylor" in contest
    assert contest.endswith(
        "scratch of taylor: from random weights, taylor from a pretrained encoder; that gap is not pruning's alone."
    )
    assert time.startswith("4.00 times fewer MACs, 4.00 times faster: 80.0 ± 0.0 → 20.0 ± 0.0 ms")


def test_answer__of_one_seed_there_is_no_interval_and_no_better_than(tmp_path: Path) -> None:
    """Of `random`, which loses by 0.1 on every image, one seed; of the others three."""
    source = read_source(study(tmp_path))
    assert isinstance(source, Study)
    some = Study(tmp_path, [row for row in source.rows if row.run not in ("random-0", "random-2")])
    _, contest, _ = answer(find_question(collect_cells(some.rows)), compare_studies([some]), collect_cells(some.rows))
    assert "better than" not in contest
    assert "not judged (one common seed) against random +0.100." in contest
    alone = Study(tmp_path, [row for row in some.rows if row.seed == 1])
    cost, contest, _ = answer(
        find_question(collect_cells(alone.rows)), compare_studies([alone]), collect_cells(alone.rows)
    )
    assert "(n = 1): −0.030 (seed 1)." in cost
    assert "±" not in cost
    assert "[" not in contest
    assert "interval" not in contest


def test_answer__the_cost_is_that_on_common_seeds(tmp_path: Path) -> None:
    source = read_source(study(tmp_path))
    assert isinstance(source, Study)
    # Seed 0 of the dense network is lucky, and there is no pruned one beside it.
    rows = [replace(row, dice=0.99) if row.run == "dense-0" else row for row in source.rows if row.run != "taylor-0"]
    cost, *_ = answer(find_question(collect_cells(rows)), None, collect_cells(rows))
    assert "(n = 2): −0.030 (seeds 1, 2)." in cost


def test_answer__seeds_that_contradict_each_other_are_not_told_apart(tmp_path: Path) -> None:
    source = read_source(study(tmp_path))
    assert isinstance(source, Study)
    found = compare_studies([source])
    assert found is not None
    better = next(row for row in found.rows if row.compared.method == "random")
    assert classify(better) == "better than"
    assert classify(replace(better, paired=replace(better.paired, by_seed=(0.2, 0.15, -0.05)))) == "not told apart from"


def test_answer__is_about_the_own_test_set_and_not_about_another_that_comes_first_in_the_alphabet() -> None:
    rows = [row for own in (result("d"), pruned("t", "taylor", 0, 0.8)) for row in (own, replace(own, test_set="a-9"))]
    question = find_question(collect_cells(rows))
    assert question is not None
    assert question.pruned.setting.test_set == "kvasir-20"


def test_answer__says_what_is_missing() -> None:
    (line,) = answer(None, None, collect_cells([result("a")]))
    assert line.startswith("Not answered yet: 1 results")
    rows = [result("d"), pruned("t", "taylor", 0, 0.8, machine="Another")]
    _, contest, time = answer(find_question(collect_cells(rows)), None, collect_cells(rows))
    assert "no other method was run" in contest
    assert "not measured on one machine" in time


def test_compared__runs_without_single_images_are_left_out_and_counted(tmp_path: Path) -> None:
    source = read_source(study(tmp_path))
    assert isinstance(source, Study)
    more = Study(tmp_path, [*source.rows, pruned("gone", "fpgm", 0, 0.5)])
    found = compare_studies([more])
    assert found is not None
    assert found.left_out == 1
    assert {row.compared.method: classify(row) for row in found.rows} == {
        "dense": "worse than",
        "random": "better than",
        "scratch of taylor": "not told apart from",
    }
    assert compare_studies([Study(tmp_path / "empty", source.rows)]) is None
