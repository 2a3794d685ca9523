"""W&B's service dies, hangs or can't be reached: training goes on, a warning says so, and what was logged is kept."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from slow_wandb import SlowServer, slow_server
from wandb_file import find_run, read_run, records

from polyp_lightning.checkpoints.file import read
from polyp_lightning.tracking.service import Calls, is_service_error, quiet_cleaner

SCRIPT = Path(__file__).parent.parent / "support" / "small_run.py"
RUN = [
    *("fit", "--data.phantom_frames", "14", "--data.image_size", "32", "--data.batch_size", "2"),
    *("--data.num_workers", "0", "--trainer.max_epochs", "4", "--trainer.accelerator", "cpu"),
    *("--trainer.default_root_dir", "run", "--data.cache_dir", "cache", "--trainer.log_every_n_steps", "1"),
    *("--trainer.enable_progress_bar", "false", "--pruning.start", "1", "--pruning.end", "1"),
]


def fit(folder: Path, **environment: str) -> tuple[str, float]:
    """A real run in a process of its own; its standard error, and seconds."""
    # The sessions of other tests have a service of their own.
    env = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    env |= {"HOME": str(folder), "OMP_NUM_THREADS": "1", **environment}
    begun = time.monotonic()
    command = [sys.executable, str(SCRIPT), *RUN]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    last = read(folder / "run" / "checkpoints" / "last.ckpt")
    assert (last["epoch"], last["global_step"]) == (3, 20), "trained to the end"
    return done.stderr, time.monotonic() - begun


def losses(folder: Path) -> list[int]:
    """The steps whose losses stand in the W&B run's file."""
    steps = []
    for record in records(next(find_run(folder).glob("run-*.wandb"))):
        row = {".".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        if "train/loss_step" in row:
            steps.append(int(row["trainer/global_step"]))
    return steps


# W&B's service writes what it was told to disk every 15 seconds.
WRITTEN = "17"


@pytest.mark.parametrize(
    ("number", "reason", "wait"),
    [
        pytest.param(signal.SIGKILL, ("Connection lost", "[Errno "), "0", id="dies early"),
        pytest.param(signal.SIGKILL, ("Connection lost", "[Errno "), WRITTEN, id="dies", marks=pytest.mark.slow),
        pytest.param(signal.SIGSTOP, "its service has not answered", WRITTEN, id="hangs", marks=pytest.mark.slow),
    ],
)
def test_fit__service_that_fails_in_the_middle(
    tmp_path: Path, number: int, reason: str | tuple[str, ...], wait: str
) -> None:
    told, seconds = fit(tmp_path, WANDB_MODE="offline", SERVICE_GETS=f"{int(number)}:2", SERVICE_LIVES=wait)
    found = re.findall(r"W&B has failed: (.*?)\. Training goes on without it; what was logged.*is in (\S+), ", told)
    assert len(found) == 1
    assert found[0][0].startswith(reason)
    assert (tmp_path / found[0][1]).resolve() == find_run(tmp_path)
    # 5 steps an epoch; the service got the signal at the start of epoch 2.
    kept = losses(tmp_path)
    # Without waiting for it, how much it has written by then is the machine's affair.
    assert kept == list(range(10 if wait == WRITTEN else len(kept)))
    assert len(kept) <= 10
    assert seconds < 90


@pytest.mark.slow
def test_fit__service_that_no_one_reaches(tmp_path: Path) -> None:
    # A port of this machine at which no one listens: unreachable wherever the test runs.
    told, seconds = fit(tmp_path, WANDB_API_KEY="0123456789" * 4, WANDB_BASE_URL="http://127.0.0.1:9")
    assert len(re.findall("W&B is offline: .*`wandb sync` uploads it later", told)) == 1
    assert losses(tmp_path) == list(range(20))
    assert read_run(tmp_path)["exit_code"] == 0
    assert seconds < 60


def logged_in(server: SlowServer) -> dict[str, str]:
    return {"WANDB_API_KEY": "0123456789" * 4, "WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}"}


@pytest.mark.slow
def test_fit__server_that_takes_3_seconds_for_each_answer_delays_only_the_end(tmp_path: Path) -> None:
    with slow_server(3) as server:
        told, _ = fit(tmp_path, **logged_in(server), SERVICE_FINISHES="90")
    assert "W&B" not in told
    # Each of the three tables asks it something, and the checkpoint does.
    assert server.asked.count("query ArtifactType") == 4
    trained = (tmp_path / "run" / "checkpoints" / "last.ckpt").stat().st_mtime
    assert trained < server.answered["query ArtifactType"], "training has waited"
    assert losses(tmp_path) == list(range(20))
    assert read_run(tmp_path)["exit_code"] == 0
    steps = [row["trainer/global_step"] for row in server.rows if "train/loss_step" in row]
    assert steps == list(range(20)), "all of it is online"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answers", "message"),
    [
        pytest.param(0, "W&B is offline: .*`wandb sync` uploads it later", id="never"),
        pytest.param(2, r"W&B has failed: its service has not answered within [\d.]+ s\. Training", id="no more"),
    ],
)
def test_fit__server_that_takes_calls_and_does_not_answer(tmp_path: Path, answers: int, message: str) -> None:
    with slow_server(0.1, answers) as server:
        told, seconds = fit(tmp_path, **logged_in(server), SERVICE_FINISHES="90")
    assert len(server.asked) > answers
    assert len(re.findall(message, told)) == 1
    assert losses(tmp_path) == list(range(20))
    assert seconds < 190


@pytest.mark.slow
def test_fit__server_that_falls_silent_costs_the_entries_that_are_counted(tmp_path: Path) -> None:
    """What follows a table waits for the server, and is given up with it."""
    with slow_server(0.1, 2) as server:
        told, seconds = fit(tmp_path, **logged_in(server), SERVICE_FINISHES="8")
    found = re.findall(
        r"but for the last 15 s or so and (\d+) entries that waited for an answer, is in \S+/wandb/", told
    )
    assert len(found) == 1, told
    written = losses(tmp_path)
    assert written == list(range(len(written))), "a gap in what is there"
    assert 0 < 20 - len(written) <= int(found[0])
    assert seconds < 90


def test_calls__count_what_was_not_done() -> None:
    calls = Calls()
    for number in range(4):
        calls.add(lambda number=number: time.sleep(number and 5))
    with pytest.raises(TimeoutError):
        calls.wait(0.3)
    assert calls.unmade == 3
    calls.close()


def test_calls__are_made_in_turn_and_nobody_waits() -> None:
    calls, made = Calls(), []
    begun = time.monotonic()
    for number in range(3):
        calls.add(lambda number=number: (time.sleep(0.2), made.append(number)))
    calls.check(5)
    assert time.monotonic() - begun < 0.2
    calls.wait(5)
    assert made == [0, 1, 2]
    calls.close()


def test_calls__hand_on_errors_and_do_not_wait_forever() -> None:
    calls = Calls()
    calls.add(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        calls.wait(5)
    calls.add(lambda: time.sleep(5))
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"has not answered within 0\.1 s"):
        calls.wait(0.1)
    with pytest.raises(TimeoutError, match=r"has not answered within 0\.05 s"):
        calls.check(0.05)
    calls.check(5)
    assert time.monotonic() - begun < 2
    calls.close()


def test_quiet_cleaner__hides_no_other_threads_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread of W&B's own class, whose service is gone; then one of anybody's."""
    from wandb.sdk.lib.service.service_finalizer import ServiceFinalizer

    class Gone:
        def run(self, _: object) -> None:
            raise ConnectionResetError("Connection lost")

    reported: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(str(args.exc_value)))

    def fail() -> None:
        cleaner = ServiceFinalizer(cast("Any", Gone()), cast("Any", SimpleNamespace(publish=print)))
        cleaner.finalize(cleaner, cast("Any", "request"))()
        cleaner.close()

    fail()
    assert reported == ["Connection lost"]
    for _ in range(2):
        quiet_cleaner()
        fail()
    assert reported == ["Connection lost"]
    other = threading.Thread(target=lambda: 1 / 0)
    other.start()
    other.join()
    assert reported == ["Connection lost", "division by zero"]


def test_is_of_the_service__mistakes_of_the_caller_are_not() -> None:
    import wandb

    assert is_service_error(ConnectionResetError("x"))
    assert is_service_error(TimeoutError("x"))
    assert is_service_error(wandb.errors.CommError("x"))
    assert not is_service_error(TypeError("x"))
