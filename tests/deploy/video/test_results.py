"""Results of single frames: against masks that were drawn, without a network."""

import csv
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.deploy.video import results as module
from polyp_lightning.deploy.video.overlay import Finding
from polyp_lightning.deploy.video.results import COLUMNS, Recorder, drop_specks, find_boxes


def two_patches() -> NDArray[np.uint8]:
    """A large one of 12 pixels and a speck of 2, which touch at no corner."""
    mask = np.zeros((20, 30), np.uint8)
    mask[3:6, 10:14] = 1
    mask[15, 1:3] = 1
    return mask


def record(recorder: Recorder) -> None:
    with recorder:
        recorder.add(Fraction(0), Finding(True, 0.875), two_patches(), (20, 30))
        recorder.add(Fraction(1, 25), Finding(False, 0.99), None, (20, 30))


def test_recorder__csv_has_a_line_for_each_frame(tmp_path: Path) -> None:
    path = tmp_path / "new" / "frames.csv"
    record(Recorder(path, None, False, print))
    rows = list(csv.DictReader(path.open()))
    assert [list(row) for row in rows] == [list(COLUMNS)] * 2
    assert list(rows[0].values()) == ["1", "0.0", "1", "0.875", "14", "10 3 4 3; 1 15 2 1"]
    assert list(rows[1].values()) == ["2", "0.04", "0", "0.99", "0", ""]


def test_recorder__lines_can_be_read_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "frames.jsonl"
    with Recorder(path, None, False, print) as recorder:
        recorder.add(Fraction(2), Finding(True, 0.875), two_patches(), (20, 30))
        (line,) = path.read_text().splitlines()
    wanted = {"frame": 1, "seconds": 2.0, "polyp": 1, "confidence": 0.875, "area": 14}
    assert json.loads(line) == {**wanted, "boxes": [[10, 3, 4, 3], [1, 15, 2, 1]]}


def test_recorder__masks_are_those_of_the_frames(tmp_path: Path) -> None:
    record(Recorder(None, tmp_path / "masks", False, print))
    first, second = (np.asarray(Image.open(path)) for path in sorted((tmp_path / "masks").iterdir()))
    np.testing.assert_array_equal(first, 255 * two_patches())
    assert second.shape == (20, 30)
    assert not second.any()


def test_recorder__older_results_are_kept(tmp_path: Path) -> None:
    table, masks = tmp_path / "frames.csv", tmp_path / "masks"
    record(Recorder(table, masks, False, print))
    for results, folder, named in ((table, None, "--results"), (None, masks, "--masks")):
        with pytest.raises(ConfigError, match=f"{named} .* exists already.*--overwrite"):
            Recorder(results, folder, False, print)
    record(Recorder(table, masks, True, print))
    with pytest.raises(ConfigError, match=r"frames\.txt: its name ends in one of \.csv, \.jsonl"):
        Recorder(tmp_path / "frames.txt", None, False, print)


def test_recorder__says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(module, "EVERY", 0.0)
    record(Recorder(None, None, False, said.append))
    assert [line.partition(":")[0] for line in said] == ["1 frames, 0 s of video", "2 frames, 0 s of video"]
    assert said[1].endswith(" FPS, 1 with a polyp")


@pytest.mark.parametrize(("least", "left"), [(0, 14), (2, 14), (3, 12), (12, 12), (13, 0)])
def test_drop_specks__by_their_pixels(least: int, left: int) -> None:
    mask = drop_specks(two_patches(), least)
    assert mask.dtype == np.uint8
    assert mask.sum() == left
    assert not (mask > two_patches()).any()


def test_find_boxes__none_in_an_empty_mask() -> None:
    assert find_boxes(np.zeros((4, 5), np.uint8)) == []
