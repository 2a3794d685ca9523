"""Lightning's tuners save and restore a checkpoint while the optimizers exist already: this project's module beside."""

from pathlib import Path
from typing import Any

import pytest
from fitted import fitted
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder

pytestmark = pytest.mark.filterwarnings("ignore:the nearest to a budget")


class Held(Callback):
    """How many of the network's parameters the optimizer holds, and whether they move."""

    def __init__(self) -> None:
        self.lost, self.still = -1, -1

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        held = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
        self.lost = sum(id(p) not in held for p in pl_module.net.parameters())
        self.before = [p.detach().clone() for p in pl_module.net.parameters()]

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.still = sum(bool((a == b).all()) for a, b in zip(self.before, pl_module.net.parameters(), strict=True))


FINDERS = {
    "learning rate": lambda: LearningRateFinder(num_training_steps=4, early_stop_threshold=None),
    "batch size": lambda: BatchSizeFinder(steps_per_trial=1, max_trials=1),
}


@pytest.mark.parametrize("name", FINDERS)
def test_tuner__the_optimizer_holds_the_network_that_is_trained_and_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    held = Held()
    _, trainer = fitted(tmp_path, monkeypatch, [FINDERS[name](), held])
    assert (held.lost, held.still) == (0, 0)
    assert trainer.callbacks[-1].stage == 2  # type: ignore[attr-defined]
