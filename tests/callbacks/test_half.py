"""16-mixed: scores are free of the gradient scaler's factor, and of the steps that it skipped. 64-true: resume."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fitted import fitted
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import MixedPrecision
from small_run import SmallNet, unmixed
from torch import Tensor

from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.checkpoints.file import read
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.tracking import StageCheckpoint

# So few filters that no choice meets a target exactly.
pytestmark = pytest.mark.filterwarnings("ignore:the nearest to a budget")

SKIPPED = 2
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "normalised": ("taylor", {}),
    "not normalised": ("taylor", {"normalise": False}),
    "squares": ("taylor", {"normalise": False, "reduction": "square"}),
    "by filter": ("taylor_filter", {"layer_norm": False}),
    "by weight": ("taylor_weight", {}),
}


def plain_net() -> torch.nn.Module:
    return unmixed(SmallNet())


def remembered(trainer: Trainer, module: LightningModule) -> list[Any]:
    """Copies of the weights, and of what the optimizer remembers but for zeros, from which fused ones begin."""
    states = [{k: v for k, v in s.items() if v is not None and v.any()} for s in trainer.optimizers[0].state.values()]
    states = [state for state in states if state]
    return copy.deepcopy([list(module.parameters()), states])


class Watch(Callback):
    """The scores before each batch of the first epoch and after the last; which weights each epoch moves."""

    def __init__(self, overflow: bool, overflow_at: int = SKIPPED) -> None:
        self.overflow = overflow
        self.overflow_at = overflow_at
        self.at_start: list[Any] = []
        self.sums: list[Tensor] = []
        self.mean = torch.zeros(0)
        self.before: dict[str, Tensor] = {}
        self.still: list[str] = []
        self.scales: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = {n: p.detach().clone() for n, p in pl_module.named_parameters()}

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A gradient beyond half precision, in a weight behind everything that is scored.
        if self.overflow and trainer.global_step == self.overflow_at:
            parameter = next(pl_module.get_submodule("net").parameters())
            assert parameter.grad is not None
            parameter.grad[0] = torch.inf

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.at_start = remembered(trainer, pl_module)
        criterion = trainer.callbacks[-1]._criterion  # type: ignore[attr-defined]
        if trainer.current_epoch == 0:
            self.sums.append(criterion.total.clone())

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self.scales += [scaler.get_scale()] if scaler else []
        if self.overflow and trainer.global_step == self.overflow_at + 1:
            # The scaler has skipped this step.
            torch.testing.assert_close(remembered(trainer, pl_module), self.at_start, rtol=0, atol=0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        criterion = trainer.callbacks[-1]._criterion  # type: ignore[attr-defined]
        if trainer.current_epoch == 0:
            self.sums.append(criterion.total.clone())
            self.mean = criterion.total / criterion.count
        now = dict(pl_module.named_parameters())
        for name, parameter in now.items():
            for value in trainer.optimizers[0].state[parameter].values():
                assert not torch.is_tensor(value) or value.ndim == 0 or value.shape == parameter.shape, name
        self.still += [n for n, value in self.before.items() if torch.equal(value, now[n])]


def run(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    criterion: tuple[str, dict[str, Any]],
    *,
    half: bool,
    lr: float = 1e-12,
    overflow: bool = True,
    overflow_at: int = SKIPPED,
    optimizer: Callable[..., Any] = torch.optim.AdamW,
    **options: Any,
) -> Watch:
    watch, name = Watch(half and overflow, overflow_at), criterion[0]
    pruning = TaylorFOPruning(0.5, 1, 2, recalibration_batches=0, criterion=name, options=criterion[1])
    if half:
        # The command line's precision 16-mixed becomes bf16-mixed on a CPU; a plugin does not.
        options["plugins"] = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**13))
    fitted(
        folder,
        monkeypatch,
        [watch],
        pruning=pruning,
        net=plain_net,
        model={"lr": lr, "optimizer": optimizer},
        **options,
    )
    assert pruning.stage == 2
    return watch


@pytest.mark.parametrize("criterion", OPTIONS.values(), ids=OPTIONS)
def test_half__scores_are_those_of_the_steps_that_were_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, criterion: tuple[str, dict[str, Any]]
) -> None:
    full = run(tmp_path, monkeypatch, criterion, half=False)
    half = run(tmp_path, monkeypatch, criterion, half=True)
    assert half.scales[:5] == [8192.0] * SKIPPED + [4096.0] * 3
    # 5 batches, of 4 images each or one step; all but one count.
    skipped = full.sums[SKIPPED + 1] - full.sums[SKIPPED]
    expected = (full.sums[5] - skipped) / 4 * (full.mean.sum() * 5 / full.sums[5].sum())
    tolerance = {"rtol": 0.03, "atol": 0.003 * float(expected.abs().max())}
    torch.testing.assert_close(half.mean, expected, **tolerance)
    # With that step's images they would be others: the tolerance does not cover it up.
    assert not torch.allclose(full.mean, expected, **tolerance)


STEPS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": partial(torch.optim.SGD, momentum=0.9)}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("kind", ["foreach", "fused"])
def test_half__optimizer_steps_skips_and_is_scored_as_it_should(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Callable[..., Any], kind: str
) -> None:
    make = partial(step, **{kind: True})
    full = run(tmp_path, monkeypatch, ("taylor", {}), half=False)
    half = run(tmp_path, monkeypatch, ("taylor", {}), half=True, optimizer=make)
    expected = (full.sums[5] - (full.sums[SKIPPED + 1] - full.sums[SKIPPED])) / 16
    assert half.scales[:5] == [8192.0] * SKIPPED + [4096.0] * 3
    torch.testing.assert_close(half.mean, expected, rtol=0.03, atol=0.003 * float(expected.abs().max()))
    # All weights move in each epoch, those after a cut too, and what the optimizer remembers has their shapes.
    assert run(tmp_path, monkeypatch, ("taylor", {}), half=True, lr=1e-2, optimizer=make).still == []


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_half__fused_is_foreach_when_the_first_step_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: Callable[..., Any]
) -> None:
    """Deterministic mode fills memory that nobody has written to with NaN."""
    found = []
    for kind in ("foreach", "fused"):
        more: dict[str, Any] = {"deterministic": True, "max_epochs": 3, "lr": 1e-3}
        make = partial(step, **{kind: True})
        watch = run(tmp_path, monkeypatch, ("taylor", {}), half=True, overflow_at=0, optimizer=make, **more)
        found.append(watch.at_start[0])
    assert all(torch.isfinite(value).all() for value in found[1])
    torch.testing.assert_close(found[1], found[0], rtol=1e-2, atol=1e-3)


def test_half__fused_and_clipped_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = partial(torch.optim.AdamW, fused=True)
    with pytest.raises(ConfigError, match=r"can't be clipped before; drop --trainer\.gradient_clip_val"):
        run(tmp_path, monkeypatch, ("taylor", {}), half=True, optimizer=make, gradient_clip_val=1.0)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_half__weights_move_after_each_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int) -> None:
    options = {"accumulate_grad_batches": accumulate}
    assert run(tmp_path, monkeypatch, ("taylor", {}), half=True, lr=1e-2, **options).still == []


def test_half__of_accumulated_batches_all_or_none_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = run(tmp_path, monkeypatch, ("taylor", {}), half=True, accumulate_grad_batches=2)
    # Steps after batches 1, 3 and 4; the third is skipped.
    assert watch.scales[:5] == [8192.0] * 4 + [4096.0]
    assert torch.equal(watch.sums[5], watch.sums[4])
    assert not torch.equal(watch.sums[4], watch.sums[2])


def test_double__a_resumed_run_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 2:
                raise KeyError

    double: dict[str, Any] = {"precision": "64-true"}
    whole, _ = fitted(tmp_path / "whole", monkeypatch, [], **double)
    double |= {"enable_checkpointing": True}
    with pytest.raises(KeyError):
        # Stopped between scoring and cut, and between the two cuts.
        fitted(tmp_path, monkeypatch, [Stop(), StageCheckpoint()], **double)
    last = tmp_path / "checkpoints" / "last.ckpt"
    (state,) = (v for k, v in read(last)["callbacks"].items() if "Pruning" in k)
    assert state["criterion"]["images"] == 20
    assert state["criterion"]["total"].dtype == torch.float64
    again, _ = fitted(tmp_path, monkeypatch, [StageCheckpoint()], ckpt_path=last, **double)
    for name, value in whole.state_dict().items():
        assert value.dtype in (torch.float64, torch.int64), name
        assert torch.equal(again.state_dict()[name], value), name
