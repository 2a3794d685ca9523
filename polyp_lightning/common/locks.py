"""Locks between processes, held by the system itself: it lets go of them when the processes that hold them die."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import lock_descriptor

from polyp_lightning.common.errors import ConfigError

_held: set[int] = set()
_FOLDERS_LOCK = os.name == "posix"


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
        path: what to lock. Where it is a folder, no file is left behind but on Windows, which can't lock a folder.
        wait: whether to wait for another process that has the lock.
    """
    if path.is_dir() and not _FOLDERS_LOCK:
        path = path / ".folder.lock"
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    _held.add(descriptor)
    try:
        try:
            taken = lock_descriptor(descriptor, blocking=wait)
        except OSError:
            # NFS knows no locks of folders.
            taken = True
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
