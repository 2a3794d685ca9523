"""Two machines, played by two processes that know each other by a port of 127.0.0.1 only: torchrun's and SLURM's."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import OPTIONS

from polyp_lightning.checkpoints.file import read
from polyp_lightning.checkpoints.record import KEY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SCRIPT = str(Path(__file__).parent.parent / "support" / "small_run.py")
# As README has it: a command that may be started again.
AUTO = ["--trainer.default_root_dir", "run", "--ckpt_path", "auto"]
FIT = [SCRIPT, "fit", *OPTIONS, "--data.batch_size", "2", "--trainer.strategy", "ddp", *AUTO]
TWO = ["--trainer.num_nodes", "2", "--trainer.devices", "1"]
LAST = Path("run") / "checkpoints" / "last.ckpt"
STOPPED = "fit was stopped by SIGTERM; its checkpoints are whole"

Launch = Callable[..., list[subprocess.Popen[str]]]


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Starts processes; none of them outlives its test."""
    processes = []

    def start(folder: Path, node: int, command: list[str], **environment: str) -> subprocess.Popen[str]:
        folder.mkdir(exist_ok=True)
        env = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(folder), "WANDB_MODE": "offline", **environment}
        output = (folder / f"output{node}.txt").open("a")
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=output, start_new_session=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def by_torchrun(launch: Any, folder: Path, *more: str, restarts: int = 0, **environment: str) -> list[Any]:
    """Two agents of one process each, which may be started again."""
    agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    agent += ["--max-restarts", str(restarts), "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    # Without it torch 2.15 serves restarted processes the addresses of the dead ones.
    environment |= {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    command = [*agent, "--rdzv-id", "1", "--local-addr", "127.0.0.1", *FIT, *TWO, *more]
    return [launch(folder, node, command, **environment) for node in (0, 1)]


def by_slurm(launch: Any, folder: Path, *more: str, second: Path | None = None, **environment: str) -> list[Any]:
    """What srun starts with one task on each of two nodes, whose second may have a folder of its own."""
    common = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2", "SLURM_NODELIST": "127.0.0.1"}
    common |= {"SLURM_JOB_NAME": "fit", "SLURM_JOB_ID": "4711", "SLURM_LOCALID": "0", "MASTER_PORT": free_port()}
    nodes = ({"SLURM_PROCID": str(node), "SLURM_NODEID": str(node)} for node in (0, 1))
    command = [sys.executable, *FIT, *TWO, *more]
    folders = (folder, second or folder)
    return [launch(folders[node], node, command, **common, **own, **environment) for node, own in enumerate(nodes)]


def ended(processes: list[Any], limit: float = 120) -> list[int]:
    end = time.monotonic() + limit
    return [process.wait(max(0.1, end - time.monotonic())) for process in processes]


def told(folder: Path) -> str:
    return "".join((folder / f"output{node}.txt").read_text() for node in (0, 1))


def runs(folder: Path) -> list[str]:
    """The ids of the W&B runs."""
    return [path.name.rpartition("-")[2] for path in sorted((folder / "run" / "wandb").glob("offline-run-*"))]


def assert_same(folder: Path, expected: dict[str, Any]) -> None:
    found = read(folder / LAST)
    assert (found["epoch"], found["global_step"]) == (expected["epoch"], expected["global_step"])
    assert found[KEY]["plan"] == expected[KEY]["plan"]
    assert all(torch.equal(found["state_dict"][name], value) for name, value in expected["state_dict"].items())
    assert not list((folder / "run" / "checkpoints").glob(".*")), "a half-written file is left"


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Lightning's own two processes end with, which need neither torchrun nor SLURM."""
    folder = tmp_path_factory.mktemp("one")
    command = [sys.executable, *FIT, "--trainer.devices", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return read(folder / LAST)


@pytest.mark.parametrize("start", [by_torchrun, by_slurm])
def test_machines__cut_alike_and_make_one_tracked_run(
    tmp_path: Path, launch: Launch, one_machine: dict[str, Any], start: Any
) -> None:
    assert ended(start(launch, tmp_path, "--trainer.logger", "polyp_lightning.tracking.RunLogger")) == [0, 0], told(
        tmp_path
    )[-3000:]
    scores = [json.loads((tmp_path / f"scores{rank}.json").read_text()) for rank in (0, 1)]
    assert scores[0] == scores[1]
    hashes = re.findall(r"the same in all 2 processes: SHA-256 ([0-9a-f]{16})", told(tmp_path))
    assert len(set(hashes)) == 2, "two cuts, two different networks"
    assert len(runs(tmp_path)) == 1
    assert_same(tmp_path, one_machine)
    print(start.__name__, hashes)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_torchrun__a_killed_process_is_started_again_and_goes_on(
    tmp_path: Path, launch: Launch, one_machine: dict[str, Any], rank: str
) -> None:
    agents = by_torchrun(launch, tmp_path, restarts=1, DIE_AT="step:12", RANK_DIES=rank)
    assert ended(agents) == [0, 0], told(tmp_path)[-3000:]
    assert "exitcode: -9" in told(tmp_path)
    assert "Restoring states from the checkpoint path at run/checkpoints/last.ckpt" in told(tmp_path)
    assert_same(tmp_path, one_machine)


@pytest.mark.parametrize("rank", ["0", "1", "all"])
def test_slurm__sigterm_ends_all_processes_and_the_job_goes_on(
    tmp_path: Path, launch: Launch, one_machine: dict[str, Any], rank: str
) -> None:
    stopped = ended(by_slurm(launch, tmp_path, DIE_AT="step:12", DIE_BY="15", RANK_DIES=rank))
    assert stopped == [143, 143], told(tmp_path)[-3000:]
    assert told(tmp_path).count(STOPPED) == 2
    assert "Traceback" not in told(tmp_path)
    assert read(tmp_path / LAST)["epoch"] == 1
    assert ended(by_slurm(launch, tmp_path)) == [0, 0], told(tmp_path)[-3000:]
    assert_same(tmp_path, one_machine)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_one_machine__sigterm_ends_both_processes(tmp_path: Path, launch: Launch, rank: str) -> None:
    command = [sys.executable, *FIT, "--trainer.devices", "2"]
    process = launch(tmp_path, 0, command, DIE_AT="step:12", DIE_BY="15", RANK_DIES=rank)
    assert ended([process]) == [143]
    assert (tmp_path / "output0.txt").read_text().count(STOPPED) == 2
    assert read(tmp_path / LAST)["epoch"] == 1


def test_torchrun__sigterm_to_the_agents_leaves_whole_checkpoints(
    tmp_path: Path, launch: Launch, one_machine: dict[str, Any]
) -> None:
    agents = by_torchrun(launch, tmp_path, restarts=1)
    end = time.monotonic() + 100
    while not (tmp_path / LAST).is_file() and time.monotonic() < end:
        time.sleep(0.05)
    for agent in agents:
        agent.terminate()
    assert all(ended(agents, 60))
    assert STOPPED in told(tmp_path)
    assert ended(by_torchrun(launch, tmp_path)) == [0, 0], told(tmp_path)[-3000:]
    assert_same(tmp_path, one_machine)


def test_machines__that_do_not_share_the_runs_folder_are_told(tmp_path: Path, launch: Launch) -> None:
    short = ["--trainer.max_epochs", "1", "--pruning.target", "1"]
    assert ended(by_slurm(launch, tmp_path, *short)) == [0, 0], told(tmp_path)[-3000:]
    tasks = by_slurm(launch, tmp_path, *short, second=tmp_path / "other")
    assert ended(tasks) == [2, 2]
    message = "error: 1 of 2 processes have found the checkpoint of --ckpt_path; all machines need the same folder"
    assert message in (tmp_path / "output0.txt").read_text()
