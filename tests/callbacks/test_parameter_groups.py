"""Several parameter groups: each keeps its learning rate and decay, and after a cut holds what it held."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from fitted import constant, fitted
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from polyp_lightning.checkpoints.file import read
from polyp_lightning.tracking import StageCheckpoint
from polyp_lightning.training.module import PolypSegmenter

# So few filters that no choice meets a target exactly.
pytestmark = pytest.mark.filterwarnings("ignore:the nearest to a budget")

SLOW, LR = 1e-3, 1e-2


class Grouped(PolypSegmenter):
    """A slower encoder, and no decay of biases and norms."""

    def configure_optimizers(self) -> Any:
        parts: dict[str, list[nn.Parameter]] = {"encoder": [], "decoder": [], "plain": []}
        for name, parameter in self.net.named_parameters():
            part = "plain" if parameter.ndim == 1 else "encoder" if name.startswith("encoder") else "decoder"
            parts[part].append(parameter)
        options = [{"lr": SLOW}, {}, {"weight_decay": 0.0}]
        groups = [{"params": part, **more} for part, more in zip(parts.values(), options, strict=True)]
        return AdamW(groups, lr=LR, weight_decay=0.1)


def by_dimensions(parameters: Iterable[nn.Parameter]) -> Optimizer:
    """What a maker can tell of parameters without names."""
    parameters = list(parameters)
    plain = {"params": [p for p in parameters if p.ndim == 1], "lr": SLOW, "weight_decay": 0.0}
    return SGD([{"params": [p for p in parameters if p.ndim > 1]}, plain], lr=5.0, momentum=0.9, weight_decay=0.1)


class Watch(Callback):
    """Names, rates and decay of the groups in each epoch, and which weights the epoch moved."""

    def __init__(self) -> None:
        self.groups: list[list[tuple[set[str], float, float]]] = []
        self.still: list[str] = []
        self.before: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx:
            return
        self.before = {n: p.detach().clone() for n, p in pl_module.net.named_parameters()}
        names = {id(p): n for n, p in pl_module.net.named_parameters()}
        groups = trainer.optimizers[0].param_groups
        self.groups.append([({names[id(p)] for p in g["params"]}, g["lr"], g["weight_decay"]) for g in groups])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now = dict(pl_module.get_submodule("net").named_parameters())
        self.still += [n for n, value in self.before.items() if torch.equal(value, now[n])]
        for group in trainer.optimizers[0].param_groups:
            for parameter in group["params"]:
                state = trainer.optimizers[0].state[parameter]
                assert all(v.shape == parameter.shape for v in state.values() if torch.is_tensor(v) and v.ndim)


def test_groups__of_a_subclass_keep_their_parameters_and_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    module, trainer = fitted(tmp_path, monkeypatch, [watch], cls=Grouped)
    assert trainer.callbacks[-1].stage == 2  # type: ignore[attr-defined]
    assert watch.still == []
    assert len(watch.groups) == 4
    for encoder, decoder, plain in watch.groups:
        assert encoder == ({"encoder.0.weight"}, SLOW, 0.1)
        assert decoder == ({"deep.0.weight", "wide.0.weight", "head.weight"}, LR, 0.1)
        assert plain[1:] == (LR, 0.0)
        assert plain[0] == {n for n, p in module.net.named_parameters() if p.ndim == 1}


def test_groups__of_an_optimizers_maker_keep_rates_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch()
    model = {"optimizer": by_dimensions, "lr": LR, "lr_scheduler": constant}
    fitted(tmp_path, monkeypatch, [watch], model=model)
    # A bias in front of a batch norm has no gradient but rounding errors, which plain SGD does not blow up.
    assert set(watch.still) <= {"encoder.0.bias", "deep.0.bias", "wide.0.bias"}
    assert [[(rate, decay) for _, rate, decay in groups] for groups in watch.groups] == [[(LR, 0.1), (SLOW, 0.0)]] * 4


def test_groups__one_cycle_has_a_peak_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rates(Callback):
        def __init__(self) -> None:
            self.seen: list[list[float]] = []

        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    rates = Rates()
    fitted(tmp_path, monkeypatch, [rates], model={"optimizer": by_dimensions, "lr": LR, "lr_scheduler": None})
    assert [max(column) for column in zip(*rates.seen, strict=True)] == pytest.approx([LR, SLOW])
    assert all(slow == pytest.approx(fast * SLOW / LR) for fast, slow in rates.seen)


def test_groups__a_resumed_run_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 2:
                raise KeyError

    whole, _ = fitted(tmp_path / "whole", monkeypatch, [], cls=Grouped)
    keep: dict[str, Any] = {"cls": Grouped, "enable_checkpointing": True}
    with pytest.raises(KeyError):
        fitted(tmp_path, monkeypatch, [Stop(), StageCheckpoint()], **keep)
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert [len(g["params"]) for g in read(last)["optimizer_states"][0]["param_groups"]] == [1, 3, 10]
    again, _ = fitted(tmp_path, monkeypatch, [StageCheckpoint()], ckpt_path=last, **keep)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
