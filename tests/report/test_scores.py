import csv
import re
from pathlib import Path

import pytest
from made_up import fit_run

from polyp_lightning.checkpoints.test_scores import CheckpointScores, add_scores
from polyp_lightning.cli import main


def with_scores(folder: Path, seed: int, dice: float, dense: float | None = None) -> Path:
    """A run with other seed and folder, and the scores of one test set."""
    fit_run(folder, dense=dense)
    config = folder / "config.yaml"
    text = config.read_text().replace("seed_everything: 7", f"seed_everything: {seed}")
    text = text if dense is None else text.replace("target: 0.5", "target: 1.0")
    config.write_text(text.replace("trainer: {", f"trainer: {{default_root_dir: {folder}, "))
    values = {"images": 120, "dice": dice, "mae": 0.1, "e_measure": float("nan")}
    add_scores(folder, CheckpointScores("last.ckpt", "", {}, {"kvasir-120": values}, "2026-01-01"))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    found = [with_scores(tmp_path / f"run_{seed}", seed, 0.8 + 0.01 * seed) for seed in range(3)]
    found += [with_scores(tmp_path / "dense", 0, 0.9, dense=0.95)]
    return [*map(str, found), "-o", str(tmp_path / "r.html")]


def test_scores__mean_and_deviation_over_seeds(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    table, tex = tmp_path / "scores.csv", tmp_path / "scores.tex"
    assert main(["report", *runs, "--scores", str(table), "--scores", str(tex)]) == 0
    pruned, dense = csv.DictReader(table.open())
    assert (pruned["network"], pruned["runs"], pruned["images"]) == ("Unet resnet18, taylor 50 %", "3", "120")
    # 0.80, 0.81, 0.82: the deviation of a sample.
    assert [float(pruned[key]) for key in ("dice", "dice_sd", "mae_sd")] == pytest.approx([0.81, 0.01, 0.0])
    assert (dense["network"], dense["dice"], dense["dice_sd"]) == ("Unet resnet18, dense", "0.900000", "")
    assert pruned["e_measure"] == ""
    lines = tex.read_text(encoding="utf-8").splitlines()
    assert lines[0] == r"\begin{tabular}{llccccccccc}"
    assert lines[2].startswith(r"Network & Test set & mDice & mIoU & $F_\beta^w$")
    assert lines[4].startswith(r"Unet resnet18, taylor 50 \% & kvasir-120 & $0.810 \pm 0.010$ & – &")
    assert lines[5].startswith(r"Unet resnet18, dense & kvasir-120 & $0.900$ &")
    shown = capsys.readouterr().out
    assert re.search(r"Unet resnet18, +kvasir-120 +3 +0\.810 ", shown)


def test_scores__not_tested_and_a_wrong_suffix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, page = str(fit_run(tmp_path / "run")), str(tmp_path / "r.html")
    assert main(["report", run, "-o", page, "--scores", str(tmp_path / "x.csv")]) == 2
    assert "none of the runs was tested" in capsys.readouterr().err
    assert main(["report", run, "-o", page, "--scores", str(tmp_path / "x.xlsx")]) == 2
    assert ".csv or .tex" in capsys.readouterr().err
