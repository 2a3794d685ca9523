import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import record
from matplotlib.image import imread

from polyp_lightning.callbacks import picture as module
from polyp_lightning.tracking import pareto_csv, pareto_png


def test_pareto_csv__reads_back(tmp_path: Path) -> None:
    history = [record(0), record(1, removed=7)]
    path = pareto_csv(history, tmp_path / "new" / "pareto.csv")
    rows = list(csv.DictReader(path.open()))
    assert [int(row["stage"]) for row in rows] == [0, 1]
    assert [float(row["gmacs"]) for row in rows] == [4.0, 3.0]
    assert (rows[0]["dice_before"], rows[0]["dice_after"], rows[0]["removed"]) == ("", "", "0")
    assert [float(rows[1][key]) for key in ("dice_after", "dice_end", "removed")] == pytest.approx([0.65, 0.87, 7])
    assert [int(row["filters"]) for row in rows] == [64 + 256 + 128, 64 + 192 + 96]
    assert [p.name for p in path.parent.iterdir()] == ["pareto.csv"]


def test_pareto_png__draws_both_series(tmp_path: Path) -> None:
    path = pareto_png([record(0), record(1), record(2)], tmp_path / "pareto.png", "phantom · 64²")
    pixels = imread(path)[..., :3]
    assert pixels.shape == (690, 1050, 3)
    for colour in (module._AFTER_TRAINING, module._AFTER_CUT):
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        assert (np.abs(pixels - rgb).max(axis=-1) < 0.02).sum() > 50, colour
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith("no-")] == ["pareto.png"]


def test_draw_stages__one_point_per_stage() -> None:
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    history = [record(0), record(1), record(2, score_end=None)]
    module.draw_stages(axes, history, {"label": "end"}, {"label": "cut"}, {"xytext": (0, 7)})
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["end"] == [[4.0, 0.88], [3.0, 0.87]]
    assert lines["cut"] == [[3.0, pytest.approx(0.65)], [2.0, pytest.approx(0.60)]]
    assert [text.get_text() for text in axes.texts] == ["100%", "75%"]


@pytest.mark.parametrize("history", [[], [record(0)], [record(0, score_end=None)]])
def test_pareto_png__few_or_no_scores(tmp_path: Path, history: list[Any]) -> None:
    assert pareto_png(history, tmp_path / "pareto.png", "").stat().st_size > 1000


def test_pareto_png__a_failure_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pareto_png([record(0)], tmp_path / "pareto.png", "")
    before = path.read_bytes()
    monkeypatch.setattr(module.Figure, "savefig", lambda _, file, **__: file.write_bytes(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pareto_png([record(0), record(1)], path, "")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["pareto.png"]
