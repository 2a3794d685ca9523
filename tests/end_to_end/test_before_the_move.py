"""A run's folder that the code of before the move of modules wrote: whatever could be done with it, still can be.

32², 28 phantoms, a small Unet, cuts at epochs 2 and 3 of 5; stopped after epoch 2, in stage 1. Its configuration names
TailEarlyStopping and PrunableEMA where they were then. The numbers below are that code's own.
"""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polyp_lightning.checkpoints.record import read
from polyp_lightning.checkpoints.test_scores import read_scores
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.cli import main

STORED = Path(__file__).parent / "before_the_move"
NAME = "stage1-epoch02-dice0.1853.ckpt"
OPTIONS = [
    *("--data.phantom_frames", "28", "--data.num_workers", "0"),
    *("--trainer.accelerator", "cpu", "--trainer.logger", "false"),
]


@pytest.fixture
def run(here: Path) -> Path:
    """A copy of the folder, in the working folder."""
    return Path(shutil.copytree(STORED, here / "run"))


def printed_scores(text: str) -> dict[str, float]:
    cells = [[cell.strip() for cell in line.split("│")] for line in text.splitlines() if line.startswith("│")]
    return {name: float(value) for _, name, value, _ in cells}


def test_validate__gives_the_same_scores(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--ckpt_path", str(run / "checkpoints" / NAME), *OPTIONS]) == 0
    found = printed_scores(capsys.readouterr().out)
    assert found["val/dice"] == pytest.approx(0.18530747, abs=1e-4)
    assert found["val/loss"] == pytest.approx(1.72579, abs=1e-3)


def test_test__gives_the_same_scores(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--ckpt_path", str(run / "checkpoints" / NAME), *OPTIONS]) == 0
    found = printed_scores(capsys.readouterr().out)
    wanted = {"test/dice": 0.17642242, "test/iou": 0.09819713, "test/hd95": 185.3679}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-3)
    (scores,) = read_scores(run)
    assert (scores.checkpoint, scores.dice) == (NAME, pytest.approx(wanted["test/dice"], rel=1e-3))


def test_export__gives_the_checkpoints_masks(run: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    checkpoint, model = run / "checkpoints" / NAME, run / "net.onnx"
    assert main(["export", "--ckpt_path", str(checkpoint), "--format", "onnx", "--output", str(model)]) == 0
    session = onnxruntime.InferenceSession(str(model))
    (wanted_input,) = session.get_inputs()
    frames = np.random.default_rng(0).integers(0, 256, (4, 1, 32, 32, 3), np.uint8)
    net = load_net(checkpoint).net.eval()
    masks = [mask_of(net, frame) for frame in frames]
    assert 0 < np.mean(masks) < 1
    for frame, mask in zip(frames, masks, strict=True):
        (probability,) = session.run(None, {wanted_input.name: frame})
        assert np.array_equal(np.asarray(probability).squeeze() > 0.5, mask)


def mask_of(net: torch.nn.Module, frame: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The mask of one uint8 frame, (1, H, W, 3)."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image = ((torch.from_numpy(frame) / 255 - mean) / deviation).permute(0, 3, 1, 2)
    with torch.no_grad():
        return (net(image).squeeze() > 0).numpy()


def test_fit__goes_on_through_the_second_cut_to_the_end(run: Path) -> None:
    before = list(csv.DictReader((STORED / "pareto.csv").open()))
    folder = ["--trainer.default_root_dir", str(run)]
    assert main(["fit", "--ckpt_path", str(run / "checkpoints" / NAME), *OPTIONS, *folder]) == 0
    last = read(run / "checkpoints" / "last.ckpt")
    assert last["epoch"] == 4
    old, new = history_of(read(STORED / "checkpoints" / NAME)), history_of(last)
    assert [stage["epoch"] for stage in new] == [0, 2, 3]
    # Later code may store more; its scores may be of another metric than Dice.
    names = {key: key.replace("dice_", "score_") for key in old[0]}
    assert [{key: now[names[key]] for key in then} for then, now in zip(old, new, strict=False)] == old
    rows = list(csv.DictReader((run / "pareto.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "2", "3"]
    assert [{key: now[key] for key in then} for then, now in zip(before[:2], rows, strict=False)] == before[:2]
    assert float(rows[2]["share"]) == pytest.approx(0.2, abs=0.01)


def history_of(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    (history,) = (state["history"] for state in checkpoint["callbacks"].values() if "history" in state)
    return list(history)


def test_report__of_the_folder(run: Path) -> None:
    page = run / "report.html"
    assert main(["report", str(run), "-o", str(page)]) == 0
    assert "0.1853" in page.read_text(encoding="utf-8")
