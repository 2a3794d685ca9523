"""Statistics of batch norm after a cut: of the pruned network's training norms alone, from what the network was fed."""

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from small_nets import Concat
from strangers import batches, spots
from torch import Tensor, nn

from polyp_lightning.callbacks import TaylorFOPruning
from polyp_lightning.callbacks.replay import CallRecorder, renew_norms
from polyp_lightning.pruning import Example
from polyp_lightning.pruning.budget import Limits

pytestmark = pytest.mark.filterwarnings("ignore:the nearest to a budget")


class Spots(L.LightningModule):
    """Prepares its images in the step, as many do: ``forward`` is the bare network."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Concat(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def prepare(self, x: Tensor) -> Tensor:
        return (x - 0.4) / 0.2

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self(self.prepare(batch[0])), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 1e-2)


class FrozenNorms(Spots):
    def train(self, mode: bool = True) -> "FrozenNorms":
        super().train(mode)
        for part in self.net.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
        return self


class Taught(Spots):
    """With a teacher and a network of a perceptual loss among its submodules, both frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher, self.looks = (Concat(6).requires_grad_(False) for _ in range(2))
        for part in (*self.teacher.modules(), *self.looks.modules()):
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_()  # type: ignore[union-attr]
        # Not even in evaluation mode.
        self.teacher.eval()

    def train(self, mode: bool = True) -> "Taught":
        super().train(mode)
        self.teacher.eval()
        self.looks.eval()
        return self

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x = self.prepare(batch[0])
        return super().training_step(batch, batch_idx) + nn.functional.mse_loss(self(x), self.teacher(x))


class AtCut(L.Callback):
    """The network at the start of the epoch whose first deed is a cut, before and after it."""

    def __init__(self, seen: list[nn.Module]) -> None:
        self.seen = seen

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 2:
            self.seen.append(copy.deepcopy(pl_module))


def cut(folder: Path, module: L.LightningModule, **options: Any) -> list[Any]:
    torch.manual_seed(0)
    seen: list[Any] = []
    pruning = TaylorFOPruning(0.7, 2, 2, limits=Limits(floor=0.0), **options)
    trainer = L.Trainer(
        max_epochs=3,
        default_root_dir=folder,
        callbacks=[AtCut(seen), pruning, AtCut(seen)],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module.train(), batches(spots(16)))
    return [*seen, module]


def statistics(net: nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in net.named_buffers() if "running" in name}


def test_recalibration__is_of_what_the_network_was_fed(tmp_path: Path) -> None:
    _, after, _ = cut(tmp_path, Spots())
    expected = copy.deepcopy(after.net).train()
    for part in expected.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = None
    with torch.no_grad():
        for image, _ in batches(spots(16)):
            expected(after.prepare(image))
    for name, value in statistics(after.net).items():
        torch.testing.assert_close(value, statistics(expected)[name], msg=name)


@pytest.mark.parametrize("option", [{}, {"recalibration_batches": 0}])
def test_recalibration__leaves_frozen_norms_of_the_network_alone(tmp_path: Path, option: dict[str, int]) -> None:
    before, after, _ = cut(tmp_path, FrozenNorms(), **option)
    for name, value in statistics(after.net).items():
        assert set(value.tolist()) <= set(statistics(before.net)[name].tolist()), "kept ones of the old"
    assert not any(part.num_batches_tracked for part in after.net.modules() if isinstance(part, nn.BatchNorm2d))


def test_recalibration__leaves_every_other_network_alone(tmp_path: Path) -> None:
    module = Taught()
    expected = copy.deepcopy({**module.teacher.state_dict(prefix="t."), **module.looks.state_dict(prefix="l.")})
    cut(tmp_path, module)
    found = {**module.teacher.state_dict(prefix="t."), **module.looks.state_dict(prefix="l.")}
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_renew_norms__restores_modes_and_momenta_when_a_pass_fails() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    net[1].eval()
    with pytest.raises(RuntimeError):
        renew_norms(net, [Example((torch.zeros(1, 9, 2, 2),))], {"": True, "0": True, "1": True})
    assert (net[1].training, net[1].momentum) == (False, 0.1)


def test_recorder__keeps_the_last_calls_of_one_network_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    net, recorder = nn.Identity(), CallRecorder(3)
    recorder.attach(net)
    twin = copy.deepcopy(net)
    for number in range(6):
        recorder.active = number != 4
        net(torch.full((2,), float(number)))
        twin(torch.zeros(2))
    assert [call.args[0][0].item() for call in recorder.calls] == [2, 3, 5]
    monkeypatch.setattr("polyp_lightning.callbacks.replay.BOUND", 16)
    net(torch.full((2,), 6.0))
    assert [call.args[0][0].item() for call in recorder.calls] == [5, 6]
    recorder.detach()
    net(torch.zeros(2))
    assert len(recorder.calls) == 2
