"""Disks that are read-only or full, from the start or in the middle of a run: told, and nothing is left half-written.

The disks are real ones in memory. Who may not mount any skips those tests; the full disk has a stand-in in
``test_bad_runs.py``.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_run import SmallNet
from test_bad_runs import CUT, PHANTOM, SMALL, complaint, here

from polyp_lightning import segmenter
from polyp_lightning.checkpoint_file import read
from polyp_lightning.tracking import StageCheckpoint

__all__ = ["here"]

RUN = ["fit", *PHANTOM, *SMALL, *CUT, "--trainer.default_root_dir", "disk/run"]


def mount(*options: str) -> None:
    """Needs the right to mount."""
    done = subprocess.run([str(shutil.which("mount")), *options], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no right to mount: {done.stderr.strip()}")


@pytest.fixture
def disk(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A disk of 4 MB."""
    if shutil.which("mount") is None:
        pytest.skip("no mount")
    monkeypatch.setattr(segmenter, "build_net", lambda *_: SmallNet())
    (here / "disk").mkdir()
    mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(here / "disk"))
    yield here / "disk"
    subprocess.run([str(shutil.which("umount")), "-l", str(here / "disk")], check=True)


def read_only(disk: Path) -> None:
    mount("-o", "remount,ro", str(disk))


def full(disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (disk / "filler").write_bytes(bytes(2**23))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_fit__folder_on_a_read_only_disk(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (disk / "mine").write_text("mine")
    read_only(disk)
    line = complaint(capsys, *RUN)
    assert "nothing can be written: [Errno 30] Read-only file system" in line
    assert "--trainer.default_root_dir" in line
    assert contents(disk) == {disk / "mine": b"mine"}


@pytest.mark.parametrize(("spoil", "message"), [(read_only, "[Errno 30]"), (full, "[Errno 28]")])
def test_fit__disk_that_fails_in_the_middle_leaves_earlier_files_intact(
    disk: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    before: dict[Path, bytes] = {}
    enter = StageCheckpoint.on_train_epoch_start

    def around(self: StageCheckpoint, trainer: object, pl_module: object) -> None:
        if trainer.current_epoch == 1:  # type: ignore[attr-defined]
            before.update(contents(disk / "run"))
            spoil(disk)
        enter(self, trainer, pl_module)  # type: ignore[arg-type]

    monkeypatch.setattr(StageCheckpoint, "on_train_epoch_start", around)
    assert f"nothing can be written: {message}" in complaint(capsys, *RUN)
    assert contents(disk / "run") == before
    assert read(disk / "run" / "checkpoints" / "last.ckpt")["epoch"] == 0
