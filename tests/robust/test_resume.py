"""Killed and resumed: the final weights are those of the run that nobody disturbed, bit for bit."""

import multiprocessing
import os
import random
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import OPTIONS, announce, use_small_net

from polyp_lightning.checkpoint_file import read
from polyp_lightning.cli import main

LAST = Path("run") / "checkpoints" / "last.ckpt"
# A server that has imported everything and computed nothing: autograd's threads do not survive a fork.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["polyp_lightning.training_cli", "small_run"])


def child(folder: Path, die_at: str, arguments: list[str]) -> None:
    os.chdir(folder)
    os.environ.update(DIE_AT=die_at, HOME=str(folder))
    sys.stdout = sys.stderr = (folder / "output.txt").open("a", buffering=1)
    warnings.simplefilter("ignore")  # pytest's filters came along
    torch.set_num_threads(1)
    use_small_net()
    announce(folder)
    os._exit(main(arguments))


def run(folder: Path, *more: str, die_at: str = "", kill_after: float | None = None) -> int:
    """One process in a folder; returns its exit code, -9 if it was killed."""
    start = ["--ckpt_path", str(LAST)] if (folder / LAST).is_file() else OPTIONS
    folders = ["--trainer.default_root_dir", "run", "--data.cache_dir", str(folder.parent / "cache")]
    process = SERVER.Process(target=child, args=(folder, die_at, ["fit", *start, *folders, *more]))
    process.start()
    process.join(kill_after)
    if process.is_alive():
        process.kill()
    process.join(120)
    assert process.exitcode in (0, -9), (folder / "output.txt").read_text()[-3000:]
    return int(process.exitcode or 0)


def final(folder: Path) -> dict[str, Any]:
    return read(folder / LAST)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def undisturbed(base: Path) -> dict[str, Any]:
    """The last checkpoint of a run in one go."""
    folder = base / "undisturbed"
    folder.mkdir()
    assert run(folder) == 0
    return final(folder)


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["epoch"] == expected["epoch"]
    assert found["global_step"] == expected["global_step"]
    for name, value in expected["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value), name
    for mine, theirs in zip(found["optimizer_states"], expected["optimizer_states"], strict=True):
        for key, state in theirs["state"].items():
            assert all(torch.equal(mine["state"][key][k], v) for k, v in state.items())
    assert found["lr_schedulers"] == expected["lr_schedulers"]
    (mine,), (theirs,) = ([v for k, v in c["callbacks"].items() if "Pruning" in k] for c in (found, expected))
    assert mine["history"] == theirs["history"]


# 5 steps an epoch; cuts at the starts of epochs 2 and 3; one validation batch an epoch after the sanity check's.
MOMENTS = {
    "in the first epoch": "step:3",
    "in an epoch": "step:12",
    "in the scored epoch before a cut": "step:8",
    "in a cut": "cut:0",
    "in the second cut": "cut:1",
    "right after a cut": "epoch start:2",
    "between cuts": "step:13",
    "in a checkpoint write": "write:4",
    "in the write of a stage's first best": "write:5",
    "in validation": "validation:4",
    "at an epoch's end": "epoch end:3",
}


FAST = {"in an epoch", "in a cut", "in a checkpoint write", "in validation"}


@pytest.mark.parametrize(
    "moment",
    [pytest.param(m, id=name, marks=[] if name in FAST else pytest.mark.slow) for name, m in MOMENTS.items()],
)
def test_resume__killed_at_a_named_moment_ends_the_same(base: Path, undisturbed: dict[str, Any], moment: str) -> None:
    folder = base / moment.replace(":", "-").replace(" ", "-")
    folder.mkdir()
    assert run(folder, die_at=moment) == -9, "the moment never came"
    assert run(folder) == 0
    assert_same(final(folder), undisturbed)
    assert not list((folder / "run" / "checkpoints").glob(".*")), "a half-written file is left"


@pytest.mark.slow
def test_resume__killed_at_twenty_random_moments_ends_the_same(base: Path, undisturbed: dict[str, Any]) -> None:
    moments, killed, seconds = random.Random(0), 0, 10.0  # noqa: S311
    for number in range(60):
        folder, begun = base / f"random-{number}", time.monotonic()
        folder.mkdir()
        if run(folder, kill_after=moments.uniform(0.1, 0.95) * seconds) == 0:
            seconds = time.monotonic() - begun  # it was done already: on this machine now, a run takes so long
            continue
        killed += 1
        assert run(folder) == 0
        assert_same(final(folder), undisturbed)
        if killed == 20:
            return
    pytest.fail(f"only {killed} of 60 runs lived long enough to be killed")
