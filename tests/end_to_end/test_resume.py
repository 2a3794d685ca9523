"""Killed and resumed: the final weights are those of the run that nobody disturbed, bit for bit."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import OPTIONS, announce, use_small_net

from polyp_lightning.checkpoints.file import read
from polyp_lightning.cli import main

LAST = Path("run") / "checkpoints" / "last.ckpt"
# A server that has imported everything and computed nothing: autograd's threads do not survive a fork.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["polyp_lightning.cli.fit", "small_run"])


def child(folder: Path, die_at: str, die_by: int, arguments: list[str]) -> None:
    os.chdir(folder)
    os.environ.update(DIE_AT=die_at, DIE_BY=str(die_by), HOME=str(folder))
    # A shell's background jobs ignore it, and their children with them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout = sys.stderr = (folder / "output.txt").open("a", buffering=1)
    warnings.simplefilter("ignore")  # pytest's filters came along
    torch.set_num_threads(1)
    use_small_net()
    announce(folder)
    os._exit(main(arguments))


def started(folder: Path, *more: str, die_at: str = "", die_by: int = signal.SIGKILL) -> Any:
    """A process in a folder: a new run, or one that goes on."""
    start = ["--ckpt_path", str(LAST)] if (folder / LAST).is_file() else OPTIONS
    folders = ["--trainer.default_root_dir", "run", "--data.cache_dir", str(folder.parent / "cache")]
    process = SERVER.Process(target=child, args=(folder, die_at, die_by, ["fit", *start, *folders, *more]))
    process.start()
    return process


def run(
    folder: Path,
    *more: str,
    die_at: str = "",
    kill_after: float | None = None,
    die_by: int = signal.SIGKILL,
    status: int = -9,
) -> int:
    """One process in a folder; returns its exit code, ``status`` if it was killed."""
    process = started(folder, *more, die_at=die_at, die_by=die_by)
    process.join(kill_after)
    if process.is_alive():
        process.kill()
    process.join(120)
    assert process.exitcode in (0, status), (folder / "output.txt").read_text()[-3000:]
    return int(process.exitcode or 0)


def ask_group(group: int, seconds: float) -> None:
    """Raises ProcessLookupError once no process of the group is left."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        os.killpg(group, 0)
        time.sleep(0.1)


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


SLOW = pytest.mark.slow


@SLOW
@pytest.mark.parametrize("moment", ["epoch end:3", "step:12"], ids=["into an epoch", "into a cut"])
def test_resume__with_data_workers_reads_the_same(base: Path, undisturbed: dict[str, Any], moment: str) -> None:
    """They begin to read before the sampler knows which epoch it is, and have one iterator for epoch and cut."""
    folder = base / f"workers-{moment.replace(':', '-').replace(' ', '-')}"
    folder.mkdir()
    assert run(folder, "--data.num_workers", "2", die_at=moment) == -9
    assert run(folder) == 0
    assert_same(final(folder), undisturbed)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        pytest.param(signal.SIGTERM, "step:12", id="SIGTERM in an epoch", marks=SLOW),
        pytest.param(signal.SIGTERM, "cut:0", id="SIGTERM in a cut", marks=SLOW),
        pytest.param(signal.SIGTERM, "write:4", id="SIGTERM in a checkpoint write", marks=SLOW),
        pytest.param(signal.SIGINT, "step:12", id="SIGINT in an epoch", marks=SLOW),
        pytest.param(signal.SIGINT, "cut:0", id="SIGINT in a cut"),
        pytest.param(signal.SIGINT, "write:4", id="SIGINT in a checkpoint write", marks=SLOW),
    ],
)
def test_resume__stopped_by_a_signal_ends_the_same(
    base: Path, undisturbed: dict[str, Any], number: signal.Signals, moment: str
) -> None:
    folder = base / f"{number.name}-{moment.replace(':', '-')}"
    folder.mkdir()
    status = 128 + number
    assert run(folder, die_at=moment, die_by=number, status=status) == status, "as shells have it"
    told = (folder / "output.txt").read_text()
    assert f"fit was stopped by {number.name}; its checkpoints are whole" in told
    assert "Traceback" not in told
    assert not list((folder / "run" / "checkpoints").glob(".*")), "a half-written file is left"
    assert run(folder) == 0
    assert_same(final(folder), undisturbed)


@pytest.mark.slow
def test_fit__sigterm_to_all_processes_of_the_job(tmp_path: Path) -> None:
    """As schedulers send it, the data workers have it too: they stay until the main process has ended in good order."""
    begun, many = tmp_path / LAST, ("--data.num_workers", "2", "--trainer.max_epochs", "1000")
    command = [sys.executable, "-m", "polyp_lightning", "fit", *OPTIONS, *many]
    with (tmp_path / "output.txt").open("w") as output:
        folders = ["--trainer.default_root_dir", "run", "--data.cache_dir", "cache"]
        process = subprocess.Popen(
            [*command, *folders], cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        while not begun.is_file() and process.poll() is None:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGTERM)
        status = process.wait(60)
    told = (tmp_path / "output.txt").read_text()
    assert status == 143, told[-2000:]
    assert "fit was stopped by SIGTERM; its checkpoints are whole" in told
    assert "Traceback" not in told
    with pytest.raises(ProcessLookupError):
        ask_group(process.pid, 10)


def test_fit__one_process_at_a_time_in_a_folder(base: Path, undisturbed: dict[str, Any]) -> None:
    folder, worker = base / "two", ("--data.num_workers", "1")
    folder.mkdir()
    # Its worker outlives it by seconds.
    first = started(folder, *worker, die_at="step:12", die_by=signal.SIGSTOP)
    while not stopped(first.pid):
        time.sleep(0.1)
    before = {path: path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()}
    assert run(folder, status=2) == 2
    told = (folder / "output.txt").read_text()
    assert f"error: another process ({first.pid}) trains in run, and two would overwrite each other's" in told
    assert "Traceback" not in told
    assert {path: path.read_bytes() for path in (folder / "run").rglob("*") if path.is_file()} == before
    first.kill()
    first.join()
    assert run(folder) == 0, "a killed process keeps no one out"
    assert_same(final(folder), undisturbed)


def stopped(pid: int) -> bool:
    """Whether a process was stopped by SIGSTOP (Linux)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


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
