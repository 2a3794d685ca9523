"""The dip after a cut is no reason to stop or to lower the learning rate; a plateau in the tail is."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fitted import fitted
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.tracking import TailEarlyStopping
from polyp_lightning.training.module import PolypSegmenter

# So few filters that no choice meets a target exactly.
pytestmark = pytest.mark.filterwarnings("ignore:the nearest to a budget", "default:EarlyStopping takes the dip")

# By epoch. The cuts at the starts of epochs 2 and 4 cost Dice; from epoch 6 on nothing gets better.
DICE = [0.70, 0.80, 0.40, 0.45, 0.30, 0.35, 0.50, 0.50, 0.49, 0.50, 0.50, 0.50]


class Scripted(PolypSegmenter):
    """Has the Dice of :data:`DICE`, whatever it predicts."""

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self.log("val/dice", torch.tensor(DICE[self.trainer.current_epoch]), batch_size=1)


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *callbacks: Any, target: float = 0.5, **options: Any) -> Any:
    pruning = TaylorFOPruning(target, 2, 4, 2, recalibration_batches=0)
    options = {"max_epochs": len(DICE), "num_sanity_val_steps": 0, "limit_train_batches": 1, **options}
    return fitted(folder, monkeypatch, list(callbacks), cls=Scripted, pruning=pruning, **options)[1]


def test_early_stopping__goes_on_through_the_dips_and_stops_in_the_tail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Lightning's own stops at the dense network's third epoch without a better value: in the middle of the cuts.
    plain = EarlyStopping("val/dice", mode="max", patience=3)
    run(tmp_path, monkeypatch, plain)
    assert plain.stopped_epoch == 4
    ours = TailEarlyStopping(patience=3)
    trainer = run(tmp_path, monkeypatch, ours)
    assert trainer.callbacks[-1].stage == 2
    # The best of the tail is that of epoch 6; epochs 7, 8 and 9 are no better.
    assert (ours.stopped_epoch, float(ours.best_score)) == (9, pytest.approx(0.5))


def test_early_stopping__lightnings_own_beside_cuts_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    def warned(callback: Any, **options: Any) -> int:
        recwarn.clear()
        run(tmp_path, monkeypatch, callback, **options)
        return sum("take polyp_lightning.callbacks.TailEarlyStopping" in str(w.message) for w in recwarn.list)

    plain = EarlyStopping("val/dice", mode="max", patience=3)
    assert warned(plain) == 1
    assert warned(TailEarlyStopping()) == 0
    assert warned(EarlyStopping("val/dice", mode="max", patience=3), target=1.0) == 0


def test_early_stopping__counts_from_the_first_epoch_of_a_run_without_cuts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = TailEarlyStopping(patience=3)
    run(tmp_path, monkeypatch, ours, target=1.0)
    assert ours.stopped_epoch == 4


def plateau(optimizer: torch.optim.Optimizer) -> ReduceLROnPlateau:
    return ReduceLROnPlateau(optimizer, mode="max", factor=0.5, patience=2)


def test_reduce_lr_on_plateau__is_not_lowered_by_the_dips_but_in_the_tail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []

    class Watch(Scripted):
        def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
            rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
            return super().training_step(batch, batch_idx)

    pruning = TaylorFOPruning(0.5, 2, 4, 2, recalibration_batches=0)
    options = {"max_epochs": len(DICE), "num_sanity_val_steps": 0, "limit_train_batches": 1}
    fitted(tmp_path, monkeypatch, [], cls=Watch, pruning=pruning, model={"lr_scheduler": plateau}, **options)
    # After epochs 7, 8 and 9 without a better value; a scheduler that counts the dips lowers it after epoch 4 first.
    assert rates == [1e-2] * 10 + [5e-3] * 2
    own, lone = plateau(torch.optim.SGD([torch.zeros(1)], lr=1e-2)), []
    for dice in DICE:
        own.step(dice)
        lone.append(own.optimizer.param_groups[0]["lr"])
    assert lone[4] == 5e-3
