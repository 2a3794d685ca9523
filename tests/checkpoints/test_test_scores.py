import json
import math
from pathlib import Path

import pytest

from polyp_lightning.checkpoints.test_scores import SCORES, CheckpointScores, add_scores, read_scores
from polyp_lightning.common.errors import DataError

DATA = {"data": "kvasir", "split": "880-120", "image_size": 64}


def scores(digest: str = "a", dice: float = 0.5, **data: object) -> CheckpointScores:
    sets = {"kvasir-120": {"images": 120.0, "dice": dice}}
    return CheckpointScores("x.ckpt", digest, {**DATA, **data}, sets, "2026-01-01T00:00:00+00:00")


def test_add_scores__keeps_one_of_each_file_and_data_set(tmp_path: Path) -> None:
    for one in (scores("a"), scores("b"), scores("a", data="clinicdb"), scores("a", 0.75)):
        add_scores(tmp_path, one)
    assert read_scores(tmp_path) == [scores("b"), scores("a", data="clinicdb"), scores("a", 0.75)]


def test_add_scores__a_value_that_is_not_defined_is_null(tmp_path: Path) -> None:
    add_scores(tmp_path, scores(dice=math.nan))
    (stored,) = json.loads((tmp_path / SCORES).read_text(), parse_constant=pytest.fail)
    assert stored["test_sets"]["kvasir-120"]["dice"] is None
    assert math.isnan(read_scores(tmp_path)[0].test_sets["kvasir-120"]["dice"])


def test_dice__weighs_test_sets_by_their_images() -> None:
    sets = {"a": {"images": 100.0, "dice": 0.9}, "b": {"images": 62.0, "dice": 0.5}}
    assert CheckpointScores("", "", {}, sets, "").dice == pytest.approx((100 * 0.9 + 62 * 0.5) / 162)


def test_read_scores__nothing_and_nonsense(tmp_path: Path) -> None:
    assert read_scores(tmp_path) == []
    (tmp_path / SCORES).write_text('[{"checkpoint": 1}]')
    with pytest.raises(DataError, match="is damaged"):
        read_scores(tmp_path)
