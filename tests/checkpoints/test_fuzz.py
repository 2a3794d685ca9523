"""A fuzz of what loads checkpoints: whatever is in the file, it loads or a message says why not; no code runs."""

import io
import random
import signal
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import SmallNet, replace_nets
from torch import Tensor

from polyp_lightning.checkpoints.file import read, write
from polyp_lightning.checkpoints.record import KEY, parse_record
from polyp_lightning.common.errors import PolypError
from polyp_lightning.training.module import PolypSegmenter

SECONDS = 10
# What a mutation puts in a value's place.
VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 2**63, float("nan"), float("inf"), "", "x", "../../x", "os.system", b"x", [], {}, (), [[]]),
    *({"class_path": "os.system"}, {1: 2}, [1, "a", None], torch.zeros(0), torch.zeros(3, 3, dtype=torch.int8)),
    *(torch.zeros(2).to_sparse(), torch.empty(2, device="meta"), torch.tensor(1 + 1j), {"a": {"b": [1, {"c": 2}]}}),
]


class Ran(BaseException):
    """Code from a checkpoint was run."""


class Malice:
    """Unpickled without care it ends the test."""

    def __reduce__(self) -> Any:
        return exec, ("from test_fuzz import Ran; raise Ran",)


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    replace_nets(lambda *_: SmallNet(), monkeypatch)
    module = PolypSegmenter(image_size=32)
    stored: dict[str, Any] = {
        "epoch": 3,
        "global_step": 7,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": module.state_dict(),
        "hyper_parameters": dict(module.hparams),
        "callbacks": {"TaylorFOPruning": {"history": [{"stage": 0}]}},
        "optimizer_states": [],
        "loops": {},
    }
    module.on_save_checkpoint(stored)
    stored[KEY]["data"] = {"data": "phantom", "split": "by-number", "image_size": 32}
    return stored


def load(path: Path) -> None:
    """Everything between a file and a network that runs, as `test` and `--model.init_from` have it."""
    stored = read(path)
    flags = parse_record(stored).flags()
    assert all(flag.startswith(("--model.", "--data.")) for flag in flags)
    module = PolypSegmenter(image_size=32)
    module.on_load_checkpoint(stored)
    module.load_state_dict(stored["state_dict"])
    PolypSegmenter(image_size=32, init_from=str(path))


def places(value: Any, inside: Any = None, key: Any = None) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a nested value."""
    if inside is not None:
        yield inside, key
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield from places(item, value, name)


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    return [copied(v) for v in value] if isinstance(value, list) else value


def bytes_changed(good: bytes, content: dict[str, Any], rng: random.Random) -> bytes:
    """Flipped, deleted, repeated or cut off."""
    data = bytearray(good)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at, length = rng.randrange(max(len(data), 1)), rng.choice([1, 1, 4, 64, 1024])
        kind = rng.randrange(4)
        if kind == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length]
        else:
            del data[at:]
    return bytes(data)


def parts_changed(good: bytes, content: dict[str, Any], rng: random.Random) -> bytes:
    """The same inside of the pickle, with the checksums made right: nothing but the unpickler stands in the way."""
    result = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(good)) as old, zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as new:
        for part in old.infolist():
            data = old.read(part)
            changes = part.filename.endswith("data.pkl") or rng.random() < 0.03
            new.writestr(part.filename, bytes_changed(data, content, rng) if changes and data else data)
    return result.getvalue()


def values_changed(good: bytes, content: dict[str, Any], rng: random.Random) -> bytes:
    """Entries replaced, renamed or left out; now and then by an object with code."""
    changed = copied(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        inside, key = rng.choice(list(places(changed)))
        kind = rng.randrange(8)
        if kind == 0 and isinstance(inside, dict):
            inside.pop(key)
        elif kind == 1 and isinstance(inside, dict):
            inside[rng.choice(["x", 7, f"{key}x"])] = inside.pop(key)
        elif kind == 2 and isinstance(inside[key], Tensor) and inside[key].ndim and not inside[key].is_sparse:
            inside[key] = inside[key][1:]
        elif kind == 3 and rng.random() < 0.3:
            inside[key] = Malice()
        else:
            inside[key] = copied(rng.choice(VALUES))
    result = io.BytesIO()
    torch.save(changed, result)
    return result.getvalue()


MUTATIONS: list[Callable[[bytes, dict[str, Any], random.Random], bytes]] = [
    bytes_changed,
    parts_changed,
    values_changed,
]


def too_long(number: int, frame: Any) -> None:
    raise TimeoutError(f"a checkpoint took longer than {SECONDS} s")


def fuzz(content: dict[str, Any], folder: Path, rounds: int, seed: int) -> dict[str, int]:
    """Loads mutations; how many loaded and how many were refused."""
    write(content, folder / "good.ckpt")
    good, path = (folder / "good.ckpt").read_bytes(), folder / "bad.ckpt"
    rng, outcome = random.Random(seed), {"loaded": 0, "refused": 0}  # noqa: S311
    before = signal.signal(signal.SIGALRM, too_long)
    try:
        for number in range(rounds):
            path.write_bytes(MUTATIONS[number % len(MUTATIONS)](good, content, rng))
            signal.alarm(SECONDS)
            try:
                load(path)
                outcome["loaded"] += 1
            except PolypError:
                outcome["refused"] += 1
            except Exception as error:
                kept = folder / f"escaped-{number}.ckpt"
                path.rename(kept)
                raise AssertionError(f"{kept} gives {type(error).__name__}: {error}") from error
            finally:
                signal.alarm(0)
    finally:
        signal.signal(signal.SIGALRM, before)
    return outcome


def test_load__the_good_one_loads(content: dict[str, Any], tmp_path: Path) -> None:
    write(content, tmp_path / "good.ckpt")
    load(tmp_path / "good.ckpt")


def test_load__mutations_load_or_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    outcome = fuzz(content, tmp_path, 150, seed=0)
    assert outcome["refused"] > 60


@pytest.mark.slow
def test_load__three_thousand_mutations_load_or_are_refused(content: dict[str, Any], tmp_path: Path) -> None:
    outcome = fuzz(content, tmp_path, 3000, seed=1)
    assert outcome["refused"] > 1500
    print(outcome)
