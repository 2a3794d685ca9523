"""The callback in real fits of a small network."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cuts import reference_macs
from fake_timer import FakeTimer
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from small_nets import Concat, SigmoidFeature
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.common.errors import ConfigError, PolypError, PruningError
from polyp_lightning.metrics import PerImageDice
from polyp_lightning.pruning.architecture import describe, rebuild
from polyp_lightning.pruning.budget import Limits
from polyp_lightning.training.validation_dice import validation_dice

SIZE = 16


class TinySegmenter(LightningModule):
    """Finds bright squares, and says how good it is right after a cut."""

    def __init__(self, net: nn.Module | None = None) -> None:
        super().__init__()
        self.save_hyperparameters({"image_size": SIZE})
        self.net = net or Concat(6)
        self.dice = PerImageDice()

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image.float() / 255)

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(self(batch["image"]), batch["mask"].float())

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        self.dice.update(self(batch["image"]) > 0, batch["mask"])
        self.log("val/dice", self.dice)

    def score_after_cut(self, trainer: Trainer) -> float | None:
        return validation_dice(trainer, self)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 1e-2)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["plan"] = describe(self.net)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.net = rebuild(Concat(6), checkpoint["plan"])


def frames(count: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    items = []
    for _ in range(count):
        image = torch.randint(0, 120, (3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
        mask = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
        y, x = torch.randint(0, SIZE - 6, (2,), generator=generator).tolist()
        mask[:, y : y + 6, x : x + 6] = 1
        items.append({"image": image + 100 * mask, "mask": mask})
    return items


def loaders() -> tuple[DataLoader[dict[str, Tensor]], DataLoader[dict[str, Tensor]]]:
    train, val = frames(24)[:16], frames(24)[16:]
    shuffled = RandomSampler(train, generator=torch.Generator().manual_seed(5))
    return DataLoader(train, 4, sampler=shuffled), DataLoader(val, 4)


def fit(folder: Path, pruning: Callback, module: LightningModule, epochs: int = 6, **options: Any) -> Trainer:
    callbacks = [pruning, *options.pop("callbacks", [])]
    ckpt_path = options.pop("ckpt_path", None)
    trainer = Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        callbacks=callbacks,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, *loaders(), ckpt_path=ckpt_path)
    return trainer


class Watch(Callback):
    """What an observer sees at each epoch's start, after the cut."""

    def __init__(self) -> None:
        self.weights: list[list[Tensor]] = []
        self.moved: list[list[bool]] = []
        self.training: list[bool] = []
        self.groups: list[set[int]] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.weights.append([p.detach().clone() for p in pl_module.parameters()])
        self.training.append(all(m.training for m in pl_module.modules()))
        self.groups.append({id(p) for g in trainer.optimizers[0].param_groups for p in g["params"]})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.moved.append(
            [not torch.equal(a, b) for a, b in zip(self.weights[-1], pl_module.parameters(), strict=True)]
        )


def test_callback__stages_meet_the_schedule(tmp_path: Path) -> None:
    seed_everything(0)
    module, pruning, watch = TinySegmenter(), TaylorFOPruning(0.4, 2, 4, limits=Limits(floor=0.0)), Watch()
    dense = reference_macs(module.net, SIZE)
    fit(tmp_path, pruning, module, callbacks=[watch])
    assert [r.stage for r in pruning.history] == [0, 1, 2, 3]
    assert [r.epoch for r in pruning.history] == [0, 2, 3, 4]
    wanted = [1.0, *(0.4 + 0.6 * (1 - k / 3) ** 3 for k in (1, 2, 3))]
    assert [r.share for r in pruning.history] == pytest.approx(wanted, abs=0.01)
    assert reference_macs(module.net, SIZE) / dense == pytest.approx(0.4, abs=0.01)
    # The table's own number is ptflops', which adds one per bias.
    assert pruning.history[-1].gmacs * 1e9 == pytest.approx(reference_macs(module.net, SIZE), rel=0.02)
    assert pruning.history[-1].params == sum(p.numel() for p in module.net.parameters())
    assert pruning.history[-1].layers["merge.0"] == module.net.merge[0].out_channels
    assert all(all(moved) for moved in watch.moved), "every weight moves in every epoch, also after a cut"
    assert all(watch.training), "batch norm trains on after a cut"
    assert all(ids == {id(p) for p in module.parameters()} for ids in watch.groups)


def test_callback__dice_is_that_of_the_named_moment(tmp_path: Path) -> None:
    seed_everything(0)
    module = TinySegmenter()
    pruning = TaylorFOPruning(0.5, 2, 2, recalibration_batches=0, limits=Limits(floor=0.0), monitor="val/dice")
    after: list[float] = []

    class Independent(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 2:
                after.append(numpy_dice(pl_module, frames(24)[16:]))

    trainer = fit(tmp_path, pruning, module, 4, callbacks=[Independent()])
    dense, pruned = pruning.history
    assert pruned.score_before == dense.score_end
    assert pruned.score_after == pytest.approx(after[0], abs=1e-6)
    assert pruned.score_end == pytest.approx(float(trainer.callback_metrics["val/dice"]))
    assert pruned.score_end == pytest.approx(numpy_dice(module, frames(24)[16:]), abs=1e-6)
    assert pruned.score_best >= pruned.score_end


def numpy_dice(module: LightningModule, items: list[dict[str, Tensor]]) -> float:
    was_training = module.training
    module.eval()
    scores = []
    for item in items:
        with torch.no_grad():
            predicted = module(item["image"][None]).numpy()[0, 0] > 0
        true = item["mask"].numpy()[0] > 0
        total = predicted.sum() + true.sum()
        scores.append(1.0 if total == 0 else 2 * (predicted & true).sum() / total)
    module.train(was_training)
    return float(np.mean(scores))


def test_callback__scores_only_the_epoch_before_a_cut(tmp_path: Path) -> None:
    pruning = TaylorFOPruning(0.5, 2, 4, 2, limits=Limits(floor=0.0))
    counts: list[int] = []

    class Count(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            counts.append(pruning._criterion.count)

    fit(tmp_path, pruning, TinySegmenter(), callbacks=[Count()])
    assert counts == [0, 16, 0, 16, 0, 0]


def test_callback__a_second_fit_prunes_the_second_network(tmp_path: Path) -> None:
    pruning = TaylorFOPruning(0.5, 1, 2, limits=Limits(floor=0.0))
    for folder in ("first", "second"):
        module = TinySegmenter()
        fit(tmp_path / folder, pruning, module, 3)
        assert [r.stage for r in pruning.history] == [0, 1, 2]
        assert reference_macs(module.net, SIZE) / reference_macs(Concat(6), SIZE) == pytest.approx(0.5, abs=0.01)


def test_callback__dice_right_after_a_cut_is_of_the_limited_validation_set(tmp_path: Path) -> None:
    pruning, seen = TaylorFOPruning(0.5, 1, 1, limits=Limits(floor=0.0), recalibration_batches=0), []

    class Independent(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            seen.append(numpy_dice(pl_module, frames(24)[16:20]))

    fit(tmp_path, pruning, TinySegmenter(), 2, callbacks=[Independent()], limit_val_batches=1)
    assert pruning.history[1].score_after == pytest.approx(seen[1], abs=1e-6)


@pytest.mark.parametrize(
    ("criterion", "options"),
    [
        ("taylor", {"signal": "random"}),
        ("taylor_weight", {}),
        ("taylor_filter", {}),
        ("magnitude_l1", {}),
        ("random", {"seed": 3}),
        ("uniform", {}),
        ("oracle", {}),
    ],
)
def test_callback__any_criterion_meets_the_target(tmp_path: Path, criterion: str, options: dict[str, Any]) -> None:
    module = TinySegmenter()
    dense = reference_macs(module.net, SIZE)
    pruning = TaylorFOPruning(0.5, 1, 2, criterion=criterion, options=options, limits=Limits(floor=0.0))
    fit(tmp_path, pruning, module, 4)
    assert reference_macs(module.net, SIZE) / dense == pytest.approx(0.5, abs=0.01)


def test_callback__a_step_that_optimizes_by_itself_has_no_loss_to_ask_for(tmp_path: Path) -> None:
    module = TinySegmenter()
    module.automatic_optimization = False
    with pytest.raises(ConfigError, match=r"criterion 'oracle' .* TinySegmenter .*criterion=taylor"):
        fit(tmp_path, TaylorFOPruning(0.5, 1, 1, criterion="oracle"), module, 3)


def test_callback__passes_of_its_own_leave_the_training_alone(tmp_path: Path) -> None:
    weights = []
    for criterion in ("magnitude_l1", "oracle"):
        seed_everything(0)
        module = TinySegmenter()
        # A floor that lets nothing go: the two runs differ in their passes alone.
        options = {"criterion": criterion, "limits": Limits(floor=1.0), "check": "never"}
        fit(tmp_path / criterion, TaylorFOPruning(0.995, 1, 1, **options), module, 3)
        weights.append([p.detach() for p in module.parameters()])
    for left, right in zip(*weights, strict=True):
        assert torch.equal(left, right)


def test_callback__targets_in_gmacs_and_parameters(tmp_path: Path) -> None:
    dense = reference_macs(TinySegmenter().net, SIZE)
    module = TinySegmenter()
    fit(tmp_path, TaylorFOPruning(1.0, 1, 1, limits=Limits(floor=0.0), target_gmacs=0.6 * dense / 1e9), module, 3)
    assert reference_macs(module.net, SIZE) / dense == pytest.approx(0.6, abs=0.01)
    module = TinySegmenter()
    whole = sum(p.numel() for p in module.net.parameters())
    fit(tmp_path, TaylorFOPruning(1.0, 1, 1, limits=Limits(floor=0.0), target_params=0.6), module, 3)
    assert sum(p.numel() for p in module.net.parameters()) / whole == pytest.approx(0.6, abs=0.02)


def test_callback__milliseconds_are_met_stage_by_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timer = FakeTimer(step=1)
    monkeypatch.setattr("polyp_lightning.callbacks.pruning.build_timer", lambda backend, threads: timer)
    module = TinySegmenter(Concat(8))
    whole = timer(copy.deepcopy(module.net).eval(), (1, 3, SIZE, SIZE))
    fit(tmp_path, TaylorFOPruning(1.0, 1, 2, limits=Limits(floor=0.0), target_ms=0.7 * whole), module, 4)
    assert timer(copy.deepcopy(module.net).eval(), (1, 3, SIZE, SIZE)) == pytest.approx(0.7 * whole, rel=0.05)


def test_callback__leaves_no_hook_behind(tmp_path: Path) -> None:
    module = TinySegmenter()
    fit(tmp_path, TaylorFOPruning(0.5, 1, 2, limits=Limits(floor=0.0)), module, 3)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_callback__removes_the_hooks_after_an_exception(tmp_path: Path) -> None:
    class Bad(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            msg = "stop"
            raise RuntimeError(msg)

    module = TinySegmenter()
    with pytest.raises(RuntimeError, match="stop"):
        fit(tmp_path, TaylorFOPruning(0.5, 1, 2), module, 3, callbacks=[Bad()])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_callback__target_of_one_is_the_plain_training(tmp_path: Path) -> None:
    weights = []
    for callback in (TaylorFOPruning(1.0), Callback()):
        seed_everything(0)
        module = TinySegmenter()
        fit(tmp_path, callback, module, 2)
        weights.append(module.state_dict())
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_callback__order_of_the_training_images_is_not_disturbed(tmp_path: Path) -> None:
    orders = []
    for target in (1.0, 0.5):
        seen: list[Tensor] = []

        class Record(Callback):
            def on_train_batch_start(self, trainer: Trainer, module: Any, batch: Any, *args: Any) -> None:
                self.seen.append(batch["image"].clone())

        record = Record()
        record.seen = seen
        seed_everything(0)
        fit(tmp_path, TaylorFOPruning(target, 1, 2, limits=Limits(floor=0.0)), TinySegmenter(), 4, callbacks=[record])
        orders.append(torch.cat(seen))
    assert torch.equal(*orders)


@pytest.mark.filterwarnings("ignore:training ended before")
def test_callback__resumed_at_an_epochs_end_is_bit_equal(tmp_path: Path) -> None:
    def run(folder: Path, epochs: int, **options: Any) -> tuple[TinySegmenter, TaylorFOPruning, Trainer]:
        seed_everything(0)
        module, pruning = TinySegmenter(), TaylorFOPruning(0.4, 2, 4, limits=Limits(floor=0.0))
        # The sampler of these loaders draws from a generator of its own: reseed it by the epoch.
        trainer = fit(folder, pruning, module, 6, callbacks=[StopAfter(epochs)], **options)
        return module, pruning, trainer

    class StopAfter(Callback):
        def __init__(self, epochs: int) -> None:
            self.epochs = epochs

        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer.train_dataloader.sampler.generator.manual_seed(trainer.current_epoch)

        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            trainer.should_stop = trainer.current_epoch + 1 >= self.epochs

    whole, whole_pruning, _ = run(tmp_path / "whole", 6)
    for stop in (2, 3, 5):
        folder = tmp_path / str(stop)
        _, _, trainer = run(folder, stop)
        trainer.save_checkpoint(folder / "stopped.ckpt")
        torch.load(folder / "stopped.ckpt", weights_only=True)
        resumed, pruning, _ = run(folder, 6, ckpt_path=folder / "stopped.ckpt")
        assert [r.as_dict() for r in pruning.history] == [r.as_dict() for r in whole_pruning.history]
        expected = whole.state_dict()
        assert all(torch.equal(expected[k], v) for k, v in resumed.state_dict().items())


def run_by(criterion: str, folder: Path) -> TaylorFOPruning:
    """Leaves ``run.ckpt``, from the end of an epoch that is followed by a cut."""

    class SaveThird(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 2:
                trainer.save_checkpoint(folder / "run.ckpt")

    seed_everything(0)
    pruning = TaylorFOPruning(0.4, 2, 3, limits=Limits(floor=0.0), criterion=criterion)
    fit(folder, pruning, TinySegmenter(), 4, callbacks=[SaveThird()])
    return pruning


@pytest.mark.parametrize("criterion", ["random", "uniform", "taylor_weight"])
def test_callback__other_verbs_need_not_know_the_criterion(tmp_path: Path, criterion: str) -> None:
    made = run_by(criterion, tmp_path)
    other = TaylorFOPruning()
    trainer = Trainer(default_root_dir=tmp_path, callbacks=[other], accelerator="cpu", logger=False)
    trainer.validate(TinySegmenter(), loaders()[1], ckpt_path=tmp_path / "run.ckpt", verbose=False)
    assert [record.layers for record in other.history] == [record.layers for record in made.history[:2]]


@pytest.mark.parametrize(("before", "after"), [("random", "taylor"), ("taylor", "random")])
def test_callback__a_resumed_run_keeps_its_criterion(tmp_path: Path, before: str, after: str) -> None:
    run_by(before, tmp_path)
    pruning = TaylorFOPruning(0.4, 2, 3, criterion=after)
    with pytest.raises(ConfigError, match=rf"criterion={before}, not {after}; .*a new run with its weights"):
        fit(tmp_path, pruning, TinySegmenter(), 4, ckpt_path=tmp_path / "run.ckpt")


def test_callback__a_schedule_beyond_the_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"last cut is at epoch 6, but training ends after 5 epochs .*lower end"):
        fit(tmp_path, TaylorFOPruning(0.5, 2, 6), TinySegmenter(), 5)


@pytest.mark.filterwarnings("ignore:.*filters can't be cut")
def test_callback__a_net_with_nothing_to_prune_is_explained(tmp_path: Path) -> None:
    with pytest.raises(PruningError, match="nothing in this network can be removed"):
        fit(tmp_path, TaylorFOPruning(0.5, 1, 1), TinySegmenter(SigmoidFeature()), 3)


def test_callback__a_target_below_the_floor_is_explained(tmp_path: Path) -> None:
    with pytest.raises(PruningError, match="lower floor"):
        fit(tmp_path, TaylorFOPruning(0.05, 1, 1, limits=Limits(floor=0.9)), TinySegmenter(), 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 1.2}, "target is 1.2"),
        ({"target_params": 0.5, "target_gmacs": 1.0}, "give one target, not 2"),
        ({"scoring_batches": 0}, "scoring_batches is 0"),
        ({"recalibration_batches": -1}, "recalibration_batches is -1"),
        ({"check": "often"}, "choose one of first, always, never"),
        ({"criterion": "tailor"}, "taylor"),
        ({"options": {"reduction": "cube"}}, "choose one of abs, square, signed"),
    ],
)
def test_callback__nonsense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(PolypError, match=message):
        TaylorFOPruning(**options)


def test_callback__recalibration_sets_the_statistics_of_the_cut_net(tmp_path: Path) -> None:
    # After the cut the running statistics are those of the last training batches, not the dense network's.
    seen: dict[str, Tensor] = {}

    class Look(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 2:
                net = copy.deepcopy(pl_module.net).train()
                norm = net.outer[1]
                norm.reset_running_stats()
                norm.momentum = None
                with torch.no_grad():
                    for item in torch.stack([f["image"] for f in frames(24)[:16]]).split(16):
                        net(item.float() / 255)
                seen["expected"], seen["got"] = norm.running_mean, pl_module.net.outer[1].running_mean.clone()

    fit(tmp_path, TaylorFOPruning(0.6, 2, 2, limits=Limits(floor=0.0)), TinySegmenter(), 3, callbacks=[Look()])
    assert torch.allclose(seen["expected"], seen["got"], atol=1e-5)


@pytest.mark.parametrize("state", [{}, {"history": 3}, {"history": [], "dense": [1], "criterion": {}}])
def test_load_state_dict__damaged_state_is_told(state: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="record of its cuts is damaged"):
        TaylorFOPruning().load_state_dict(state)
