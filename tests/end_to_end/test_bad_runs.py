"""Bad input, one row a case: the command, what is wrong, and the message that says so.

Damaged checkpoints are in ``test_checkpoint_file.py``, checkpoints and configurations that do not go together in
``test_starts.py``, each data set's own faults in ``tests/data``; the rows here go through the command line.
"""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_runs import CUT, PHANTOM, SMALL, complaint
from PIL import Image

from polyp_lightning.checkpoints.file import read
from polyp_lightning.cli import main
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.training import module as segmenter


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (40, 50), mask: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    if mask:
        pixels = np.zeros(size, np.uint8)
        pixels[5:20, 5:25] = 255
    Image.fromarray(pixels).save(path)


def folder(root: Path, names: list[str]) -> Path:
    for seed, name in enumerate(names):
        picture(root / "images" / f"{name}.png", seed)
        picture(root / "masks" / f"{name}.png", mask=True)
    return root


NAMES = [f"f{n}" for n in range(8)]


def grey_text(root: Path) -> None:
    (root / "images" / "f3.png").write_text("no image at all")


def cut_short(root: Path) -> None:
    path = root / "images" / "f3.png"
    path.write_bytes(path.read_bytes()[:200])


def lists(text: str) -> Callable[[Path], None]:
    return lambda root: (root / "train.txt").write_text(text, encoding="utf-8")  # type: ignore[return-value]


DATA_FAULTS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("text called png", grey_text, r"cannot read .*f3\.png: .*Replace the file by an intact copy"),
    ("cut short", cut_short, r"cannot read .*f3\.png: "),
    (
        "a video called png",
        lambda r: (r / "images" / "f3.png").write_bytes(b"\0\0\0\x18ftypmp42" * 9),
        r"read .*f3\.png",
    ),
    (
        "mask of another size",
        lambda r: picture(r / "masks" / "f3.png", size=(9, 9), mask=True),
        "Both must have one size",
    ),
    ("mask of ones", lambda r: Image.new("L", (50, 40), 1).save(r / "masks" / "f3.png"), "no brighter than 1"),
    ("mask missing", lambda r: (r / "masks" / "f3.png").unlink(), r"is called like f3\.png.*Each image needs one mask"),
    ("image missing", lambda r: (r / "images" / "f3.png").unlink(), r"is called like f3\.png"),
    (
        "16 bits",
        lambda r: Image.fromarray(np.full((40, 50), 999, np.uint16)).save(r / "images" / "f3.png"),
        "more than 8 bits a channel",
    ),
    ("list outside", lists("../f1\n"), r"holds names that are paths: \.\./f1"),
    ("list absolute", lists("/etc/passwd\n"), "holds names that are paths: /etc/passwd"),
    ("list of what is not there", lists("f1\nf99\n"), "does not have: f99. Correct the list"),
    ("list twice", lists("f1\nf1\n"), "more than once: f1. Remove the repeated lines"),
    ("list in latin-1", lambda r: (r / "train.txt").write_bytes(b"f\xe9\n"), "must be UTF-8 text"),
]


@pytest.mark.parametrize(("spoil", "message"), [r[1:] for r in DATA_FAULTS], ids=[r[0] for r in DATA_FAULTS])
def test_data__fault_is_told(
    here: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], Any], message: str
) -> None:
    root = folder(here / "set", NAMES)
    spoil(root)
    line = complaint(capsys, "fit", "--data.name", "folder", "--data.root", str(root), *SMALL, *CUT)
    assert re.search(message, line), line
    assert not (here / "runs").exists() or not list((here / "runs").rglob("*.ckpt"))


OPTION_FAULTS: list[tuple[str, list[str], str]] = [
    ("target below floors", ["--pruning.target", "0.001"], "target"),
    ("schedule too long", ["--pruning.end", "9"], "lower --pruning.end or raise --trainer.max_epochs"),
    ("no such size", ["--data.image_size", "100"], "image_size=100 must be a multiple of 32"),
    ("no such size for PAN", ["--data.image_size", "48"], "multiple of 32"),
    ("negative workers", ["--data.num_workers", "-1"], "--data.num_workers=-1 is too small"),
    ("unknown key", ["--data.batchsize", "4"], "--data.batchsize is no option. Did you mean --data.batch_size"),
    ("key without its group", ["--target", "0.5"], "--target is no option. Did you mean --pruning.target?"),
    ("shortened key", ["--data.n", "kvasir"], "--data.n is no option"),
    ("wrong type", ["--data.batch_size", "four"], "--data.batch_size: Expected a whole number. Got value: four"),
    ("wrong choice", ["--pruning.schedule", "steep"], "--pruning.schedule: Expected one of 'linear', 'cubic'"),
    ("unknown criterion", ["--pruning.criterion", "tailor"], "taylor"),
    ("no devices", ["--trainer.devices", "0"], "`Trainer(devices='0')` value is not a valid input"),
    ("no GPU", ["--trainer.accelerator", "gpu"], "No supported gpu backend found! (--trainer)"),
    ("accumulating nothing", ["--trainer.accumulate_grad_batches", "0"], "accumulate_grad_batches=0 is too small"),
    ("no training batch", ["--trainer.limit_train_batches", "0"], "--trainer.limit_train_batches=0 is too small"),
    ("a share of no batch", ["--trainer.limit_train_batches", "0.001"], "0.001 * 2 < 1. Please increase"),
    ("a share of no validation batch", ["--trainer.limit_val_batches", "0.001"], "0.001 * 1 < 1. Please increase"),
    ("no epoch", ["--trainer.max_epochs", "0"], "--trainer.max_epochs=0 is too small: at least 1"),
    ("no step", ["--trainer.max_steps", "0"], "--trainer.max_steps=0 is too small: at least 1"),
    ("no time", ["--trainer.max_time", "00:00:00:00"], "nothing was trained: not one batch was left"),
    ("LBFGS", ["--model.optimizer", "torch.optim.LBFGS"], "LBFGS works on one vector of all weights"),
    ("SparseAdam", ["--model.optimizer", "torch.optim.SparseAdam"], "SparseAdam takes sparse gradients only"),
    ("Muon", ["--model.optimizer", "torch.optim.Muon"], "Muon only supports 2D parameters"),
    (
        "spawned processes",
        ["--trainer.devices", "2", "--trainer.strategy", "ddp_spawn"],
        "DDP started by spawn can't prune",
    ),
    ("FSDP without GPU", ["--trainer.strategy", "fsdp"], "The strategy `fsdp` requires a GPU accelerator"),
    ("no such configuration", ["--config", "nowhere.yaml"], "--config: File does not exist: "),
]


@pytest.mark.parametrize(("more", "message"), [r[1:] for r in OPTION_FAULTS], ids=[r[0] for r in OPTION_FAULTS])
def test_options__fault_is_told(here: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str) -> None:
    assert message in complaint(capsys, "fit", *PHANTOM, *SMALL, *CUT, *more)


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_verbs__random_weights_are_not_scored(here: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    line = complaint(capsys, verb, *PHANTOM, *SMALL)
    assert f"{verb} needs a trained network" in line
    assert "--ckpt_path FILE" in line
    assert "--model.init_from FILE" in line


def test_verbs__a_configuration_may_name_the_checkpoint(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "mine.yaml").write_text("ckpt_path: nowhere.ckpt\n")
    assert "nowhere.ckpt is not a file" in complaint(capsys, "test", "--config", "mine.yaml", *PHANTOM, *SMALL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data:\n  nmae: kvasir\n", "--data.nmae is no option. Did you mean --data.name"),
        ("dta:\n  name: kvasir\n", "--dta.name is no option. Did you mean --data.name?"),
        ("data:\n  image_size: big\n", "--data.image_size: Expected a whole number. Got value: big"),
        ("data: [1\n", "Problems parsing config"),
    ],
)
def test_config__fault_names_the_key_and_the_nearest(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (here / "mine.yaml").write_text(text)
    assert message in complaint(capsys, "fit", "--config", "mine.yaml")


def test_data__names_with_spaces_quotes_and_other_scripts(here: Path) -> None:
    names = ["a b", "it's", 'say "x"', "полип", "息肉", "$(touch x)", "-rf", "é;ü", "%s{0}"]
    root = folder(here / "données ' 1", names)
    where = ["--data.name", "folder", "--data.root", str(root), "--data.cache_dir", "cache dir"]
    run = here / "run ü"
    assert main(["fit", *where, *SMALL, *CUT, "--trainer.default_root_dir", str(run)]) == 0
    for name in ("train.txt", "val.txt", "test.txt"):
        assert not (root / name).exists()
    last = str(run / "checkpoints" / "last.ckpt")
    assert main(["predict", "--ckpt_path", last, *where, *SMALL, "--masks.output", str(here / "out")]) == 0
    assert {path.stem for path in (here / "out").glob("*.png")} <= set(names)
    assert not (here / "x").exists()


def test_data__lists_of_a_windows_editor_are_read(here: Path) -> None:
    root = folder(here / "set", NAMES)
    for part, names in (("train", NAMES[:4]), ("val", NAMES[4:6]), ("test", NAMES[6:])):
        (root / f"{part}.txt").write_bytes("\r\n".join(["\ufeff" + names[0], *names[1:], ""]).encode())
    data = PolypDataModule("folder", str(root), image_size=32, num_workers=0, cache_dir="cache")
    assert {name for batch in data.train_dataloader() for name in batch["name"]} == set(NAMES[:4])


def test_data__more_workers_than_images(here: Path) -> None:
    data = PolypDataModule(phantom_frames=7, image_size=32, num_workers=16, cache_dir="cache")
    loaders = [data.train_dataloader(), data.val_dataloader(), *data.test_dataloader()]
    assert [loader.num_workers for loader in loaders] == [5, 1, 1]


def not_finite(kind: str) -> Any:
    """A training loss that is poisoned in the second epoch."""

    def step(self: Any, batch: dict[str, Any], index: int) -> Any:
        if self.current_epoch == 1 and kind == "batch":
            batch["image"] = batch["image"].float()
            batch["image"][0, 0, 0, 0] = float("nan")
        if self.current_epoch == 1 and kind == "loss":
            batch["image"] = batch["image"].float() * 1e30
        return ORIGINAL(self, batch, index)

    return step


ORIGINAL = segmenter.PolypSegmenter.training_step


@pytest.mark.parametrize(
    ("kind", "message"), [("batch", "the images hold numbers"), ("weights", "weights are not finite")]
)
def test_fit__not_finite_stops_and_keeps_the_last_good_checkpoint(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    if kind == "weights":

        def poison(self: Any) -> None:
            if self.current_epoch == 1:
                next(self.net.parameters()).data[0] = float("nan")

        monkeypatch.setattr(segmenter.PolypSegmenter, "on_validation_start", poison)
    monkeypatch.setattr(segmenter.PolypSegmenter, "training_step", not_finite(kind))
    root = folder(here / "set", NAMES)
    where = ["--data.name", "folder", "--data.root", str(root), "--trainer.default_root_dir", "run"]
    line = complaint(capsys, "fit", *where, *SMALL, *CUT, "--pruning.target", "1")
    assert message in line
    if kind == "batch":
        assert line.count(str(root / "images")) == 4, "the batch's four files"
        assert "the training loss is nan" in line
    last = read(here / "run" / "checkpoints" / "last.ckpt")
    assert last["epoch"] == 0
    assert all(torch.isfinite(value).all() for value in last["state_dict"].values())


def test_fit__output_folder_that_is_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "taken").write_text("mine")
    line = complaint(capsys, "fit", *PHANTOM, *SMALL, *CUT, "--trainer.default_root_dir", "taken/run")
    assert "nothing can be written" in line
    assert "--trainer.default_root_dir" in line
    assert (here / "taken").read_text() == "mine"


FULL = """
import resource, signal, sys
from polyp_lightning.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
def test_fit__full_disk_leaves_earlier_files_intact(here: Path) -> None:
    """The limit on a file's size stands in for a full disk: the second run can write no checkpoint."""
    run = ["fit", *PHANTOM, *SMALL, *CUT, "--data.cache_dir", "cache", "--trainer.default_root_dir", "run"]
    first = subprocess.run([sys.executable, "-c", FULL, "0", *run], capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    before = {path: path.read_bytes() for path in (here / "run").rglob("*") if path.is_file()}
    again = ["fit", "--ckpt_path", "run/checkpoints/last.ckpt", "--trainer.max_epochs", "4"]
    again += ["--model.resume_optimizer", "false"]
    second = subprocess.run([sys.executable, "-c", FULL, "1000000", *again], capture_output=True, text=True)
    assert second.returncode == 2, second.stderr
    assert "nothing can be written: [Errno 27]" in second.stderr
    after = {path: path.read_bytes() for path in (here / "run").rglob("*") if path.is_file()}
    assert after == before
