"""A whole study with real processes: each verb takes what the one before has left, whatever the criterion."""

import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from studies import written

from polyp_lightning.cli import main
from polyp_lightning.study.results import RESULTS, RUNS, Result, read_images, read_results

TINY: dict[str, Any] = {
    "nets": {"tiny": {"arch": "Linknet", "encoder": "timm-mobilenetv3_small_minimal_100", "encoder_weights": None}},
    "data": {"phantom": {"image_size": 64, "batch_size": 4, "num_workers": 0, "phantom_frames": 28}},
    "criteria": {"taylor": {}, "magnitude_l1": {}},
    "targets": [0.5],
    "seeds": [0],
    "controls": {"scratch": ["taylor"], "oneshot": ["magnitude_l1"], "distill": ["taylor"]},
    "epochs": {"epochs": 2, "start": 1, "end": 1},
    "fit": {"trainer.logger": False, "trainer.accelerator": "cpu", "pruning.recalibration_batches": 1},
}


def processes(words: str) -> list[int]:
    """Those that have such words on their command line (Linux)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            found += [int(process.name)] if words in line else []
    return found


def kill(words: str) -> None:
    for process in processes(words):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """A study's folder, in which nobody works any more afterwards."""
    yield tmp_path / "out"
    kill(str(tmp_path))


def wait_for(file: Path, limit: float = 400) -> None:
    end = time.monotonic() + limit
    while not file.is_file():
        assert time.monotonic() < end, file
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_study__killed_jobs_go_on_and_every_cell_is_made_once_and_reported(
    tmp_path: Path, out: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = ["study", "--config", str(written(tmp_path, **TINY)), "--out", str(out)]
    jobs = [*command, "--executor", "local", "--jobs", "2"]
    first = subprocess.Popen([sys.executable, "-m", "polyp_lightning", *jobs])
    interrupted = "tiny_phantom_magnitude_l1_0.5_s0"
    wait_for(out / RUNS / interrupted / "checkpoints" / "last.ckpt")
    first.kill()
    first.wait()
    # The job, but neither its training nor what has started it.
    kill(f"--cell {interrupted}")
    done = {path: path.stat().st_mtime_ns for path in out.glob(f"{RUNS}/*/{RESULTS}")}
    assert main(jobs) == 0, capfd.readouterr().out
    with capfd.disabled():
        print(*capfd.readouterr(), sep="\n")
    assert 0 < len(done) < 6
    assert {path: path.stat().st_mtime_ns for path in done} == done, "what was done was made again"
    assert not processes(str(out))
    assert len(read_results(out)) == 6
    rows = {row.run.removeprefix("tiny_phantom_").removesuffix("_s0"): row for row in read_results(out)}
    assert set(rows) == {
        "dense",
        "taylor_0.5",
        "magnitude_l1_0.5",
        "scratch-taylor_0.5",
        "distill-taylor_0.5",
        "oneshot-magnitude_l1_0.5",
    }
    for row in rows.values():
        check_scores(out, row)
    assert rows["dense"].gmacs == rows["dense"].dense_gmacs
    for name in ("taylor_0.5", "magnitude_l1_0.5", "oneshot-magnitude_l1_0.5", "distill-taylor_0.5"):
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
