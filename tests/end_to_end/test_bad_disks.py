"""Disks that are read-only or full, from the start or in the middle of a run: told, and nothing is left half-written.

The disks are real ones in memory. Who may not mount any skips those tests; the full disk has a stand-in in
``test_bad_runs.py``.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bad_runs import CUT, PHANTOM, SMALL, complaint
from small_run import SmallNet, replace_nets

from polyp_lightning.checkpoints.file import read
from polyp_lightning.cli import main
from polyp_lightning.tracking import StageCheckpoint

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
    replace_nets(lambda *_: SmallNet(), monkeypatch)
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


def spoilt_in_second_epoch(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[], None], folder: Path
) -> dict[Path, bytes]:
    """Does something to the disk at the start of a run's second epoch; what the folder held then, once it has."""
    before: dict[Path, bytes] = {}
    enter = StageCheckpoint.on_train_epoch_start

    def around(self: StageCheckpoint, trainer: object, pl_module: object) -> None:
        if trainer.current_epoch == 1:  # type: ignore[attr-defined]
            before.update(contents(folder))
            spoil()
        enter(self, trainer, pl_module)  # type: ignore[arg-type]

    monkeypatch.setattr(StageCheckpoint, "on_train_epoch_start", around)
    return before


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
    before = spoilt_in_second_epoch(monkeypatch, lambda: spoil(disk), disk / "run")
    assert f"nothing can be written: {message}" in complaint(capsys, *RUN)
    assert contents(disk / "run") == before
    assert read(disk / "run" / "checkpoints" / "last.ckpt")["epoch"] == 0


@pytest.mark.parametrize("where", ["run", "wandb"])
def test_fit__disk_that_fills_up_under_wandb(
    disk: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    recwarn: pytest.WarningsRecorder,
    where: str,
) -> None:
    """With the checkpoints on it the run ends with a message; with W&B's files alone it goes on to its end."""
    run = disk / "run" if where == "run" else disk.parent / "run"
    before = spoilt_in_second_epoch(monkeypatch, lambda: full(disk), run / "checkpoints")
    monkeypatch.setenv("WANDB_MODE", "offline")
    options = [*("fit", *PHANTOM, *SMALL[:-2], *CUT), "--trainer.default_root_dir", str(run)]
    options += ["--trainer.logger.save_dir", str(disk)] if where == "wandb" else []
    begun = time.monotonic()
    status = main([*options, "--data.cache_dir", "cache"])
    assert time.monotonic() - begun < 90
    told = capsys.readouterr().err
    assert "Traceback" not in told
    if where == "run":
        assert status == 2
        assert "error: nothing can be written: [Errno 28]" in told
        assert contents(run / "checkpoints") == before
    else:
        assert status == 0
        assert read(run / "checkpoints" / "last.ckpt")["epoch"] == 2
        assert len([w for w in recwarn if "W&B has failed: " in str(w.message)]) == 1
