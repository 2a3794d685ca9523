"""One training at a time in a run's folder: two would write over each other's checkpoints."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polyp_lightning.common.errors import ConfigError

_held: set[int] = set()


def _let_go() -> None:
    # A forked worker of the data loader outlives a killed training by seconds, and would keep the folder meanwhile.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other processes that ask for the same out of a folder, which is made where there is none.

    The folder itself is locked, so that no file is left behind; the system lets go of it when the process dies. Where
    the file system knows no locks of folders (NFS), nobody is kept out.

    Raises:
        ConfigError: another process has the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    _held.add(descriptor)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        msg = (
            f"another process{_holder(descriptor)} trains in {folder}, and two would overwrite each other's "
            "checkpoints; wait for it or stop it, or give this run another folder with --trainer.default_root_dir"
        )
        raise ConfigError(msg) from error
    except OSError:
        return


def _holder(descriptor: int) -> str:
    """`` (3141)``, the process that has locked a file; empty where the system does not tell (Linux does)."""
    inode = str(os.fstat(descriptor).st_ino)
    try:
        locks = [line.split() for line in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except OSError:
        return ""
    # 1: FLOCK  ADVISORY  WRITE 3141 fe:00:402116 0 EOF
    found = [lock[4] for lock in locks if lock[1] == "FLOCK" and lock[5].rpartition(":")[2] == inode]
    return f" ({found[0]})" if found else ""
