import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.locks import alone_in, hold_lock

HOLD = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print('held', flush=True); sys.stdin.read()"


def hold(path: Path) -> "subprocess.Popen[bytes]":
    """Starts a process that locks a file by itself, and returns once it has."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_hold_lock__keeps_others_out_until_the_end(tmp_path: Path, kind: str) -> None:
    path = tmp_path if kind == "folder" else tmp_path / "a.lock"
    with hold_lock(path) as first:
        assert first is not None
        with hold_lock(path) as second:
            assert second is None
    with pytest.raises(KeyError), hold_lock(path):
        raise KeyError
    with hold_lock(path) as third:
        assert third is not None


def test_hold_lock__lets_go_when_the_holder_dies(tmp_path: Path) -> None:
    process = hold(tmp_path / "a.lock")
    with hold_lock(tmp_path / "a.lock") as lock:
        assert lock is None
    process.kill()
    process.wait()
    with hold_lock(tmp_path / "a.lock", wait=True) as lock:
        assert lock is not None


def test_hold_lock__waits(tmp_path: Path) -> None:
    process = hold(tmp_path / "a.lock")
    code = "import sys; from pathlib import Path; from polyp_lightning.common.locks import hold_lock\n"
    code += "with hold_lock(Path(sys.argv[1]), wait=True) as lock: print(lock is not None)"
    waiting = subprocess.Popen([sys.executable, "-c", code, tmp_path / "a.lock"], stdout=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(3)
    process.communicate()
    assert waiting.communicate(timeout=60)[0] == b"True\n"


def test_hold_lock__a_forked_worker_keeps_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    started, over = context.Event(), context.Event()

    def work() -> None:
        started.set()
        over.wait()

    with hold_lock(tmp_path):
        worker = context.Process(target=work)
        worker.start()
        started.wait()
    with hold_lock(tmp_path) as lock:
        assert lock is not None
    over.set()
    worker.join()


def test_hold_lock__disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", flock)
    with hold_lock(tmp_path) as lock:
        assert lock is not None


def test_hold_lock__windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ConfigError, match=r"no file locks.*WSL"), alone_in(tmp_path / "run"):
        pass


def test_alone_in__names_the_process_that_has_the_folder(tmp_path: Path) -> None:
    with (
        alone_in(tmp_path / "run"),
        pytest.raises(ConfigError, match=rf"another process.*{os.getpid()}.* trains in .*run"),
        alone_in(tmp_path / "run"),
    ):
        pass
    assert list((tmp_path / "run").iterdir()) == []
