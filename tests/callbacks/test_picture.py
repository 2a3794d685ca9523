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
    module.draw_stages(axes, history, {"label": "end"}, {"label": "cut"})
    lines = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert lines["end"] == [[4.0, 0.88], [3.0, 0.87]]
    assert lines["cut"] == [[3.0, pytest.approx(0.65)], [2.0, pytest.approx(0.60)]]
    module.label_shares(axes, history)
    assert [text.get_text() for text in axes.texts] == ["100%, 2 epochs", "75%"]


def drawn(history: list[Any], caption: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The figure of a picture, laid out."""
    kept = []
    savefig = module.Figure.savefig
    monkeypatch.setattr(module.Figure, "savefig", lambda self, *a, **k: (kept.append(self), savefig(self, *a, **k))[1])
    pareto_png(history, folder / "pareto.png", caption)
    return kept[0]


@pytest.mark.parametrize("words", [0, 5, 90])
def test_pareto_png__title_and_caption_are_apart(words: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The narrowest curve: all stages within a thousandth of Dice and of GMACs.
    history = [record(i, gmacs=1.0 - i / 1e3, score_end=0.8, score_after=0.8005) for i in range(3)]
    figure = drawn(history, "protocol: words " * words, tmp_path, monkeypatch)
    title = figure._suptitle.get_window_extent()
    caption = figure.axes[0].title.get_window_extent()
    frame = figure.axes[0].get_window_extent()
    assert title.y0 >= caption.y1
    assert caption.y0 >= frame.y1
    assert 0 <= caption.x0 < caption.x1 <= figure.bbox.x1
    assert frame.height > 300


def test_pareto_png__labels_keep_off_markers_and_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The quick start's curve, where labels above their points lay on the squares of the next stages.
    points = [
        (0.759, 1.0, None, 0.743), (0.481, 0.634, 0.839, 0.800), (0.313, 0.412, 0.797, 0.847),
        (0.226, 0.298, 0.858, 0.850), (0.194, 0.256, 0.839, 0.865), (0.190, 0.250, 0.872, 0.905),
    ]  # fmt: skip
    history = [
        record(i, gmacs=gmacs, share=share, score_after=after, score_end=end)
        for i, (gmacs, share, after, end) in enumerate(points)
    ]
    figure = drawn(history, "", tmp_path, monkeypatch)
    axes = figure.axes[0]
    labels = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts][1:] == ["63%", "41%", "30%", "26%", "25%"]
    # A marker of 6 points has a radius of 6.25 pixels at 150 dots per inch.
    places = [(gmacs, dice) for gmacs, _, *both in points for dice in both if dice is not None]
    for x, y in axes.transData.transform(places):
        assert not [box for box in labels if box.x0 - 6 < x < box.x1 + 6 and box.y0 - 6 < y < box.y1 + 6]
    assert all(box.count_overlaps(labels) == 1 for box in labels)


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
