"""A compiled network has the scores of the uncompiled one, is cut as it is, and goes on training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fitted import fitted
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch._dynamo.utils import counters

from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.pruning import trace
from polyp_lightning.pruning.criteria import build_criterion

# So few filters that no choice meets a target exactly.
pytestmark = pytest.mark.filterwarnings("ignore:the nearest to a budget")


class Moved(Callback):
    """Parameters that an epoch left as they were; whether compiled code ran in it."""

    def __init__(self) -> None:
        self.still: list[str] = []
        self.compiled: list[bool] = []
        self.before: dict[str, Tensor] = {}

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = {name: p.detach().clone() for name, p in pl_module.named_parameters()}

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self.compiled.append(pl_module.net._compiled_call_impl is not None)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.still += [n for n, p in pl_module.named_parameters() if torch.equal(self.before[n], p)]


def test_compile__cuts_as_without_and_weights_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for backend in (None, "aot_eager"):
        counters.clear()
        moved = Moved()
        pruning = TaylorFOPruning(0.5, 2, 3, recalibration_batches=0)
        model = {"compile_net": backend, "lr": 1e-3}
        _, trainer = fitted(tmp_path, monkeypatch, [moved], pruning=pruning, model=model, max_epochs=5)
        results.append(trainer.callbacks[-1].history)  # type: ignore[attr-defined]
        assert moved.still == []
    # Epochs 1 and 2 are scored for the cuts at the starts of 2 and 3.
    assert moved.compiled == [True, False, False, True, True]
    assert counters["stats"]["unique_graphs"] > 0
    assert not counters["graph_break"]
    assert [row.layers for row in results[1]] == [row.layers for row in results[0]]


def test_compile__hooks_are_seen_by_a_network_that_ran_compiled_before() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3))
    graph, images, masks = trace(net, (2, 3, 8, 8)), torch.randn(2, 3, 8, 8), torch.ones(2, 1, 4, 4)

    def scores() -> Tensor:
        criterion: Any = build_criterion("taylor")
        criterion.reset(graph.size)
        criterion.attach(net, graph)
        nn.functional.mse_loss(net(images), masks).backward()
        criterion.detach()
        assert criterion.count == 2
        return criterion.total

    expected = scores()
    net.compile(backend="eager")
    net(images)
    torch.testing.assert_close(scores(), expected)
    assert net._compiled_call_impl is not None


def test_compile__what_was_compiled_is_forgotten_at_a_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # PyTorch gives up after 8 recompilations: as many cuts must not add up.
    forgotten: list[int] = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: forgotten.append(1))
    for backend in (None, "eager"):
        fitted(tmp_path, monkeypatch, [], model={"compile_net": backend}, max_epochs=3)
    assert len(forgotten) == 2
