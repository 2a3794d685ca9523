"""Locks between processes, held by the system itself: it lets go of them when the processes that hold them die."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from polyp_lightning.common.errors import ConfigError

_held: set[int] = set()


def _let_go() -> None:
    # A forked worker of the data loader outlives a killed training by seconds, and would keep the folder meanwhile.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def hold_lock(path: Path, *, wait: bool = False) -> Iterator[int | None]:
    """Locks a folder or a file, made where there is none; yields None where another process has the lock.

    Forked copies of this process don't keep the lock. A file system without locks keeps nobody out.

    Args:
        path: what to lock. No file is left behind where it is a folder.
        wait: whether to wait for another process that has the lock.

    Raises:
        ConfigError: the system knows no locks.
    """
    # First: systems without locks can't open a folder either.
    fcntl = _fcntl()
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    _held.add(descriptor)
    try:
        taken = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            taken = False
        except OSError:
            # NFS knows no locks of folders.
            pass
        yield descriptor if taken else None
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other trainings out of a run's folder, which is made where there is none; refuses one that is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    with hold_lock(folder) as descriptor:
        if descriptor is None:
            msg = (
                f"another process{_holder(folder)} trains in {folder}, and two would overwrite each other's "
                "checkpoints; wait for it or stop it, or give this run another folder with --trainer.default_root_dir"
            )
            raise ConfigError(msg)
        yield


def _fcntl() -> Any:
    try:
        import fcntl
    except ImportError as error:
        msg = "this system has no file locks, which keep two runs apart; use Linux or macOS, or WSL on Windows"
        raise ConfigError(msg) from error
    return fcntl


def _holder(path: Path) -> str:
    """`` (3141)``, the process that has locked a file; empty where the system does not tell (Linux does)."""
    inode = str(path.stat().st_ino)
    try:
        locks = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except OSError:
        return ""
    # 1: FLOCK  ADVISORY  WRITE 3141 fe:00:402116 0 EOF
    found = [lock[4] for lock in locks if lock[1] == "FLOCK" and lock[5].rpartition(":")[2] == inode]
    return f" ({found[0]})" if found else ""
