import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import FakeData, FakePruning, FakeSegmenter, _item, record, trainer
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from wandb_file import read_run

from polyp_lightning.tracking import RunLogger, RunTracker
from polyp_lightning.tracking.overlays import predict_overlays
from polyp_lightning.tracking.tracker import layer_rows, pareto_metrics, summary_values


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A fit of six epochs with two cuts, and what its W&B file holds."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text("seed_everything: 7\nmodel:\n  arch: Unet\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        fit = trainer(folder, [FakePruning(), RunTracker()], RunLogger(str(folder)))
        fit.fit(FakeSegmenter(), FakeData())
    return read_run(folder)


def _column(run: dict[str, Any], name: str) -> Any:
    return [row[name] for row in run["history"] if name in row]


def _table(run: dict[str, Any], row_value: dict[str, Any]) -> Any:
    return json.loads((run["folder"] / "files" / row_value["path"]).read_text())


def test_run_tracker__the_run_holds_losses_and_scores(run: dict[str, Any]) -> None:
    assert len(_column(run, "train/loss_epoch")) == 6
    assert _column(run, "val/dice") == pytest.approx([0.5, 0.9, 0.6, 0.7, 0.4, 0.3])
    assert _column(run, "val/loss") == pytest.approx([0.5, 0.1, 0.4, 0.3, 0.6, 0.7])
    assert len(_column(run, "val/iou")) == 6
    assert set(_column(run, "stage")) == {0, 1, 2}
    assert len(_column(run, "complexity/params")) == 6


def test_run_tracker__one_pareto_point_per_stage_over_gmacs(run: dict[str, Any]) -> None:
    assert run["metrics"]["pareto/*"] == "complexity/gmacs"
    points = [row for row in run["history"] if "pareto/val_dice" in row]
    assert [row["complexity/gmacs"] for row in points] == [4, 3, 2]
    assert [row["pareto/val_dice"] for row in points] == pytest.approx([0.9, 0.7, 0.4])
    assert [row["pareto/val_dice_end"] for row in points] == pytest.approx([0.9, 0.7, 0.3])
    # A stage ends when the next one begins (steps 4 and 8 of 12), the last with the fit.
    assert [row["trainer/global_step"] for row in points] == [4, 8, 12]


def test_run_tracker__widths_by_block_and_by_layer(run: dict[str, Any]) -> None:
    assert _column(run, "widths/encoder.layer1") == [256, 192, 128]
    tables = [_table(run, value) for value in _column(run, "layer_widths")]
    assert tables[0]["columns"] == ["stage", "layer", "filters", "dense", "kept"]
    assert [table["data"][1] for table in tables] == [
        [0, "encoder.layer1.0.conv1", 64, 64, 1],
        [1, "encoder.layer1.0.conv1", 48, 64, 0.75],
        [2, "encoder.layer1.0.conv1", 32, 64, 0.5],
    ]


def test_run_tracker__the_chart_of_dice_against_gmacs(run: dict[str, Any]) -> None:
    (value,) = _column(run, "dice_against_gmacs_table")
    points = {(line, x, round(y, 6)) for x, line, y in _table(run, value)["data"]}
    assert {(x, y) for line, x, y in points if line == "best of the stage"} == {(4, 0.9), (3, 0.7), (2, 0.4)}
    assert {(x, y) for line, x, y in points if line == "right after the cut"} == {(3, 0.65), (2, 0.6)}
    assert "dice_against_gmacs" in run["config"]["_wandb"]["visualize"]


def test_run_tracker__overlays_with_masks_and_class_labels(run: dict[str, Any]) -> None:
    values = _column(run, "overlays")
    assert [value["count"] for value in values] == [4, 4, 4]
    assert [value["captions"][1] for value in values] == [f"frame1, stage {k}" for k in range(3)]
    labels = run["config"]["_wandb"]["mask/class_labels"]
    assert [label["value"] for label in labels.values()] == [{"0": "mucosa", "1": "polyp"}] * 2
    files = run["folder"] / "files"
    for index, (name, masks) in enumerate(zip(values[0]["filenames"], values[0]["all_masks"], strict=True)):
        item = _item(index)
        assert np.array_equal(np.asarray(Image.open(files / name)), item["image"].permute(1, 2, 0).numpy())
        assert np.array_equal(np.asarray(Image.open(files / masks["truth"]["path"])), item["mask"][0].numpy())
        assert set(np.unique(np.asarray(Image.open(files / masks["prediction"]["path"])))) <= {0, 1}


def test_run_tracker__resolved_config_and_the_facts_of_the_data(run: dict[str, Any]) -> None:
    assert run["config"]["run_config"] == {"seed_everything": 7, "model": {"arch": "Unet"}}
    assert run["config"]["data_facts"] == FakeData().describe()


def test_run_tracker__summary(run: dict[str, Any]) -> None:
    expected = {"best_dice/stage0": 0.9, "best_dice/stage1": 0.7, "best_dice/stage2": 0.4}
    expected |= {"final/gmacs": 2, "final/share": 0.5, "final/val_dice": 0.3, "final/val_dice_best": 0.4}
    assert {k: v for k, v in run["summary"].items() if k in expected} == pytest.approx(expected)


class _Flipping(FakePruning):
    """Sees polyps everywhere in stages 0 and 2, and nowhere in stage 1."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        pl_module.net.bias.data.fill_(-100.0 if self.stage == 1 else 100.0)


def test_run_tracker__an_overlay_is_of_the_stage_that_ends_and_not_of_the_cut_network(tmp_path: Path) -> None:
    fit = trainer(tmp_path, [_Flipping(), RunTracker()], RunLogger(str(tmp_path)))
    fit.fit(FakeSegmenter(), FakeData())
    run = read_run(tmp_path)
    paths = [value["all_masks"][0]["prediction"]["path"] for value in _column(run, "overlays")]
    seen = [np.unique(np.asarray(Image.open(run["folder"] / "files" / path))).tolist() for path in paths]
    assert seen == [[1], [0], [1]]


def test_predicted_overlays__equal_a_convolution_in_numpy() -> None:
    module = FakeSegmenter()
    batch = {k: torch.stack([_item(i)[k] for i in range(3)]) for k in ("image", "mask")}
    batch["name"] = ["a", "b", "c"]
    overlays = predict_overlays(trainer("unused", []), module, batch, limit=2)
    weight, bias = (p.detach().double().numpy() for p in module.net.parameters())
    padded = np.pad(batch["image"].numpy() / 255, ((0, 0), (0, 0), (1, 1), (1, 1)))
    logit = sum(
        weight[0, c, i, j] * padded[:, c, i : i + 16, j : j + 16] for c in range(3) for i in range(3) for j in range(3)
    )
    assert [o.name for o in overlays] == ["a", "b"]
    for overlay, expected in zip(overlays, logit + bias, strict=False):
        assert np.array_equal(overlay.prediction, (expected > 0).astype(np.uint8))


@pytest.mark.parametrize("logger", [False, "csv"])
def test_run_tracker__idle_with_another_logger(tmp_path: Path, logger: Any) -> None:
    other = CSVLogger(tmp_path) if logger else False
    trainer(tmp_path, [FakePruning(), RunTracker()], other, epochs=3).fit(FakeSegmenter(), FakeData())
    assert not list(tmp_path.rglob("*.wandb"))


def test_run_tracker__without_pruning_the_overlays_and_the_config(tmp_path: Path) -> None:
    trainer(tmp_path, [RunTracker()], RunLogger(str(tmp_path)), epochs=2).fit(FakeSegmenter(), FakeData())
    run = read_run(tmp_path)
    assert len(_column(run, "overlays")) == 1
    assert not _column(run, "pareto/val_dice")
    assert run["config"]["data_facts"]["split"] == "honest"


def test_pareto_metrics__a_stage_that_was_never_validated() -> None:
    assert pareto_metrics(record(1, score_end=None, score_best=None)) == {}
    assert "pareto/val_dice_after_cut" not in pareto_metrics(record(0))


def test_summary_values__leaves_out_what_is_unknown() -> None:
    values = summary_values([record(0), record(1, score_end=None, score_best=None)])
    assert "best_dice/stage1" not in values
    assert "final/val_dice" not in values
    assert values["final/gmacs"] == 3.0
    assert summary_values([]) == {}


def test_layer_rows__share_kept() -> None:
    assert layer_rows(record(1), record(0))[1] == [1, "encoder.layer1.0.conv1", 48, 64, 0.75]
