"""The average of the weights is that kept by hand, through cuts and a resume, and is what is validated and saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fitted import fitted
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging

from polyp_lightning.callbacks import pruning as pruning_callback
from polyp_lightning.callbacks.averaging import PrunableEMA, averaged_copies
from polyp_lightning.checkpoints.file import read
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.tracking import StageCheckpoint
from polyp_lightning.training.module import PolypSegmenter

# So few filters that no choice meets a target exactly.
pytestmark = pytest.mark.filterwarnings("ignore:the nearest to a budget")

DECAY = 0.8


def floats(module: torch.nn.Module) -> dict[str, Any]:
    """Parameters and statistics of the network as float64 arrays."""
    return {k: v.double().numpy().copy() for k, v in module.net.state_dict().items() if v.is_floating_point()}  # type: ignore[union-attr]


class ByHand(Callback):
    """The average as a loop in float64, cut with the indices that were kept of the trained network."""

    def __init__(self) -> None:
        self.average: dict[str, Any] = {}
        self.checked = {"validated": 0, "trained": 0}

    def cut(self, kept: dict[str, dict[int, Any]]) -> None:
        for name, dims in kept.items():
            for dim, keep in dims.items():
                self.average[name] = np.take(self.average[name], keep, axis=dim)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.average:
            same = all(np.allclose(v, self.average[k]) for k, v in floats(pl_module).items())
            self.checked["trained"] += not same

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        for name, value in floats(pl_module).items():
            self.average[name] = DECAY * self.average.get(name, value) + (1 - DECAY) * value

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self.average:
            assert_same(floats(pl_module), self.average)
            self.checked["validated"] += 1


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_prunable_ema__equals_the_average_by_hand_through_cuts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand, remove = ByHand(), pruning_callback.remove
    trained: list[Any] = []

    def noted(net: torch.nn.Module, *rest: Any) -> Any:
        kept = remove(net, *rest)
        if net is trained[0].net:
            hand.cut(kept)
        return kept

    class Noted(PolypSegmenter):
        def on_fit_start(self) -> None:
            trained.append(self)

    monkeypatch.setattr(pruning_callback, "remove", noted)
    module, trainer = fitted(tmp_path, monkeypatch, [PrunableEMA(DECAY), hand], cls=Noted)
    assert trainer.callbacks[-1].stage == 2  # type: ignore[attr-defined]
    assert hand.checked == {"validated": 4, "trained": 20 - 2}, "the first step is its own average"
    assert_same(floats(module), hand.average)


def test_prunable_ema__a_resumed_run_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = tmp_path / "checkpoints" / "last.ckpt"
    options: dict[str, Any] = {"enable_checkpointing": True}
    whole, _ = fitted(tmp_path / "whole", monkeypatch, [PrunableEMA(DECAY), StageCheckpoint()], **options)

    class Stop(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 2:
                raise KeyError

    with pytest.raises(KeyError):
        fitted(tmp_path, monkeypatch, [Stop(), PrunableEMA(DECAY), StageCheckpoint()], **options)
    stored = read(last)
    names = [k for k, v in stored["state_dict"].items() if v.is_floating_point() and v.ndim == 4]
    assert not any(torch.equal(stored["state_dict"][k], stored["current_model_state"][k]) for k in names)
    again, trainer = fitted(tmp_path, monkeypatch, [PrunableEMA(DECAY), StageCheckpoint()], ckpt_path=last, **options)
    assert [row.epoch for row in trainer.callbacks[-2].history] == [0, 1, 2]  # type: ignore[attr-defined]
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    # Whoever loads the file gets the averaged network.
    loaded = PolypSegmenter.load_from_checkpoint(last, weights_only=True)
    assert_same(floats(loaded), floats(whole))


@pytest.mark.parametrize("averaging", [EMAWeightAveraging(decay=0.5), StochasticWeightAveraging(1e-2, 1)])
def test_averages__of_lightning_are_cut_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, averaging: Callback
) -> None:
    module, trainer = fitted(tmp_path, monkeypatch, [averaging])
    (average,) = averaged_copies(trainer)
    shapes = {name: tensor.shape for name, tensor in module.net.state_dict().items()}
    assert {name: tensor.shape for name, tensor in average.net.state_dict().items()} == shapes  # type: ignore[union-attr]
    assert trainer.callbacks[-1].stage == 2  # type: ignore[attr-defined]
    assert trainer.callbacks[-1].history[-1].share == pytest.approx(0.5, abs=0.1)  # type: ignore[attr-defined]


def test_prunable_ema__names_a_wrong_decay() -> None:
    with pytest.raises(ConfigError, match=r"decay=1.0 must be in \[0, 1\)"):
        PrunableEMA(1.0)
