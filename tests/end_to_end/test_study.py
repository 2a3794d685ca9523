"""A whole study with real processes: each verb takes what the one before has left, whatever the criterion."""

import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from studies import written

from polyp_lightning.cli import main
from polyp_lightning.study.results import RESULTS, RUNS, Result, read_images, read_results

TINY: dict[str, Any] = {
    "nets": {"tiny": {"arch": "Linknet", "encoder": "timm-mobilenetv3_small_minimal_100", "encoder_weights": None}},
    "data": {"phantom": {"image_size": 64, "batch_size": 4, "num_workers": 0, "phantom_frames": 28}},
    "criteria": {"taylor": {}, "magnitude_l1": {}, "random": {}},
    "targets": [0.5],
    "seeds": [0],
    "controls": {"scratch": ["taylor"]},
    "epochs": {"epochs": 2, "start": 1, "end": 1},
    "fit": {"trainer.logger": False, "trainer.accelerator": "cpu", "pruning.recalibration_batches": 1},
}


@pytest.mark.slow
def test_study__every_criterion_is_trained_tested_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two at a time, as two shells would.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "out"
    command = ["study", "--config", str(written(tmp_path, **TINY)), "--out", str(out)]
    with subprocess.Popen([sys.executable, "-m", "polyp_lightning", *command], stdout=subprocess.DEVNULL) as other:
        status = main(command)
        assert (status, other.wait()) == (0, 0), capsys.readouterr().out
    rows = {row.run.removeprefix("tiny_phantom_").removesuffix("_s0"): row for row in read_results(out)}
    assert set(rows) == {"dense", "taylor_0.5", "magnitude_l1_0.5", "random_0.5", "scratch-taylor_0.5"}
    for row in rows.values():
        check_scores(out, row)
    assert rows["dense"].gmacs == rows["dense"].dense_gmacs
    for name in ("taylor_0.5", "magnitude_l1_0.5", "random_0.5"):
        assert rows[name].gmacs == pytest.approx(0.5 * rows[name].dense_gmacs, rel=0.01)
    # The control has the architecture that the criterion chose.
    chosen, bare = rows["taylor_0.5"], rows["scratch-taylor_0.5"]
    assert (bare.gmacs, bare.params) == (chosen.gmacs, chosen.params)

    table = (out / RESULTS).read_bytes()
    assert main(command) == 0
    assert (out / RESULTS).read_bytes() == table

    page = tmp_path / "report.html"
    assert main(["report", str(out), "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "Dice by method at 50 % of the MACs" in text
    assert "Widths, dense against pruned" in text
    assert "Not shown" not in text


def check_scores(out: Path, row: Result) -> None:
    """The row's Dice is the mean over the images of the test set, of which there are as many as its name says."""
    images = read_images(out / RUNS / row.run)
    assert len({image.name for image in images}) == len(images) == int(row.test_set.rpartition("-")[2])
    assert row.dice == pytest.approx(statistics.fmean(image.dice for image in images), abs=1e-6)
    assert 0.0 <= row.dice <= 1.0
    assert not math.isnan(row.val_dice)
    assert (out / row.checkpoint).is_file()
