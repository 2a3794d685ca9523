"""Whatever a run does beside training: tuners, other verbs in between, steps in place of epochs, compiled networks …"""

import copy
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, EarlyStopping, LearningRateFinder, ModelCheckpoint
from strangers import Digits, Endless, Template, batches, labelled, template
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from polyp_lightning.callbacks import TaylorFOPruning
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.pruning.budget import Limits

pytestmark = pytest.mark.filterwarnings("ignore:the nearest to a budget", "ignore:training ended before")


def prune(start: int = 1, end: int = 2, **options: Any) -> TaylorFOPruning:
    return TaylorFOPruning(0.5, start, end, **{"limits": Limits(floor=0.0), **options})


def trainer(folder: Path, *callbacks: Any, package: Any = L, **options: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    if not any(isinstance(callback, ModelCheckpoint) for callback in callbacks):
        quiet["enable_checkpointing"] = False
    return package.Trainer(default_root_dir=folder, callbacks=list(callbacks), **{**quiet, "max_epochs": 4, **options})


def assert_pruned(pruning: TaylorFOPruning, module: nn.Module, fitter: Any, share: float = 0.5) -> None:
    assert pruning.history[-1].share == pytest.approx(share, abs=0.03)
    held = {id(p) for optimizer in fitter.optimizers for group in optimizer.param_groups for p in group["params"]}
    assert held >= {id(p) for p in module.parameters() if p.requires_grad}


# --- tuners and other verbs


class Sized(Template):
    """With what the batch-size finder changes."""

    def __init__(self) -> None:
        super().__init__(Digits())
        self.batch_size, self.lr = 2, 1e-3

    def train_dataloader(self) -> Any:
        return DataLoader(labelled(16), self.batch_size)  # type: ignore[arg-type]

    def val_dataloader(self) -> Any:
        return batches(labelled(8))


@pytest.mark.parametrize(
    "finder",
    [lambda: LearningRateFinder(num_training_steps=4), lambda: BatchSizeFinder(steps_per_trial=1, max_trials=2)],
)
@pytest.mark.parametrize("first", [True, False])
def test_tuner__leaves_a_network_that_learns_and_is_cut(tmp_path: Path, finder: Any, first: bool) -> None:
    module, pruning = Sized(), prune()
    callbacks = [finder(), pruning] if first else [pruning, finder()]
    fitter = trainer(tmp_path, *callbacks)
    before = copy.deepcopy(module.net.state_dict())
    fitter.fit(module)
    assert_pruned(pruning, module, fitter)
    assert [row.epoch for row in pruning.history] == [0, 1, 2]
    assert before["model.0.weight"].shape != module.net.state_dict()["model.0.weight"].shape


def test_other_verbs_between_two_fits__leave_the_pruned_network(tmp_path: Path) -> None:
    module, train, val = template()
    pruning = prune()
    fitter = trainer(tmp_path, pruning, ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1), max_epochs=3)
    fitter.fit(module, train, val)
    shapes = {name: p.shape for name, p in module.named_parameters()}
    fitter.validate(module, val, verbose=False)
    # Another stage's, and back.
    fitter.validate(module, val, ckpt_path=tmp_path / "epoch=0.ckpt", verbose=False)
    assert {name: p.shape for name, p in module.named_parameters()} == {
        n: p.shape for n, p in template()[0].named_parameters()
    }
    fitter.validate(module, val, ckpt_path=tmp_path / "epoch=2.ckpt", verbose=False)
    assert {name: p.shape for name, p in module.named_parameters()} == shapes
    fitter.fit_loop.max_epochs = 4
    fitter.fit(module, train, val)
    assert [row.epoch for row in pruning.history] == [0, 1, 2]
    assert_pruned(pruning, module, fitter)


def test_best_of_another_stage__is_what_is_tested(tmp_path: Path) -> None:
    class Judged(Template):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("judged", float(-self.current_epoch))

        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.log("width", float(self.net.model[0].out_features))

    module, pruning = Judged(Digits()), prune()
    best = ModelCheckpoint(tmp_path, monitor="judged", mode="max")
    fitter = trainer(tmp_path, pruning, best, max_epochs=3)
    fitter.fit(module, batches(labelled(16)), batches(labelled(8)))
    assert module.net.model[0].out_features < 32
    (found,) = fitter.test(module, batches(labelled(8)), ckpt_path="best", verbose=False)
    assert found["width"] == 32
    assert (pruning.history[0].metric, pruning.history[0].score_end) == ("judged", 0)


def test_a_checkpoint_from_before_the_first_batch__begins_a_run(tmp_path: Path) -> None:
    class SaveFirst(L.Callback):
        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            trainer.save_checkpoint(tmp_path / "first.ckpt")

    module, train, val = template()
    trainer(tmp_path, prune(), SaveFirst()).fit(module, train, val)
    module, pruning = template()[0], prune()
    fitter = trainer(tmp_path, pruning)
    fitter.fit(module, train, val, ckpt_path=tmp_path / "first.ckpt")
    assert_pruned(pruning, module, fitter)


# --- how long a run is


@pytest.mark.parametrize("options", [{"max_steps": 12, "max_epochs": -1}, {"max_steps": 12, "max_epochs": 9}])
def test_steps__a_run_that_ends_before_the_last_epoch_with_a_cut_is_refused(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    module, train, val = template()
    with pytest.raises(
        ConfigError, match=r"last cut is at epoch 3, but training ends after 3 epochs .*raise the Trainer's max_steps"
    ):
        trainer(tmp_path, prune(1, 3), **options).fit(module, train, val)
    fitter, pruning = trainer(tmp_path, pruning := prune(1, 2), **options), pruning
    fitter.fit(module, train, val)
    assert_pruned(pruning, module, fitter)


def test_steps__epochs_without_an_end_are_refused_and_steps_are_counted_instead(tmp_path: Path) -> None:
    endless, options = DataLoader(Endless(), 4), {"max_steps": 30, "max_epochs": -1}
    with pytest.raises(ConfigError, match=r"in steps with interval=step"):
        trainer(tmp_path, prune(), **options).fit(template()[0], endless)
    with pytest.raises(ConfigError, match=r"last cut is at step 30, but training ends after 30 steps \(0 to 29\)"):
        trainer(tmp_path, prune(10, 30, every=10, interval="step"), **options).fit(template()[0], endless)
    module, pruning = template()[0], prune(10, 24, every=7, interval="step", check="always")
    fitter = trainer(tmp_path, pruning, **options)
    fitter.fit(module, endless)
    assert [row.step for row in pruning.history] == [0, 10, 17, 24]
    assert [row.asked for row in pruning.history][1:] == pytest.approx(
        [0.5 + 0.5 * (1 - k / 3) ** 3 for k in (1, 2, 3)]
    )
    assert_pruned(pruning, module, fitter)


def test_steps__cuts_within_epochs_are_of_the_steps_since_the_last_one(tmp_path: Path) -> None:
    counts: list[int] = []

    class Count(L.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            counts.append(pruning._criterion.count)  # type: ignore[attr-defined]

    module, train, val = template()
    pruning = prune(6, 10, every=4, interval="step", scoring_batches=2)
    trainer(tmp_path, pruning, Count()).fit(module, train, val)
    # Batches of 4; the 4 steps before each cut are scored.
    assert counts == [0, 0, 4, 8, 12, 16, 4, 8, 12, 16, 0, 0, 0, 0, 0, 0]


@pytest.mark.filterwarnings("default:training ended before")
def test_a_run_that_is_stopped_early__says_that_the_target_was_missed(tmp_path: Path) -> None:
    module, train, val = template()
    stop = EarlyStopping("val/loss", patience=0, min_delta=1e9)
    with pytest.warns(UserWarning, match="training ended before 1 of 2 cuts: the network has .* of the dense MACs"):
        trainer(tmp_path, prune(1, 2), stop).fit(module, train, val)


# --- what is recorded


def test_monitor__is_the_checkpoints_else_given_else_warned_of(tmp_path: Path) -> None:
    module, train, val = template()
    pruning = prune()
    trainer(tmp_path, pruning, ModelCheckpoint(tmp_path, monitor="val/loss")).fit(module, train, val)
    assert {row.metric for row in pruning.history} == {"val/loss"}
    assert all(0 < row.score_best <= row.score_end for row in pruning.history)  # type: ignore[operator]
    with pytest.warns(
        UserWarning, match=r"no metric is named to record.*set monitor to one of those logged: .*val/acc"
    ):
        trainer(tmp_path, prune()).fit(template()[0], train, val)
    with pytest.warns(UserWarning, match=r"'val/dice' is not logged.*val/acc"):
        trainer(tmp_path, prune(monitor="val/dice")).fit(template()[0], train, val)


def test_monitor__of_several_loaders_is_the_first_ones(tmp_path: Path) -> None:
    class Two(Template):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("score", float(dataloader_idx + 1))

        def on_validation_epoch_end(self) -> None: ...

    pruning = prune(monitor="score")
    trainer(tmp_path, pruning).fit(Two(Digits()), batches(labelled(16)), [batches(labelled(8)), batches(labelled(8))])
    assert [row.score_end for row in pruning.history] == [1, 1, 1]


def test_record__explains_each_cut(tmp_path: Path) -> None:
    module, train, val = template()
    pruning = prune()
    fitter = trainer(tmp_path, pruning, ModelCheckpoint(tmp_path, "run"))
    fitter.fit(module, train, val)
    (state,) = (
        v for k, v in torch.load(tmp_path / "run.ckpt", weights_only=True)["callbacks"].items() if "Taylor" in k
    )
    for row, asked in zip(state["history"][1:], (0.5625, 0.5), strict=True):
        assert (row["criterion"], row["unit"], row["asked"]) == ("taylor", "macs", pytest.approx(asked))
        assert row["left"] == pytest.approx(row["share"])


# --- which network


class Generator(Template):
    """Two networks of nearly the same size in one step."""

    def __init__(self) -> None:
        super().__init__(Digits())
        self.other = Digits()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.net(batch[0]).square().mean() + self.other(batch[0]).square().mean()


def test_net__in_doubt_the_candidates_are_listed_in_the_first_epoch(tmp_path: Path) -> None:
    train = batches(labelled(16))
    with pytest.raises(ConfigError, match=r"'net' \(9,\d+\), 'other' \(9,\d+\); name one with module"):
        trainer(tmp_path, prune()).fit(Generator(), train)
    module, pruning = Generator(), prune(module="other")
    fitter = trainer(tmp_path, pruning)
    fitter.fit(module, train)
    assert module.net.model[0].out_features == 32
    assert_pruned(pruning, module, fitter)
    with pytest.raises(ConfigError, match=r"module=nett: the module has no such submodule. Did you mean net\?"):
        trainer(tmp_path, prune(module="nett")).fit(Generator(), train)
    with pytest.raises(
        ConfigError, match=r"module=criterion is not called by a training step, which calls 'net', 'other'"
    ):
        trainer(tmp_path, prune(module="criterion")).fit(Generator(), train)


def test_net__given_with_its_example_is_scored_from_the_first_batch(tmp_path: Path) -> None:
    module, train, val = template()
    with pytest.raises(ConfigError, match=r"raise start, or give module='net' and example"):
        trainer(tmp_path, prune(), limit_train_batches=1).fit(module, train, val)
    pruning = prune(module="net", example=(2, 1, 16, 16))
    fitter = trainer(tmp_path, pruning, limit_train_batches=1)
    fitter.fit(module, train, val)
    assert_pruned(pruning, module, fitter)


# --- compiled


@pytest.mark.parametrize("how", ["net", "in place", "module"])
def test_compiled__is_scored_and_cut_whichever_epoch_comes_first(tmp_path: Path, how: str) -> None:
    shares = []
    for compiled in (False, True):
        torch.manual_seed(0)
        module, train, val = template()
        if compiled and how == "net":
            module.net = torch.compile(module.net, backend="eager")  # type: ignore[assignment]
        elif compiled and how == "in place":
            module.net.compile(backend="eager")  # type: ignore[operator]
        whole = torch.compile(module, backend="eager") if compiled and how == "module" else module
        pruning = prune(2, 3)
        trainer(tmp_path, pruning, max_epochs=5).fit(whole, train, val)  # type: ignore[arg-type]
        shares.append([row.share for row in pruning.history])
    assert shares[1] == pytest.approx(shares[0], abs=0.03)
    assert shares[1][-1] == pytest.approx(0.5, abs=0.03)


# --- the other package, and averages


def test_pytorch_lightning__works_as_lightning_does(tmp_path: Path) -> None:
    pl = pytest.importorskip("pytorch_lightning")

    class Theirs(pl.LightningModule):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = Digits()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", self.training_step(batch, batch_idx))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters())

    module, pruning = Theirs(), prune()
    best = pl.callbacks.ModelCheckpoint(tmp_path, monitor="val_loss")
    fitter = trainer(tmp_path, pruning, best, package=pl, enable_checkpointing=True)
    fitter.fit(module, batches(labelled(16)), batches(labelled(8)))
    assert_pruned(pruning, module, fitter)
    assert pruning.history[-1].metric == "val_loss"
    assert pruning.history[-1].score_best is not None


class Averages(Template):
    """Keeps an average of its own, of the network or of something else."""

    def __init__(self, of: str) -> None:
        super().__init__(Digits())
        whole = self.net if of == "net" else self.net.model[:4]  # type: ignore[index]
        self.ema = AveragedModel(whole, multi_avg_fn=get_ema_multi_avg_fn(0.9)).requires_grad_(False)

    def on_train_batch_end(self, *_: Any) -> None:
        self.ema.update_parameters(self.net)


def test_averaged_model__is_cut_along_or_refused_by_name(tmp_path: Path) -> None:
    train, val = batches(labelled(16)), batches(labelled(8))
    module, pruning = Averages("net"), prune()
    fitter = trainer(tmp_path, pruning, ModelCheckpoint(tmp_path, "ema"))
    fitter.fit(module, train, val)
    assert_pruned(pruning, module.net, fitter)
    shapes = {name: p.shape for name, p in module.net.named_parameters()}
    assert {name: p.shape for name, p in module.ema.module.named_parameters()} == shapes
    # Its checkpoint brings both.
    trainer(tmp_path, prune()).validate(Averages("net"), val, ckpt_path=tmp_path / "ema.ckpt", verbose=False)
    with pytest.raises(ConfigError, match=r"the module's 'ema' \(AveragedModel\)"):
        trainer(tmp_path, prune(module="net.model")).fit(Averages("part"), train, val)
