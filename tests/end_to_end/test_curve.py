"""The curve of a study from parents to the picture, with other software beside it, in pieces."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from studies import written

from polyp_lightning.cli import main
from polyp_lightning.study.curve import read_curve
from polyp_lightning.study.results import read_results

BENCH = Path(__file__).parents[1] / "bench"
CUT = {
    "trainer.callbacks+": "rivals.TorchPruningCut",
    "trainer.callbacks.importance": "taylor",
    "trainer.callbacks.target": "{target}",
}
TINY: dict[str, Any] = {
    "nets": {"tiny": {"arch": "Linknet", "encoder": "timm-mobilenetv3_small_minimal_100", "encoder_weights": None}},
    "data": {"phantom": {"image_size": 64, "batch_size": 4, "num_workers": 0, "phantom_frames": 28}},
    "criteria": {
        "taylor": {},
        "tp_taylor": {"targets": [0.5], "outside": {"epochs": 1, "fit": CUT}},
    },
    "targets": [0.8, 0.65, 0.5],
    "seeds": [0, 1],
    "controls": {},
    "parent": {"epochs": 2, "fit": {"model.lr": 0.002}},
    "epochs": {"epochs": 2, "start": 1, "end": 1},
    "fit": {"trainer.logger": False, "trainer.accelerator": "cpu", "pruning.recalibration_batches": 1},
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_curve__from_parents_to_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch_pruning")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(BENCH), prepend=":")
    out = tmp_path / "out"
    command = ["study", "--config", str(written(tmp_path, **TINY)), "--out", str(out)]
    # A piece that ends before the first run does.
    assert main([*command, "--time_limit", "0.05"]) == 0
    assert not (out / "results.csv").is_file()
    assert main(command) == 0
    rows = {row.run.removeprefix("tiny_phantom_"): row for row in read_results(out)}
    assert len(rows) == 2 * 6
    assert (rows["parent_s0"].epochs, rows["dense_s0"].epochs, rows["tp_taylor_0.5_s1"].epochs) == (2, 4, 4)
    for name, row in rows.items():
        # Torch-Pruning's steps are coarse on a network this small.
        tolerance = 0.06 if name.startswith("tp_") else 0.03
        assert row.gmacs / row.dense_gmacs == pytest.approx(row.target, rel=tolerance), name
        assert name.startswith("tp_") or row.gmacs / row.dense_gmacs <= row.target + 0.01, name
    assert rows["tp_taylor_0.5_s0"].schedule == "outside"

    page, stem = tmp_path / "page.html", tmp_path / "curve"
    assert main(["report", str(out), "--no_frames", "-o", str(page), "--curve", str(stem)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "To what share of the MACs does pruning hold?" in text
    assert "Which layers go first" in text
    methods = {(one.method, one.target) for one in read_curve(stem.with_suffix(".csv"))}
    assert methods == {
        ("dense", 1.0), ("tp_taylor", 0.5), *(("taylor", target) for target in (0.8, 0.65, 0.5)),
    }  # fmt: skip

    # What is left of a parent right after a cut.
    monkeypatch.syspath_prepend(str(BENCH))
    after_cut = importlib.import_module("after_cut")
    monkeypatch.setattr(after_cut, "METHODS", {name: after_cut.METHODS[name] for name in ("taylor", "tp_taylor_iso")})
    found = list(after_cut.measure_all([out / "runs" / "tiny_phantom_parent_s0"]))
    assert [(name, target) for name, target, _ in found] == [
        (name, target) for name in ("taylor", "tp_taylor_iso") for target in after_cut.TARGETS
    ]
    assert all(
        abs(share - target) < 0.05 and 0 <= before <= 1 and 0 <= after <= 1
        for _, target, (share, before, after) in found
    )
