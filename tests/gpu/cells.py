"""As many cells of the study as fit in the time left, three seeds side by side."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pack
from setting import Setting

REPOSITORY = Path(__file__).resolve().parents[2]
SEEDS = (0, 1, 2)
# By their value: the main comparison at a quarter of the MACs, then the curve.
ORDER = ("dense", "taylor_0.25", "uniform_0.25", "magnitude_l1_0.25", "random_0.25", "taylor_0.5", "taylor_0.125")


def run(setting: Setting) -> None:
    """Starts the verb ``study`` until the deadline, run by run and three seeds side by side, and shows its table."""
    out, configuration = setting.folder / "study", _write_configuration(setting)
    for name in ORDER[:1] if setting.rehearse else ORDER:
        left = setting.seconds_left - 5
        if left > 30:
            _side_by_side(setting, configuration, out, name, left)
    _show(setting, out)


def _side_by_side(setting: Setting, configuration: Path, out: Path, name: str, seconds: float) -> None:
    command = [sys.executable, "-m", "polyp_lightning", "study", "--config", str(configuration), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])}
    end = time.monotonic() + seconds
    seeds = SEEDS[:1] if setting.rehearse else SEEDS
    with (setting.results.folder / "study.log").open("a") as log:
        options: dict[str, Any] = {"env": environment, "stdout": log, "stderr": log, "start_new_session": True}
        started = [subprocess.Popen([*command, "--only", f"*_{name}_s{seed}"], **options) for seed in seeds]
        try:
            for process in started:
                process.wait(max(end - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            pass
        finally:
            for process in (one for one in started if one.poll() is None):
                # Its group is its own: with the fit that it has started.
                os.killpg(process.pid, signal.SIGKILL)


def _write_configuration(setting: Setting) -> Path:
    if setting.data is not None:
        root = pack.unpack(setting.data, setting.folder / "data")
        data = f"kvasir: {{name: kvasir, root: {root}, split: 880-120, batch_size: 16, num_workers: 4,"
    else:
        data = "phantom: {name: phantom, batch_size: 5, num_workers: 0, phantom_frames: 28,"
    epochs = "{epochs: 2, start: 1, end: 1}" if setting.rehearse else "{epochs: 12, start: 3, end: 6}"
    targets = "[0.25]" if setting.rehearse else "[0.5, 0.25, 0.125]"
    encoder, weights = setting.encoder, os.environ.get("GPU_WEIGHTS", "null")
    criteria = "{taylor: {}}" if setting.rehearse else "{taylor: {}, uniform: {}, magnitude_l1: {}, random: {}}"
    precision = "32-true" if setting.rehearse else "bf16-mixed"
    path = setting.folder / "study.yaml"
    path.write_text(
        f"nets:\n  unet: {{arch: Unet, encoder: {encoder}, encoder_weights: {weights}}}\n"
        f"data:\n  {data} image_size: {setting.side}}}\ncriteria: {criteria}\ntargets: {targets}\n"
        f"seeds: {list(SEEDS)}\nepochs: {epochs}\n"
        f"fit: {{trainer.precision: {precision}, trainer.logger: false, pruning.recalibration_batches: 4}}\n"
        "time: {backend: torch, threads: 1}\n"
    )
    return path


def _show(setting: Setting, out: Path) -> None:
    table, rows = out / "results.csv", []
    if table.is_file():
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        # What the report is made from.
        shutil.copy(table, setting.results.folder / "study.csv")
    what = f"study on {'Kvasir-SEG' if setting.data else 'drawn frames'} at {setting.side}², scored at that size"
    setting.results.row(what, "≥ 1 run", f"{len(rows)} runs", len(rows) >= 1)
    for row in rows:
        setting.results.row(f"{row['run']} on {row['test_set']}", "", f"test Dice {float(row['dice']):.4f}", None)
