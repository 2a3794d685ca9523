import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
from results import NUMBER, a_result

from polyp_lightning.common.errors import DataError
from polyp_lightning.study.results import ImageScore, append_result, read_images, read_results, write_images


def test_append_result__comes_back_equal_and_names_its_columns(tmp_path: Path) -> None:
    first, second = a_result(run="a"), a_result(run="b", dice=1 / 3)
    append_result(tmp_path / "results.csv", first)
    append_result(tmp_path / "results.csv", second)
    assert read_results(tmp_path) == [first, second]
    with (tmp_path / "results.csv").open(newline="") as file:
        assert ",".join(next(csv.reader(file))) == (
            "run,kind,arch,encoder,encoder_weights,data,split,test_set,image_size,criterion,schedule,distill,target,"
            "seed,epochs,val_dice,dice,iou,pranet_dice,hd95,false_positive_rate,gmacs,dense_gmacs,params,dense_params,"
            "ms,ms_backend,threads,machine,minutes,checkpoint,command,versions,date"
        )


def test_append_result__takes_the_place_of_the_same_run_and_test_set(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    for row in (a_result(test_set="x"), a_result(test_set="y"), a_result(test_set="x", dice=0.9)):
        append_result(path, row)
    assert [(row.test_set, row.dice) for row in read_results(path)] == [("y", NUMBER), ("x", 0.9)]


def test_read_results__an_empty_number_is_nan(tmp_path: Path) -> None:
    append_result(tmp_path / "results.csv", a_result(false_positive_rate=math.nan))
    assert ",nan," not in (tmp_path / "results.csv").read_text()
    assert math.isnan(read_results(tmp_path)[0].false_positive_rate)


@pytest.mark.parametrize(
    ("content", "said"), [("", "no column run"), ("a,b\n1,2\n", "no column run"), (None, "can't be read")]
)
def test_read_results__refuses_other_files(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "results.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        read_results(tmp_path)


def test_read_results__names_line_and_column_of_a_bad_number(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    append_result(path, replace(a_result(), seed="zero"))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="line 2: seed is 'zero'"):
        read_results(path)


def test_read_images__comes_back_equal(tmp_path: Path) -> None:
    rows = [
        ImageScore("kvasir-120", "ä, b", 0.5, 1 / 3, 7.25, frame_score=2 / 3, polyp=1.0),
        ImageScore("kvasir-120", "b", 1.0, 1.0, 0.0, frame_score=0.25, polyp=0.0),
    ]
    write_images(tmp_path / "test_images.csv", rows)
    assert read_images(tmp_path) == rows
