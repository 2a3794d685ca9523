from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import record

from polyp_lightning.callbacks import picture
from polyp_lightning.callbacks.dense_control import find_dense_dice, place_dense, show_beside
from polyp_lightning.callbacks.picture import pareto_csv

OPTIONS: dict[str, Any] = {"seed_everything": 0, "data": {"name": "phantom"}, "model": {"lr": 1e-3}}


def leave_run(folder: Path, stages: int, target: float, **changes: Any) -> Path:
    """What `fit` leaves in a folder, as far as it matters here."""
    pareto_csv([record(stage) for stage in range(stages)], folder / "pareto.csv")
    trainer = {"max_epochs": 6, "default_root_dir": str(folder), "logger": False}
    config = {**OPTIONS, "pruning": {"target": target}, "trainer": trainer | changes}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def dashed_lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """Collects the height and the label of each dashed line that is drawn."""
    lines: list[tuple[float, str]] = []
    draw = picture.Axes.axhline
    monkeypatch.setattr(
        picture.Axes, "axhline", lambda self, y, **style: (lines.append((y, style["label"])), draw(self, y, **style))[1]
    )
    return lines


def test_show_beside__the_pruned_runs_picture_gets_the_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pruned = leave_run(tmp_path / "run", 3, 0.25)
    dense = leave_run(tmp_path / "run-dense", 1, 1.0)
    assert place_dense(pruned) == dense
    lines = dashed_lines(monkeypatch)
    assert show_beside(dense, "phantom") == pruned / "pareto.png"
    assert (pruned / "pareto.png").stat().st_size > 1000
    assert lines == [(0.88, "dense, trained as long: 0.880")]
    assert not (dense / "pareto.png").exists()


@pytest.mark.parametrize(
    ("stages", "changes"), [(1, {"max_epochs": 7}), (2, {}), (0, {})], ids=["longer", "cut too", "without a stage"]
)
def test_find_dense_dice__only_of_a_dense_run_with_the_same_options(
    stages: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    pruned = leave_run(tmp_path / "run", 3, 0.25)
    assert find_dense_dice(pruned) is None
    dense = leave_run(tmp_path / "run-dense", stages, 1.0, **changes)
    assert find_dense_dice(pruned) is None
    assert show_beside(dense, "") is None


def test_show_beside__a_run_by_itself_is_no_control(tmp_path: Path) -> None:
    assert show_beside(leave_run(tmp_path / "run", 1, 1.0), "") is None
    assert show_beside(leave_run(tmp_path / "lonely-dense", 1, 1.0), "") is None
