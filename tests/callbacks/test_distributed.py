"""Two real processes on the CPU (gloo): one network, one choice, and no hang when one of them dies."""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from small_run import OPTIONS, TEACHER

from polyp_lightning.callbacks.distributed import check_strategy, digest
from polyp_lightning.checkpoints.file import read
from polyp_lightning.checkpoints.record import KEY
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.training.module import PolypSegmenter

SCRIPT = str(Path(__file__).parent.parent / "support" / "small_run.py")
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]


def fit(folder: Path, *more: str, limit: float = 240, **environment: str) -> subprocess.CompletedProcess[str]:
    folders = ["--trainer.default_root_dir", "run", "--data.cache_dir", str(folder.parent / "cache")]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(folder), **environment}
    folder.mkdir(exist_ok=True)
    command = [sys.executable, SCRIPT, "fit", *OPTIONS, *folders, *more]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=limit)


def last(folder: Path) -> dict[str, Any]:
    return read(folder / "run" / "checkpoints" / "last.ckpt")


def history(folder: Path) -> list[dict[str, Any]]:
    (state,) = (v for k, v in last(folder)["callbacks"].items() if "Pruning" in k)
    rows: list[dict[str, Any]] = state["history"]
    return rows


@pytest.mark.slow
def test_ddp__trains_and_cuts_to_the_end_with_equal_ranks(tmp_path: Path) -> None:
    done = fit(tmp_path / "two", *TWO, "--data.batch_size", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    hashes = re.findall(r"the same in all 2 processes: SHA-256 ([0-9a-f]{16})", done.stdout + done.stderr)
    assert len(set(hashes)) == 2, "two cuts, two different networks"
    assert [row["stage"] for row in history(tmp_path / "two")] == [0, 1, 2]
    print(hashes)


@pytest.mark.slow
def test_ddp__removes_what_one_process_with_the_same_global_batch_removes(tmp_path: Path) -> None:
    cut = ["--pruning.end", "2", "--trainer.max_epochs", "3", "--pruning.recalibration_batches", "0"]
    for name, more in (("two", [*TWO, "--data.batch_size", "2"]), ("one", ["--data.batch_size", "4"])):
        done = fit(tmp_path / name, *cut, *more, UNMIXED="1")
        assert done.returncode == 0, done.stderr[-3000:]
    scores = [
        json.loads((tmp_path / name / file).read_text())
        for name, file in (("one", "scores0.json"), ("two", "scores0.json"), ("two", "scores1.json"))
    ]
    assert scores[1] == scores[2]
    # Half of the frames alone are several per cent off.
    assert scores[1] == pytest.approx(scores[0], rel=1e-2)
    two, one = last(tmp_path / "two"), last(tmp_path / "one")
    assert two["global_step"] == one["global_step"]
    assert two[KEY]["plan"] == one[KEY]["plan"]
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, atol=2e-3, rtol=1e-2)


def lessons(folder: Path, rank: int) -> list[list[Any]]:
    """By step: loss, whether it was taught, digests of the network and of its teacher, whether that one learns."""
    return [json.loads(line) for line in (folder / f"lessons{rank}.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_ddp__a_taught_network_learns_what_it_learns_in_one_process(tmp_path: Path) -> None:
    torch.manual_seed(3)
    teacher = tmp_path / "teacher.ckpt"
    plain = Trainer(max_epochs=0, accelerator="cpu", logger=False, enable_checkpointing=False)
    plain.strategy.connect(PolypSegmenter(image_size=64, encoder=TEACHER))
    plain.save_checkpoint(teacher)
    options = ["--pruning.end", "2", "--trainer.max_epochs", "4", "--pruning.recalibration_batches", "0"]
    options += ["--model.distill_from", str(teacher), "--model.distill_weight", "0.5"]
    for name, more in (("two", [*TWO, "--data.batch_size", "2"]), ("one", ["--data.batch_size", "4"])):
        done = fit(tmp_path / name, *options, *more, UNMIXED="1")
        assert done.returncode == 0, done.stderr[-3000:]
    one, first, second = lessons(tmp_path / "one", 0), lessons(tmp_path / "two", 0), lessons(tmp_path / "two", 1)
    # Five steps an epoch; the only cut is at the start of epoch 2.
    assert [[row[1] for row in rows] for rows in (one, first, second)] == [[False] * 10 + [True] * 10] * 3
    assert [row[2] for row in first] == [row[2] for row in second], "ranks are bit-equal at every step"
    assert len({row[2] for row in first}) == 20
    assert len({row[3] for rows in (one, first, second) for row in rows}) == 1, "nobody changes the teacher"
    assert not any(row[4] for rows in (one, first, second) for row in rows)
    assert last(tmp_path / "two")[KEY]["plan"] == last(tmp_path / "one")[KEY]["plan"]
    # Both losses are means over images, so that the processes' mean is that of the whole batch.
    found = [(a[0] + b[0]) / 2 for a, b in zip(first, second, strict=True)]
    assert found == pytest.approx([row[0] for row in one], rel=2e-3)
    for name, value in last(tmp_path / "one")["state_dict"].items():
        torch.testing.assert_close(last(tmp_path / "two")["state_dict"][name], value, atol=2e-3, rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "die_at", "epoch", "cut"),
    [
        # The first cut was chosen when the checkpoint was written.
        pytest.param("2", "cut:0", 1, "1", id="between scoring and cut"),
        pytest.param("3", "step:6", 0, "", id="before scoring"),
    ],
)
def test_ddp__resumed_run_removes_the_same(tmp_path: Path, start: str, die_at: str, epoch: int, cut: str) -> None:
    options = [*TWO, "--data.batch_size", "2", "--pruning.start", start]
    done = fit(tmp_path / "whole", *options, UNMIXED="1")
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "two"
    killed = fit(folder, *options, UNMIXED="1", DIE_AT=die_at, RANK_DIES="1")
    assert killed.returncode != 0
    assert last(folder)["epoch"] == epoch
    for scores in folder.glob("scores*.json"):
        scores.unlink()
    done = fit(folder, *options, "--ckpt_path", "run/checkpoints/last.ckpt", UNMIXED="1")
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads((folder / f"scores{rank}{cut}.json").read_text()) for rank in (0, 1)]
    assert found[0] == found[1]
    assert found[0] == pytest.approx(json.loads((tmp_path / "whole" / f"scores0{cut}.json").read_text()), rel=1e-9)
    assert json.loads((folder / f"images1{cut}.json").read_text()) == 20
    whole, resumed = last(tmp_path / "whole"), last(folder)
    assert resumed[KEY]["plan"] == whole[KEY]["plan"]
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], value)


HALF = "{class_path: lightning.pytorch.plugins.MixedPrecision, init_args: {precision: 16-mixed, device: cpu}}"


@pytest.mark.slow
def test_ddp__a_step_skipped_for_one_process_counts_for_none(tmp_path: Path) -> None:
    options = [*TWO, "--data.batch_size", "2", "--trainer.plugins+", HALF]
    done = fit(tmp_path / "two", *options, OVERFLOW="7")
    assert done.returncode == 0, done.stderr[-3000:]
    scores = [json.loads((tmp_path / "two" / f"scores{rank}.json").read_text()) for rank in (0, 1)]
    assert scores[0] == scores[1]
    # Steps 5 to 9 of 2 · 2 images each are scored.
    assert [json.loads((tmp_path / "two" / f"images{rank}.json").read_text()) for rank in (0, 1)] == [16, 16]


def validated(folder: Path, rank: int, epochs: int) -> list[str]:
    """Names of the frames validated in an epoch; the sanity check comes before the first."""
    lines = (folder / f"validated{rank}.txt").read_text().splitlines()
    return " ".join(lines[-(len(lines) // (epochs + 1)) :]).split()


@pytest.mark.slow
def test_ddp__validates_an_odd_number_of_frames_as_one_process_does(tmp_path: Path) -> None:
    options = ["--data.phantom_frames", "35", "--trainer.max_epochs", "2", "--model.lr", "1e-12"]
    options += ["--pruning.start", "1", "--pruning.end", "1", "--pruning.recalibration_batches", "0"]
    for name, more in (("two", [*TWO, "--data.batch_size", "2"]), ("one", ["--data.batch_size", "4"])):
        done = fit(tmp_path / name, *options, *more, UNMIXED="1")
        assert done.returncode == 0, done.stderr[-3000:]
    keys = ("score_after", "score_end", "score_best")
    found, expected = ([[row[key] for key in keys] for row in history(tmp_path / name)] for name in ("two", "one"))
    assert 0 < expected[0][1] < 1
    assert expected[1][0] is not None
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other, abs=1e-6)
    whole = validated(tmp_path / "one", 0, 2)
    assert len(set(whole)) == 5
    assert sorted(validated(tmp_path / "two", 0, 2) + validated(tmp_path / "two", 1, 2)) == sorted(whole)

    # The metrics of `test` are of each image once: it refuses to run in two processes, and does not hang.
    script = [sys.executable, SCRIPT, "test", "--ckpt_path", "run/checkpoints/last.ckpt", *TWO]
    more = ["--data.num_workers", "0", "--data.cache_dir", str(tmp_path / "cache"), "--trainer.logger", "false"]
    more += ["--data.phantom_frames", "35", "--trainer.accelerator", "cpu"]
    env = {**os.environ, "HOME": str(tmp_path), "UNMIXED": "1"}
    refused = subprocess.run(
        [*script, *more], cwd=tmp_path / "two", env=env, capture_output=True, text=True, timeout=200
    )
    assert refused.returncode == 2
    assert "test counts each image once and so runs in one process, got 2" in refused.stderr


def working_in(folder: Path) -> list[str]:
    """Processes with this working folder (Linux)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found += [process.name] if (process / "cwd").resolve() == folder.resolve() else []
    return found


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_ddp__a_rank_that_dies_ends_the_job(tmp_path: Path, rank: str) -> None:
    begun = time.monotonic()
    done = fit(tmp_path / "two", *TWO, "--data.batch_size", "2", DIE_AT="step:7", RANK_DIES=rank, limit=150)
    assert done.returncode != 0
    assert time.monotonic() - begun < 150
    assert not working_in(tmp_path / "two"), "a process is left behind"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "ddp_spawn", "devices": 2}, "DDP started by spawn can't prune.*set the Trainer's strategy=ddp"),
        ({"strategy": DDPStrategy(start_method="fork"), "devices": 2}, "DDP started by fork can't prune"),
    ],
)
def test_check_strategy__names_what_works(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, **options)
    with pytest.raises(ConfigError, match=message):
        check_strategy(trainer)


@pytest.mark.parametrize("name", ["FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy"])
def test_check_strategy__refuses_spread_weights(name: str) -> None:
    class Strategy:
        pass

    Strategy.__name__ = name
    trainer = type("Trainer", (), {"strategy": Strategy()})()
    with pytest.raises(ConfigError, match=f"{name.removesuffix('Strategy')} can't prune"):
        check_strategy(trainer)


@pytest.mark.parametrize("options", [{"devices": 1}, {"strategy": "ddp", "devices": 2}])
def test_check_strategy__allows_one_device_and_ddp(tmp_path: Path, options: dict[str, Any]) -> None:
    check_strategy(Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, **options))


def test_digest__changes_with_any_bit_shape_and_name() -> None:
    tensors = {"a": torch.arange(6.0), "n": torch.tensor(3)}
    found = {
        digest(tensors),
        digest({**tensors, "n": torch.tensor(4)}),
        digest({**tensors, "a": torch.arange(6.0).view(2, 3)}),
        digest({"b": tensors["a"], "n": tensors["n"]}),
        digest({**tensors, "a": torch.nextafter(tensors["a"], torch.tensor(9.0))}),
    }
    assert len(found) == 5
    assert digest({"a": torch.ones(2, 3).t()}) == digest({"a": torch.ones(3, 2)})
