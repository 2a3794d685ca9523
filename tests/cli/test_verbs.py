"""The product end to end, as a user runs it: fit → validate → test → predict on phantoms, and what W&B kept."""

import csv
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from wandb_file import read_run

from polyp_lightning.callbacks.summary import next_command
from polyp_lightning.checkpoints.test_scores import read_images, read_scores
from polyp_lightning.cli import main
from polyp_lightning.common.files import sha256
from polyp_lightning.data import datamodule
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.data.loading import ImageDataset, SeededSampler
from polyp_lightning.data.mixing import Mixture
from polyp_lightning.tracking.dashboard import COLUMNS, SECTIONS

DATA = ["--data.phantom_frames", "56", "--data.image_size", "64", "--data.batch_size", "8", "--data.num_workers", "0"]
PRUNING = [
    "--pruning.target",
    "0.4",
    "--pruning.start",
    "1",
    "--pruning.end",
    "2",
    "--pruning.recalibration_batches",
    "2",
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No account and no network, whatever the machine that runs the tests has."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path_factory.getbasetemp()))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return ["--data.cache_dir", str(tmp_path_factory.mktemp("cache"))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: list[str]) -> Iterator[Path]:
    """A finished run's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        # Milliseconds whatever else this machine does.
        patch.setattr("polyp_lightning.common.timing.LEAST_SHARE", 0.0)
        folder = tmp_path_factory.mktemp("runs") / "run"
        patch.chdir(folder.parent)
        assert fit(folder, cache) == 0
        yield folder


def fit(folder: Path, cache: list[str], *more: str) -> int:
    trainer = ["--trainer.max_epochs", "4", "--trainer.accelerator", "cpu", "--trainer.default_root_dir", str(folder)]
    return main(["fit", *DATA, *cache, *PRUNING, *trainer, *more])


def best(run: Path, stage: int) -> Path:
    (path,) = (run / "checkpoints").glob(f"stage{stage}-*.ckpt")
    return path


def test_fit__writes_what_it_promises(run: Path) -> None:
    names = {p.name for p in run.iterdir()}
    assert {"checkpoints", "config.yaml", "pareto.csv", "pareto.png", "wandb"} <= names
    assert {p.name[:6] for p in (run / "checkpoints").iterdir()} == {"stage0", "stage1", "stage2", "last.c", "pick.c"}
    rows = list(csv.DictReader((run / "pareto.csv").open()))
    assert [float(row["share"]) for row in rows][-1] == pytest.approx(0.4, abs=0.01)
    assert Image.open(run / "pareto.png").size[0] > 400


def test_fit__config_is_complete_and_free_of_secrets(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["pruning"]["target"] == 0.4
    assert config["model"]["encoder"] == "resnet18"
    assert config["seed_everything"] == 0


def test_fit__checkpoints_load_safely_and_say_what_they_are(run: Path) -> None:
    stored = torch.load(best(run, 2), weights_only=True)
    about = stored["polyp_lightning"]
    assert about["data"]["data"] == "phantom"
    assert "seed 0" in about["data"]["protocol"]
    assert about["versions"]["torch"] == str(torch.__version__)
    dense = torch.load(best(run, 0), weights_only=True)["polyp_lightning"]["plan"]["shapes"]
    pruned = about["plan"]["shapes"]
    assert sum(np.prod(s) for s in pruned.values()) < 0.6 * sum(np.prod(s) for s in dense.values())


def test_fit__wandb_run_holds_what_a_dashboard_needs(run: Path) -> None:
    (folder,) = (run / "wandb").glob("offline-run-*")
    stored = read_run(folder)
    logged: set[str] = set().union(*stored["history"])
    assert {"val/iou", "complexity/params"} <= logged
    for panel in (panel for panels in SECTIONS.values() for panel in panels):
        known = set(stored["summary"]) if panel.kind == "scatter" else logged
        for name in (*panel.y, *([panel.x] if panel.x else [])):
            assert any(re.fullmatch(name, one) for one in known), (panel.title, name)
    for column in COLUMNS:
        part, name = column.removesuffix(".value").split(":")
        assert name in stored[part], column
    assert flat(stored["config"])["run_config/pruning/target"] == 0.4
    assert (stored["group"], stored["job_type"]) == ("phantom-64-Unet-resnet18", "fit")
    assert stored["tags"] == ["phantom", "Unet", "resnet18", "taylor"]


def test_fit__refuses_to_overwrite_a_run(run: Path, cache: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert fit(run, cache) == 2
    (line,) = (text for text in capsys.readouterr().err.splitlines() if text.startswith("error: "))
    assert "--trainer.default_root_dir" in line
    assert f"--ckpt_path {run}/checkpoints/last.ckpt" in line
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_report__its_command_repeats_a_run_elsewhere(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert main(["report", str(run), "-o", str(page), "--no_frames"]) == 0
    (command,) = re.findall(r"<code>python -m polyp_lightning (fit .*?)</code>", page.read_text(encoding="utf-8"))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main([*shlex.split(command), "--trainer.max_epochs", "1", "--pruning.target", "1"]) == 0
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    again = run.with_name("run-again")
    assert (again / "checkpoints" / "last.ckpt").is_file()
    assert len(list((again / "wandb").glob("offline-run-*"))) == 1


@pytest.mark.slow
def test_fit__the_next_command_runs_as_printed_in_another_folder(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = tmp_path / "a run"
    shutil.copytree(run, copy)
    printed = next_command(best(copy, 2))
    done = subprocess.run(printed, shell=True, cwd=tmp_path, capture_output=True, text=True)  # noqa: S602
    assert done.returncode == 0, done.stderr
    assert (copy / "test_images.csv").is_file()


def test_report__of_a_real_run_with_frames_where_pruning_hurt_most(run: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert main(["report", str(run), "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert page.stat().st_size < 5_000_000
    stages = (run / "pareto.csv").read_text().count("\n") - 1
    assert text.count("<tr><td ") >= stages
    assert "Widths, dense against pruned" in text
    assert "Validation frames where pruning hurt most" in text
    assert main(["report", str(run), "-o", str(page), "--no_frames"]) == 0
    assert "frames where pruning hurt most" not in page.read_text(encoding="utf-8")


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by a slash."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


@pytest.mark.parametrize("stage", [0, 2])
def test_validate__gives_the_dice_in_the_checkpoints_name(
    run: Path, cache: list[str], stage: int, capsys: pytest.CaptureFixture[str]
) -> None:
    # No flag names the net, its widths or the data: the checkpoint does.
    flags = ["--data.phantom_frames", "56", "--data.num_workers", "0", "--trainer.logger", "false"]
    assert main(["validate", "--ckpt_path", str(best(run, stage)), *cache, *flags]) == 0
    (printed,) = re.findall(r"val/dice\D+([\d.]+)", capsys.readouterr().out)
    assert float(printed) == pytest.approx(float(best(run, stage).stem.rpartition("dice")[2]), abs=1e-4)


def test_test__reports_every_metric_at_the_original_size(
    run: Path, cache: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--data.phantom_frames", "56", "--data.num_workers", "0", "--trainer.logger", "false"]
    assert main(["test", "--ckpt_path", str(best(run, 2)), *cache, *flags]) == 0
    printed = capsys.readouterr().out
    for metric in ("test/dice", "test/iou", "test/dice_pranet", "test/hd95", "test/false_positive_rate"):
        assert metric in printed
    # The table comes below Lightning's list.
    assert "max E" in printed.rpartition("test/weighted_f")[2]
    (scores,), images = read_scores(run), read_images(run)
    assert (scores.checkpoint, scores.sha256) == (best(run, 2).name, sha256(best(run, 2)))
    ((name, values),) = scores.test_sets.items()
    assert {image.test_set for image in images} == {name}
    assert len({image.name for image in images}) == len(images) == values["images"] == 8
    (shown,) = re.findall(r"test/dice\s\D*([\d.]+)", printed)
    for mean in (values["dice"], scores.dice, np.mean([image.dice for image in images])):
        assert mean == pytest.approx(float(shown), abs=1e-5)
    assert values["iou"] == pytest.approx(np.mean([image.iou for image in images]), abs=1e-6)
    assert values["hd95"] == pytest.approx(np.nanmean([image.hd95 for image in images]), abs=1e-4)


def test_fit__never_opens_the_test_set(cache: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither training, nor the choice of a checkpoint, nor a cut in one step has a way to look at it."""

    def refuse(self: PolypDataModule) -> None:
        raise AssertionError

    monkeypatch.setattr(PolypDataModule, "test_dataloader", refuse)
    run = tmp_path / "run"
    assert fit(run, cache, "--trainer.logger", "false") == 0
    (dense,) = (run / "checkpoints").glob("stage0-*.ckpt")
    assert main(["prune", "--ckpt_path", str(dense), "--batches", "1", "--recalibration_batches", "1"]) == 0
    # What was chosen is the best of its stage by validation.
    (pruned,) = (run / "checkpoints").glob("stage2-*.ckpt")
    rows = list(csv.DictReader((run / "pareto.csv").open()))
    assert float(rows[2]["dice_best"]) == pytest.approx(float(pruned.stem.rpartition("dice")[2]), abs=1e-4)


def test_fit__one_seed_decides_the_order_of_the_frames_too(
    cache: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # is put back afterwards
    seeds = set()

    class Noted(SeededSampler):
        def __init__(self, dataset: ImageDataset, seed: int, mixture: Mixture | None) -> None:
            seeds.add(seed)
            super().__init__(dataset, seed, mixture)

    monkeypatch.setattr(datamodule, "SeededSampler", Noted)
    short = ["--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1", "--trainer.logger", "false"]
    start = ["fit", *DATA, *cache, *short, "--pruning.target", "1", "--trainer.default_root_dir", str(tmp_path)]
    assert main([*start, "--seed_everything", "5"]) == 0
    assert seeds == {5}


def test_test__a_logger_by_its_name_alone_has_the_scores_in_the_runs_folder(run: Path, cache: list[str]) -> None:
    flags = ["--data.phantom_frames", "56", "--data.num_workers", "0", "--trainer.logger", "CSVLogger"]
    assert main(["test", "--ckpt_path", str(best(run, 2)), *cache, *flags]) == 0
    (table,) = run.glob("lightning_logs/*/metrics.csv")
    (row,) = csv.DictReader(table.open())
    assert float(row["test/dice"]) == pytest.approx(read_scores(run)[-1].dice, abs=1e-6)


@pytest.mark.skipif(find_spec("tensorboard") is not None, reason="TensorBoard is installed")
def test_fit__a_logger_whose_package_is_missing(cache: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *cache, "--trainer.logger", "TensorBoardLogger"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "not installed" in line
    assert "pip install" in line


def test_predict__writes_masks_at_the_original_size(run: Path, cache: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "frames" / "images"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("a", (90, 120)), ("b c", (70, 64))):
        Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    out = ["--output", str(tmp_path / "out"), "--overlay"]
    data = [
        "--data.name",
        "folder",
        "--data.root",
        str(folder.parent),
        "--data.num_workers",
        "0",
    ]
    flags = [*data, "--data.num_workers", "0", *cache, *out]
    assert main(["predict", "--ckpt_path", str(best(run, 2)), *flags]) == 0
    for name, (height, width) in (("a", (90, 120)), ("b c", (70, 64))):
        mask = Image.open(tmp_path / "out" / f"{name}.png")
        assert mask.size == (width, height)
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
        assert (tmp_path / "out" / "overlays" / f"{name}.jpg").is_file()


def test_fit__goes_on_from_a_checkpoint_in_the_same_folder(cache: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    steady = ["--model.lr_scheduler", "torch.optim.lr_scheduler.ConstantLR"]
    assert fit(run, cache, *steady) == 0
    before = list(csv.DictReader((run / "pareto.csv").open()))
    # Every option is that of the run, but for the one that is given.
    assert main(["fit", "--ckpt_path", str(run / "checkpoints" / "last.ckpt"), "--trainer.max_epochs", "5"]) == 0
    after = list(csv.DictReader((run / "pareto.csv").open()))
    assert before[:2] == after[:2]
    assert [row["gmacs"] for row in before] == [row["gmacs"] for row in after]
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 4
    # One W&B run in two pieces; the second does not tell again of the stages before it.
    first, second = map(read_run, sorted((run / "wandb").glob("offline-run-*")))
    assert first["folder"].name.split("-")[-1] == second["folder"].name.split("-")[-1]
    assert [sum("pareto/val_dice" in row for row in piece["history"]) for piece in (first, second)] == [3, 1]
    assert {row["trainer/global_step"] for row in second["history"] if "val/dice" in row} == {24}
    assert first["name"] == "phantom Unet-resnet18 taylor 0.400 of the MACs seed 0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["test", "--ckpt_path", "nowhere.ckpt"], "--ckpt_path nowhere.ckpt is not a file"),
        (["fit", "--model.encoder", "resnet19", "--trainer.logger", "false"], "resnet18"),
        (["fit", "--data.name", "kvasir", "--data.root", "nowhere", "--trainer.logger", "false"], "nowhere"),
        (["fit", "--pruning.target", "0", "--trainer.logger", "false"], "target is 0"),
        (["fit", "--pruning.end", "40", "--trainer.logger", "false"], "--pruning.end"),
    ],
)
def test_main__mistakes_are_explained_in_one_line(
    arguments: list[str], message: str, cache: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    more = [] if arguments[0] == "test" else [*cache, "--trainer.default_root_dir", str(tmp_path)]
    assert main([*arguments, *more]) == 2
    (line,) = (text for text in capsys.readouterr().err.splitlines() if text.startswith("error: "))
    assert message in line


def test_main__without_a_verb_shows_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in ("fit", "validate", "test", "predict", "data"))


CONFIGS = Path(__file__).parent.parent.parent / "configs"


def printed_config(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as stop:
        main(["fit", *arguments, "--print_config"])
    assert stop.value.code == 0
    found: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return found


def test_configs__quickstart_is_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed_config(capsys, "--config", str(CONFIGS / "quickstart.yaml")) == printed_config(capsys)


@pytest.mark.parametrize(
    "path",
    sorted(p for p in CONFIGS.glob("*.yaml") if not p.stem.startswith(("study", "sweep"))),
    ids=lambda path: path.stem,
)
def test_configs__every_key_is_known_and_explained(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = printed_config(capsys, "--config", str(path))
    others = {"quickstart": "phantom", "realtime": "kvasir", "ship": "mix"}
    assert config["data"]["name"] == others.get(path.stem, path.stem)
    for line in path.read_text().splitlines():
        assert line.startswith("#") or line.endswith(":") or "  # " in line
