"""Checkpoint files: killed writers, full disks, damage and malice."""

import io
import multiprocessing
import os
import pickle
import random
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from polyp_lightning.checkpoints.file import read, write
from polyp_lightning.common.errors import ConfigError, TrainingError

CONTENT: dict[str, Any] = {"epoch": 3, "state_dict": {"net.a": torch.arange(1000.0)}, "callbacks": {}}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    write(CONTENT, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def test_write__is_what_read_gives_back(good: Path) -> None:
    found = read(good)
    assert found["epoch"] == 3
    assert torch.equal(found["state_dict"]["net.a"], CONTENT["state_dict"]["net.a"])
    assert [p.name for p in good.parent.iterdir()] == ["last.ckpt"]


def test_write__weights_that_are_not_finite_leave_the_old_file(good: Path) -> None:
    before = good.read_bytes()
    with pytest.raises(TrainingError, match=r"not finite any more \(net\.a\), so last\.ckpt was not written"):
        write({**CONTENT, "state_dict": {"net.a": torch.tensor([1.0, float("nan")])}}, good)
    assert good.read_bytes() == before


def write_forever(path: Path, said: Any) -> None:
    # The threads of a pool do not come along in a fork, and a computation would wait for them.
    torch.set_num_threads(1)
    for epoch in range(10_000):
        write({"epoch": epoch, "state_dict": {"net.a": torch.full((1_000_000,), float(epoch))}}, path)
        said.value = epoch


def test_write__killed_in_the_middle_leaves_a_whole_file(tmp_path: Path) -> None:
    """A real process, killed twenty times at moments spread over its writing."""
    path, moments, left = tmp_path / "last.ckpt", random.Random(0), 0  # noqa: S311
    context = multiprocessing.get_context("fork")
    for _ in range(20):
        said = context.Value("i", -1)
        process = context.Process(target=write_forever, args=(path, said))
        process.start()
        while said.value < 0:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.05))
        process.kill()
        process.join()
        found = read(path)
        assert found["epoch"] >= said.value
        assert torch.equal(found["state_dict"]["net.a"], torch.full((1_000_000,), float(found["epoch"])))
        left += len(list(tmp_path.glob(".*.ckpt")))
    assert left > 0, "no kill fell into a write: the test shows nothing"


FILLER = """
import resource, signal, sys, torch
from pathlib import Path
from polyp_lightning.checkpoints.file import write
write({"epoch": 0, "state_dict": {"net.a": torch.zeros(1000)}}, Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write({"epoch": 1, "state_dict": {"net.a": torch.zeros(1_000_000)}}, Path(sys.argv[1]))
except OSError as error:
    print(error.errno)
"""


def test_write__full_disk_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    """The limit on a file's size stands in for a full disk: the write fails in the same place."""
    done = subprocess.run([sys.executable, "-c", FILLER, str(tmp_path / "last.ckpt")], capture_output=True, text=True)
    assert done.stdout.strip() == "27", done.stderr  # EFBIG
    assert read(tmp_path / "last.ckpt")["epoch"] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


class Malice:
    """Unpickled without care it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.find(CONTENT["state_dict"]["net.a"].numpy().tobytes()[:64]) + 2000] ^= 1
    path.write_bytes(data)


def rewritten(change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    """An archive with correct checksums over changed parts."""

    def damage(path: Path) -> None:
        with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as old, zipfile.ZipFile(path, "w", compression) as new:
            for part in old.infolist():
                new.writestr(part.filename, change(part.filename, old.read(part)))

    return damage


def longer_storage(name: str, data: bytes) -> bytes:
    """The pickle claims a tensor of a hundred million numbers where the archive has a thousand."""
    if not name.endswith("data.pkl"):
        return data
    number = b"M" + (1000).to_bytes(2, "little")
    assert number in data
    return data.replace(number, b"J" + (100_000_000).to_bytes(4, "little"))


FAULTS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("missing", lambda path: path.unlink(), r"is not a file; give a checkpoint that `fit` has written"),
    ("empty", lambda path: path.write_bytes(b""), "is empty"),
    ("text", lambda path: path.write_text("no checkpoint"), "is not a checkpoint: it does not begin like one"),
    ("bare pickle", lambda path: path.write_bytes(pickle.dumps({"a": 1})), "does not begin like one"),
    ("truncated", lambda path: path.write_bytes(path.read_bytes()[:-50]), r"ends too early, after \d+ bytes; copy it"),
    ("first half", lambda path: path.write_bytes(path.read_bytes()[:2000]), "ends too early, after 2000 bytes"),
    ("flipped bit", flipped, r"is damaged: its part \S+data/0 fails its checksum; copy it again"),
    ("other archive", rewritten(lambda name, data: b"hello"), "can't be read as a checkpoint|holds something else"),
    ("compressed", rewritten(lambda _, data: data, zipfile.ZIP_DEFLATED), "compressed parts.*refused unread"),
    ("false length", rewritten(longer_storage), r"can't be read as a checkpoint \(RuntimeError: Trying to resize"),
    ("list", lambda path: torch.save([1], path), "holds a list, not a checkpoint"),
    (
        "code",
        lambda path: torch.save({"x": Malice(path.with_name("ran"))}, path),
        r"holds code or objects \(\w+\.system\)",
    ),
    ("object", lambda path: torch.save({"x": Path("a")}, path), r"holds code or objects \(pathlib\.\w+\)"),
]


@pytest.mark.parametrize(("damage", "message"), [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS])
def test_read__fault_is_told_and_nothing_runs(good: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(good)
    with pytest.raises(ConfigError, match=message) as caught:
        read(good)
    assert str(caught.value).startswith(f"--ckpt_path {good}")
    assert "\n" not in str(caught.value)
    assert not good.with_name("ran").exists()


def test_read__torch_alone_would_not_see_a_flipped_bit(good: Path) -> None:
    """Should this ever fail, PyTorch compares the checksums itself."""
    flipped(good)
    found = torch.load(good, weights_only=True)["state_dict"]["net.a"]
    assert not torch.equal(found, CONTENT["state_dict"]["net.a"])
