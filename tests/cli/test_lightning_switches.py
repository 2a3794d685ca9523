"""Lightning's own switches: the product's callbacks and defaults give way to the user's."""

import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_runs import PHANTOM, complaint
from PIL import Image
from small_run import SmallNet, replace_nets

from polyp_lightning.cli import main, run_options
from polyp_lightning.cli.run_options import choose_run_folder

FIT = [
    *("fit", *PHANTOM, "--data.image_size", "32", "--data.batch_size", "4", "--data.num_workers", "0"),
    *("--data.cache_dir", "cache", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"),
    *("--pruning.start", "1", "--pruning.end", "1", "--pruning.target", "0.7", "--trainer.default_root_dir", "run"),
]
OFFLINE = ["--trainer.logger", "false"]


@pytest.fixture
def small(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    replace_nets(lambda *_: SmallNet(), monkeypatch)
    return here


def files(here: Path) -> set[str]:
    return {str(path.relative_to(here / "run")) for path in (here / "run").rglob("*.ckpt")}


def test_fit__without_checkpoints(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, *OFFLINE, "--trainer.enable_checkpointing", "false"]) == 0
    assert files(small) == set()
    said = capsys.readouterr().out
    assert "of\ndense" in said or "stage" in said
    assert "--ckpt_path" not in said


def test_fit__barebones(small: Path) -> None:
    assert main([*FIT, "--trainer.barebones", "true"]) == 0
    assert files(small) == set()
    assert not list(small.rglob("wandb"))


@pytest.mark.parametrize("bar", ["TQDMProgressBar", pytest.param("RichProgressBar", marks=pytest.mark.slow)])
def test_fit__another_progress_bar(small: Path, bar: str) -> None:
    assert main([*FIT, *OFFLINE, f"--trainer.callbacks+=lightning.pytorch.callbacks.{bar}"]) == 0


def test_fit__own_checkpoint_beside_ours(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = [
        "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint",
        *("--trainer.callbacks.monitor", "val/loss", "--trainer.callbacks.dirpath", "run/mine"),
        *("--trainer.callbacks.filename", "lowest"),
    ]
    assert main([*FIT, *OFFLINE, *own]) == 0
    found = files(small)
    assert "mine/lowest.ckpt" in found
    assert {"checkpoints/last.ckpt", "checkpoints/pick.ckpt"} <= found
    assert len([name for name in found if re.match(r"checkpoints/stage[01]-epoch0[01]-dice", name)]) == 2
    # What the terminal proposes is ours.
    assert re.search(r"test --ckpt_path \S+/run/checkpoints/stage1-\S+ckpt", capsys.readouterr().out)
    capsys.readouterr()
    assert main(["validate", "--ckpt_path", "run/mine/lowest.ckpt", *OFFLINE, "--data.cache_dir", "cache"]) == 0


@pytest.mark.slow
def test_fit__own_stage_checkpoint_takes_the_place_of_ours(small: Path) -> None:
    own = ["--trainer.callbacks+=polyp_lightning.tracking.StageCheckpoint", "--trainer.callbacks.dirpath", "run/mine"]
    assert main([*FIT, *OFFLINE, *own]) == 0
    assert {str(Path(name).parent) for name in files(small)} == {"mine"}


@pytest.mark.parametrize("steps", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_fit__steps_that_end_before_the_first_cut(small: Path, capsys: pytest.CaptureFixture[str], steps: str) -> None:
    # 14 phantoms, of which 10 train: two steps an epoch.
    for limit in (["--trainer.max_steps", steps], ["--trainer.max_steps", steps, "--trainer.max_epochs", "-1"]):
        line = complaint(capsys, *FIT, *OFFLINE, *limit)
        assert re.search(
            r"the last cut is at epoch 1, but training ends after 1 epochs .*raise --trainer.max_steps", line
        )
    assert files(small) == set()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--model.arch", "DeepLabV3Plus", "--data.batch_size", "1"],
            "DeepLabV3Plus normalises single pixels .*there is 1; raise --data.batch_size to 2",
        ),
        (
            ["--model.arch", "PAN", "--data.image_size", "64"],
            "images of 64² pixels are too small for PAN: raise --data.image_size",
        ),
    ],
)
def test_fit__shapes_that_a_network_can_not_take(
    here: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    for more in ([], ["--trainer.num_sanity_val_steps", "0", "--pruning.target", "1"]):
        assert re.search(message, complaint(capsys, *FIT, *OFFLINE, *options, *more))


def test_prune__names_its_own_flag(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(8):
        for kind in ("images", "masks"):
            (small / "set" / kind).mkdir(parents=True, exist_ok=True)
            pixels = np.full((40, 40), 255 * (kind == "masks"), np.uint8)
            pixels[index:20] = 100 * (kind == "images")
            Image.fromarray(pixels).save(small / "set" / kind / f"{index}.png")
    assert main([*FIT, *OFFLINE, "--data.name", "folder", "--data.root", "set", "--pruning.target", "1"]) == 0
    capsys.readouterr()
    assert main(["prune", "--ckpt_path", "run/checkpoints/last.ckpt", "--data_root", "nowhere"]) == 2
    said = capsys.readouterr().err
    assert "--data_root names a folder" in said
    assert "--data.root" not in said


def test_choose_run_folder__two_in_one_second(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen(datetime):
        @classmethod
        def now(cls, *_: Any) -> "Frozen":
            return cls(2026, 11, 28, 10, 0, 0)

    monkeypatch.setattr(run_options, "datetime", Frozen)

    class Options:
        ckpt_path = None

        class data:
            name = "kvasir"

        class trainer:
            default_root_dir: str | None = None

    found = []
    for _ in range(3):
        Options.trainer.default_root_dir = None
        choose_run_folder(Options)
        found.append(str(Options.trainer.default_root_dir))
    assert found == ["runs/kvasir-20261128-100000", "runs/kvasir-20261128-100000-2", "runs/kvasir-20261128-100000-3"]


def test_choose_run_folder__two_processes_and_nothing_is_left_of_them(here: Path) -> None:
    code = (
        "import types, sys; from polyp_lightning.cli.run_options import choose_run_folder as choose\n"
        "N = types.SimpleNamespace; o = N(ckpt_path=None, data=N(name='d'), trainer=N(default_root_dir=None))\n"
        "choose(o); print(o.trainer.default_root_dir, flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    both = [subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    names = [process.stdout.readline().strip() for process in both if process.stdout]
    assert len(set(names)) == 2
    assert all((here / name).is_dir() for name in names)
    for process in both:
        process.communicate()
    assert list((here / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("moment", "message"),
    [
        ("on_train_batch_start", "it has written no checkpoint, so start it again"),
        ("on_train_end", "its checkpoints are whole, and it goes on with --ckpt_path last"),
    ],
)
def test_fit__an_interrupt_tells_what_is_left(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], moment: str, message: str
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"polyp_lightning.callbacks.together.KeepTogether.{moment}", stop)
    assert main([*FIT, *OFFLINE]) == 130
    assert f"fit was stopped by SIGINT; {message}\n" in capsys.readouterr().err
