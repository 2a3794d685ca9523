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


@pytest.mark.parametrize("verb", ["stream", pytest.param("fit", marks=pytest.mark.slow)])
def test_hold_lock__a_system_without_fcntl(tmp_path: Path, verb: str) -> None:
    # As on Windows: importing it fails. The verbs start, and nobody is kept out.
    code = """import sys; sys.modules["fcntl"] = None
from pathlib import Path
from polyp_lightning.cli.verbs import main
from polyp_lightning.common.locks import alone_in
with alone_in(Path(sys.argv[1])): sys.exit(main([sys.argv[2], "--help_all"]))"""
    command = [sys.executable, "-c", code, str(tmp_path / "run"), verb]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "--overwrite" in done.stdout or "--ckpt_path" in done.stdout) == (0, True), done.stderr


def test_hold_lock__where_a_folder_can_not_be_locked_a_file_in_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Windows opens no folder. Its own lock of the file, filelock's `LockFileEx`, is not tried here.
    monkeypatch.setattr("polyp_lightning.common.locks._FOLDERS_LOCK", False)
    with hold_lock(tmp_path) as first, hold_lock(tmp_path) as second:
        assert (first is None, second is None) == (False, True)
    assert [path.name for path in tmp_path.iterdir()] == [".folder.lock"]


def test_alone_in__names_the_process_that_has_the_folder(tmp_path: Path) -> None:
    with (
        alone_in(tmp_path / "run"),
        pytest.raises(ConfigError, match=rf"another process.*{os.getpid()}.* trains in .*run"),
        alone_in(tmp_path / "run"),
    ):
        pass
    assert list((tmp_path / "run").iterdir()) == []
