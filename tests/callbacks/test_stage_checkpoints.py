from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import FakeData, FakePruning, FakeSegmenter, trainer
from lightning.pytorch import Callback

from polyp_lightning.tracking import StageCheckpoint


def _fit(
    folder: Path,
    pruning: bool = True,
    epochs: int = 6,
    ckpt_path: Path | None = None,
    extra: tuple[Callback, ...] = (),
    **model: Any,
) -> Any:
    checkpoint = StageCheckpoint()
    callbacks = [*([FakePruning()] if pruning else []), *extra, checkpoint]
    fit = trainer(folder, callbacks, epochs=epochs)
    fit.fit(FakeSegmenter(**model), FakeData(), ckpt_path=ckpt_path)
    return checkpoint


def _names(folder: Path) -> Any:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_stage_checkpoint__keeps_the_best_of_every_stage(tmp_path: Path) -> None:
    checkpoint = _fit(tmp_path)
    expected = ["stage0-epoch01-dice0.9000.ckpt", "stage1-epoch03-dice0.7000.ckpt", "stage2-epoch04-dice0.4000.ckpt"]
    assert _names(tmp_path) == ["last.ckpt", "pick.ckpt", *expected]
    assert {k: v.rsplit("/", 1)[1] for k, v in checkpoint.best_per_stage.items()} == dict(enumerate(expected))
    assert checkpoint.best_scores == pytest.approx({0: 0.9, 1: 0.7, 2: 0.4})
    assert checkpoint.best_model_path == checkpoint.best_per_stage[2]


def test_stage_checkpoint__each_file_holds_its_epoch(tmp_path: Path) -> None:
    checkpoint = _fit(tmp_path)
    epochs = [torch.load(p, weights_only=True)["epoch"] for p in checkpoint.best_per_stage.values()]
    assert epochs == [1, 3, 4]


def test_stage_checkpoint__last_is_the_last_epoch_and_not_the_best(tmp_path: Path) -> None:
    _fit(tmp_path)
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["epoch"] == 5
    assert saved["callbacks"]["FakePruning"]["history"][-1]["stage"] == 2


def test_stage_checkpoint__without_pruning_all_is_stage_0(tmp_path: Path) -> None:
    checkpoint = _fit(tmp_path, pruning=False)
    assert _names(tmp_path) == ["last.ckpt", "stage0-epoch01-dice0.9000.ckpt"]
    assert list(checkpoint.best_per_stage) == [0]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_stage_checkpoint__resume_keeps_what_was_best(tmp_path: Path, elsewhere: bool) -> None:
    first = tmp_path / "first"
    before = _fit(first, epochs=3).best_per_stage
    folder = tmp_path / "second" if elsewhere else first
    after = _fit(folder, ckpt_path=first / "checkpoints" / "last.ckpt")
    assert after.best_per_stage[0] == before[0]
    # Epoch 3 (0.7) beats epoch 2 (0.6) of the same stage.
    assert "stage1-epoch03-dice0.7000" in after.best_per_stage[1]
    assert sorted(after.best_per_stage) == [0, 1, 2]
    assert "last.ckpt" in _names(folder)
    assert "last-v1.ckpt" not in _names(folder)
    assert (first / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_stage_checkpoint__resume_does_not_let_a_worse_epoch_win(tmp_path: Path, elsewhere: bool) -> None:
    first, dice = tmp_path / "first", (0.5, 0.9, 0.7, 0.6, 0.4, 0.3)
    before = _fit(first, epochs=3, dice=dice).best_per_stage
    folder = tmp_path / "second" if elsewhere else first
    after = _fit(folder, ckpt_path=first / "checkpoints" / "last.ckpt", dice=dice)
    assert after.best_per_stage[1] == before[1]
    assert "stage1-epoch02-dice0.7000" in before[1]


def test_stage_checkpoint__resume_after_the_old_best_was_deleted(tmp_path: Path) -> None:
    first, dice = tmp_path / "first", (0.5, 0.9, 0.7, 0.6, 0.4, 0.3)
    best = _fit(first, epochs=3, dice=dice).best_model_path
    (first / "checkpoints" / best.rsplit("/", 1)[1]).unlink()
    after = _fit(first, ckpt_path=first / "checkpoints" / "last.ckpt", dice=dice)
    assert "stage1-epoch03-dice0.6000" in after.best_per_stage[1]


def test_stage_checkpoint__a_cut_does_not_delete_a_better_dense_epoch(tmp_path: Path) -> None:
    """Every later stage scores higher here; each still keeps its own."""
    _fit(tmp_path, dice=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
    assert [name[:6] for name in _names(tmp_path)] == ["last.c", "pick.c", "stage0", "stage1", "stage2"]


def test_stage_checkpoint__last_survives_a_crash_after_an_epoch_that_was_no_best(tmp_path: Path) -> None:
    class Crash(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 4:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        _fit(tmp_path, extra=(Crash(),), dice=(0.5, 0.9, 0.7, 0.6, 0.4, 0.3))
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 3
