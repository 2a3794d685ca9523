import copy
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from frames import SIZE, Frames, collate, sample, trainer
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningCLI
from scipy import ndimage
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau, StepLR

from polyp_lightning.checkpoints import record as checkpoint
from polyp_lightning.checkpoints.record import read_record
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.frame_rule import frame_score
from polyp_lightning.metrics import alarm_metrics, evaluation_metrics
from polyp_lightning.networks.build import ArchOptions, build_net
from polyp_lightning.training import module as segmenter
from polyp_lightning.training.module import PolypSegmenter
from polyp_lightning.training.resume import check_resumable


def parameters(module: PolypSegmenter) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def loop_test_scores(module: PolypSegmenter, indices: range) -> dict[str, float]:
    """Dice and IoU at the original resolution, and alarms at the network's, in NumPy apart from the network."""
    module.eval()
    dice, iou, false, right, polyps, found_polyps = [], [], [], [], 0, 0
    for index in indices:
        s = sample(index)
        with torch.no_grad():
            logits = module(s["image"][None])[0, 0].double().numpy()
        found, truth = bilinear(logits, s["size"]) > 0, s["original_mask"].numpy() > 0
        hit, either = (found & truth).sum(), (found | truth).sum()
        dice.append(1.0 if either == 0 else 2 * hit / (hit + either))
        iou.append(1.0 if either == 0 else hit / either)
        alarm = np.sort(logits.ravel())[-max(1, round(0.001 * logits.size))] > 0
        mask = s["mask"][0].numpy()
        (right if mask.any() else false).append(float(alarm))
        components, count = ndimage.label(mask, np.ones((3, 3)))
        polyps += count
        found_polyps += sum(bool(alarm and (logits > 0)[components == number].any()) for number in range(1, count + 1))
    alarms = {"false_positive_rate": np.mean(false), "frame_sensitivity": np.mean(right)}
    return alarms | {"dice": np.mean(dice), "iou": np.mean(iou), "polyp_sensitivity": found_polyps / polyps}


def bilinear(values: np.ndarray[Any, Any], size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """Bilinear resizing with pixel centres aligned (align_corners=False), by definition."""
    for axis, new in enumerate(size):
        old = values.shape[axis]
        at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, old - 1)
        share = (at - low).reshape((-1, 1) if axis == 0 else (1, -1))
        values = np.take(values, low, axis) * (1 - share) + np.take(values, high, axis) * share
    return values


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[PolypSegmenter, Path, dict[str, float], list[float]]:
    """A module that has overfitted its eight frames, its checkpoint, its last metrics and its losses."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("fit")
    module, losses = PolypSegmenter(image_size=SIZE, lr=3e-3), []
    original = module.training_step

    def noted(batch: dict[str, Any], batch_idx: int) -> Tensor:
        loss = original(batch, batch_idx)
        losses.append(loss.item())
        return loss

    module.training_step = noted  # type: ignore[method-assign]
    run = trainer(folder, epochs=12, check_val_every_n_epoch=12)
    run.fit(module, datamodule=Frames())
    run.save_checkpoint(folder / "last.ckpt")
    del module.training_step
    return module, folder / "last.ckpt", {k: v.item() for k, v in run.callback_metrics.items()}, losses


def test_fit__overfits_a_few_frames(fitted: Any) -> None:
    _, _, logged, losses = fitted
    assert np.mean(losses[-2:]) < 0.5 * np.mean(losses[:2])
    assert logged["val/dice"] > 0.7
    assert {"train/loss", "val/loss", "val/dice", "val/iou"} <= set(logged)
    assert logged["train/loss"] == pytest.approx(np.mean(losses[-2:]), rel=1e-5)


def test_fit__validation_metrics_equal_a_loop(fitted: Any) -> None:
    module, _, logged, _ = fitted
    module.eval()
    dice = []
    for index in range(8):
        s = sample(index)
        with torch.no_grad():
            found = module(s["image"][None])[0, 0].numpy() > 0
        truth = s["mask"][0].numpy() > 0
        dice.append(1.0 if not (found | truth).any() else 2 * (found & truth).sum() / (found.sum() + truth.sum()))
    assert logged["val/dice"] == pytest.approx(np.mean(dice), abs=1e-5)


def test_forward__normalises_uint8_and_float_alike() -> None:
    module = PolypSegmenter(encoder="timm-tf_efficientnet_lite0", image_size=SIZE).eval().double()
    image = sample(0)["image"][None]
    expected = module.net(((image.double() / 255 - 0.5) / 0.5).to(memory_format=torch.channels_last))
    torch.testing.assert_close(module(image), expected)
    torch.testing.assert_close(module(image.float()), expected)
    assert not any(name in ("mean", "std") for name in module.state_dict())


def test_net__is_channels_last(fitted: Any) -> None:
    module, path, *_ = fitted
    for one in (module, PolypSegmenter.load_from_checkpoint(path)):
        weights = [p for p in one.net.parameters() if p.ndim == 4]
        assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
        seen: list[bool] = []
        handle = one.net.get_submodule("encoder.layer2").register_forward_pre_hook(
            lambda _, inputs, seen=seen: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
        one(sample(0)["image"][None])
        handle.remove()
        assert seen == [True]


def test_test__equals_a_loop_at_the_original_resolution(fitted: Any, tmp_path: Path) -> None:
    module = fitted[0]
    (logged,) = trainer(tmp_path).test(module, datamodule=Frames(), verbose=False)
    for name, value in loop_test_scores(module, range(8)).items():
        assert logged[f"test/{name}"] == pytest.approx(value, abs=1e-5)
    assert set(logged) == {f"test/{name}" for name in (*evaluation_metrics().keys(), *alarm_metrics(0.5).keys())}
    assert logged["test/hd95_left_out"] >= 2


def test_test__keeps_several_sets_apart(fitted: Any, tmp_path: Path) -> None:
    module, run = fitted[0], trainer(tmp_path)
    for _ in range(2):  # a second call starts afresh
        run.test(module, datamodule=Frames(test_sets=2), verbose=False)
        logged = run.callback_metrics
        for name, indices in (("first", range(8)), ("second", range(4, 8))):
            for metric, value in loop_test_scores(module, indices).items():
                assert logged[f"test/{name}/{metric}"].item() == pytest.approx(value, abs=1e-5)
        assert "test/dice" not in logged


def test_predict__masks_have_the_original_sizes(fitted: Any, tmp_path: Path) -> None:
    module = fitted[0]
    batches = trainer(tmp_path).predict(module, datamodule=Frames())
    assert batches is not None
    masks = [mask for batch in batches for mask in batch["mask"]]  # type: ignore[call-overload]
    assert [name for batch in batches for name in batch["name"]] == [f"frame{i}" for i in range(8)]  # type: ignore[call-overload]
    for index, mask in enumerate(masks):
        logits = module.eval()(sample(index)["image"][None])[0, 0].detach().double().numpy()
        expected = (bilinear(logits, sample(index)["size"]) > 0) * np.uint8(255)
        assert mask.dtype == torch.uint8
        assert mask.shape == expected.shape
        assert (mask.numpy() != expected).mean() < 1e-3  # logits within rounding of 0


def test_predict_step__alarms_are_those_of_the_checkpoints_threshold(fitted: Any, tmp_path: Path) -> None:
    module, path, *_ = fitted
    scores = []
    for index in range(8):
        with torch.no_grad():
            map_ = module.eval()(sample(index)["image"][None]).sigmoid().numpy()
        scores.append(frame_score(map_))
    threshold = float(np.median(scores))
    stored = torch.load(path, weights_only=True)
    stored[checkpoint.KEY][checkpoint.ALARM] = threshold
    torch.save(stored, tmp_path / "with.ckpt")
    loaded = PolypSegmenter.load_from_checkpoint(tmp_path / "with.ckpt")
    found = [loaded.predict_step(collate([sample(index)]), 0) for index in range(8)]
    assert [one["frame_score"][0] for one in found] == pytest.approx(scores, abs=1e-6)
    assert [one["alarm"][0] for one in found] == [score > threshold for score in scores]
    assert sum(one["alarm"][0] for one in found) == 4
    stored[checkpoint.KEY][checkpoint.ALARM] = 1.5
    torch.save(stored, tmp_path / "bad.ckpt")
    with pytest.raises(ConfigError, match=r"alarm threshold is damaged \(1\.5\)"):
        PolypSegmenter.load_from_checkpoint(tmp_path / "bad.ckpt")


def test_predict_masks__leaves_every_layers_mode_alone() -> None:
    module = PolypSegmenter(image_size=SIZE).train()
    module.net.get_submodule("encoder.bn1").eval()
    modes = [m.training for m in module.modules()]
    statistics = module.net.get_submodule("encoder.bn1").state_dict()["running_mean"].clone()
    (mask,) = module.predict_masks(collate([sample(0)]))
    assert mask.shape == sample(0)["size"]
    assert [m.training for m in module.modules()] == modes
    assert torch.equal(module.net.get_submodule("encoder.bn1").state_dict()["running_mean"], statistics)


def test_fit__bf16_moves_every_used_weight(tmp_path: Path) -> None:
    module = PolypSegmenter(image_size=SIZE)
    before = parameters(module)
    run = trainer(tmp_path, epochs=4, precision="bf16-mixed", check_val_every_n_epoch=4)
    run.fit(module, datamodule=Frames(4))
    assert all(not torch.equal(a, b) for a, b in zip(before, parameters(module), strict=True))
    assert all(p.dtype == torch.float32 for p in module.parameters())
    assert np.isfinite(run.callback_metrics["val/loss"].item())


def optimizers_of(module: PolypSegmenter, folder: Path, epochs: int = 2) -> Any:
    run = trainer(folder, epochs=epochs, limit_train_batches=1, limit_val_batches=1)
    run.fit(module, datamodule=Frames(4))
    return run.optimizers[0], run.lr_scheduler_configs[0]


def test_configure_optimizers__default_is_adamw_with_one_cycle(tmp_path: Path) -> None:
    optimizer, config = optimizers_of(PolypSegmenter(image_size=SIZE, lr=0.02), tmp_path)
    assert type(optimizer) is torch.optim.AdamW
    assert isinstance(config.scheduler, OneCycleLR)
    assert (config.interval, config.scheduler.total_steps) == ("step", 2)
    assert optimizer.param_groups[0]["max_lr"] == 0.02


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adagrad])
def test_configure_optimizers__one_cycle_over_any_optimizer(tmp_path: Path, optimizer: Any) -> None:
    made, _ = optimizers_of(PolypSegmenter(image_size=SIZE, optimizer=optimizer), tmp_path)
    assert type(made) is optimizer


def test_configure_optimizers__own_scheduler_steps_once_an_epoch(tmp_path: Path) -> None:
    module = PolypSegmenter(
        image_size=SIZE,
        lr=0.01,
        optimizer=lambda params: torch.optim.SGD(params, lr=99.0),
        lr_scheduler=lambda optimizer: StepLR(optimizer, step_size=1, gamma=0.1),
    )
    optimizer, config = optimizers_of(module, tmp_path)
    assert config.interval == "epoch"
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.1**2)


def test_configure_optimizers__plateau_follows_dice(tmp_path: Path) -> None:
    def plateau(mode: Any) -> Callable[[Any], ReduceLROnPlateau]:
        return lambda optimizer: ReduceLROnPlateau(optimizer, mode=mode)

    _, config = optimizers_of(PolypSegmenter(image_size=SIZE, lr_scheduler=plateau("max")), tmp_path)
    assert config.monitor == "val/dice"
    with pytest.raises(ConfigError, match="mode=max"):
        optimizers_of(PolypSegmenter(image_size=SIZE, lr_scheduler=plateau("min")), tmp_path)


def test_configure_optimizers__one_cycle_without_an_end(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--trainer\.max_epochs"):
        trainer(tmp_path, epochs=-1).fit(PolypSegmenter(image_size=SIZE), datamodule=Frames(4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "Unettt"}, r"--model\.arch"),
        ({"encoder": "resnet"}, r"--model\.encoder"),
        ({"loss": "dice"}, r"--model\.loss"),
        ({"lr": 0.0}, r"lr=0\.0 must be positive"),
        ({"image_size": 100}, r"image_size=100 must be a multiple of 32"),
    ],
)
def test_init__refuses_what_cannot_work(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PolypSegmenter(**options)


OPTIONS = {
    *("arch", "encoder", "encoder_weights", "loss", "lr", "image_size", "arch_options"),
    *("prediction", "map_weights", "mean", "std"),
}


def test_checkpoint__round_trip_without_pickle(fitted: Any) -> None:
    module, path, *_ = fitted
    stored = torch.load(path, weights_only=True)
    record = stored[checkpoint.KEY]
    assert record["schema"] == 1
    assert record["data"] == {"name": "frames", "train": 8}
    assert {type(v) for v in record["versions"].values()} == {str}
    assert stored["hyper_parameters"].keys() == OPTIONS
    loaded = PolypSegmenter.load_from_checkpoint(path, weights_only=True).eval()
    image = sample(1)["image"][None]
    assert torch.equal(loaded(image), module.eval()(image))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loops": {"fit_loop": {}, "validate_loop": {}, "test_loop": 3, "predict_loop": {}}}, "epochs or of its cuts"),
        ({"loops": 7}, "record of its epochs or of its cuts is damaged"),
        ({"callbacks": None}, r"epochs or of its cuts is damaged \(callbacks\), .*--model.init_from"),
        ({"optimizer_states": None, "loops": None}, "damaged"),
    ],
)
def test_check_resumable__says_what_a_run_needs(fitted: Any, change: dict[str, Any], message: str) -> None:
    _, path, *_ = fitted
    stored, run = torch.load(path, weights_only=True), trainer(path.parent)
    check_resumable(stored, run)
    with pytest.raises(ConfigError, match=message):
        check_resumable(stored | change, run)
    with pytest.raises(ConfigError, match="holds weights only"):
        check_resumable({key: value for key, value in stored.items() if key != "loops"}, run)


def test_lr_scheduler_step__a_schedule_that_fails_later_is_explained_where_it_came_from_a_checkpoint() -> None:
    module = PolypSegmenter(image_size=SIZE)
    schedule = StepLR(torch.optim.SGD(module.parameters(), 0.1), 2)
    schedule.load_state_dict({"step_size": "two"})
    with pytest.raises(TypeError):
        module.lr_scheduler_step(schedule, None)
    module._progress = SimpleNamespace(with_optimizer=True)  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"schedule is damaged .*\(TypeError.*--model\.resume_optimizer false"):
        module.lr_scheduler_step(schedule, None)


def test_checkpoint__remembers_options_of_the_architecture(tmp_path: Path) -> None:
    narrow: ArchOptions = {"decoder_channels": [48, 40, 32, 24, 16]}
    module = PolypSegmenter(arch_options=narrow, image_size=SIZE)
    run = trainer(tmp_path, limit_train_batches=1, limit_val_batches=0)
    run.fit(module, datamodule=Frames(4))
    path = tmp_path / "narrow.ckpt"
    run.save_checkpoint(path)
    loaded = PolypSegmenter.load_from_checkpoint(path, weights_only=True).eval()
    assert loaded.net.get_submodule("decoder.blocks.0.conv1.0").weight.shape[0] == 48
    image = sample(1)["image"][None]
    assert torch.equal(loaded(image), module.eval()(image))
    assert torch.equal(load_net(path).net(loaded.network_input(image)), loaded(image))
    text = read_record(path).flags()
    (flag,) = (one for one in text if one.startswith("--model.arch_options="))
    assert json.loads(flag.partition("=")[2]) == narrow
    with pytest.raises(ConfigError, match=r"holds Unet with resnet18 and \{'decoder_channels'.*arch_options"):
        PolypSegmenter(init_from=str(path))


def test_checkpoint__asks_for_no_pretrained_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "encoder.pth"
    torch.save(PolypSegmenter().net.get_submodule("encoder").state_dict(), weights)
    run = trainer(tmp_path, limit_train_batches=1, limit_val_batches=0)
    module = PolypSegmenter(encoder_weights=str(weights), image_size=SIZE)
    run.fit(module, datamodule=Frames(4))
    run.save_checkpoint(tmp_path / "last.ckpt")
    weights.unlink()
    asked: list[str | None] = []
    build = build_net

    def noted(
        arch: str, encoder: str, encoder_weights: str | None, options: ArchOptions | None, *more: Any
    ) -> nn.Module:
        asked.append(encoder_weights)
        return build(arch, encoder, encoder_weights, options, *more)

    for module_of_it in (segmenter, checkpoint):
        monkeypatch.setattr(module_of_it, "build_net", noted)
    loaded = PolypSegmenter.load_from_checkpoint(tmp_path / "last.ckpt")
    assert asked == [None, None]
    assert all(torch.equal(a, b) for a, b in zip(parameters(loaded), parameters(module), strict=True))
    assert module.hparams["encoder_weights"] == str(weights)
    stored = torch.load(tmp_path / "last.ckpt", weights_only=True)[checkpoint.KEY]
    assert stored["encoder_weights"] == weights.name


def narrowed(module: PolypSegmenter) -> PolypSegmenter:
    """A copy with half of the filters of one inner convolution."""
    small = copy.deepcopy(module)
    first, norm, second = (small.net.get_submodule(f"encoder.layer1.0.{n}") for n in ("conv1", "bn1", "conv2"))
    for layer, dim in ((first, 0), (norm, 0), (second, 1)):
        for _, value in [*layer.named_parameters(), *layer.named_buffers()]:
            if value.ndim > dim:
                value.data = value.data.split(32, dim)[0].contiguous()
    for layer, attribute in ((first, "out_channels"), (norm, "num_features"), (second, "in_channels")):
        setattr(layer, attribute, 32)
    return small


@pytest.mark.parametrize("into_pruned", [False, True])
def test_checkpoint__shapes_follow_the_checkpoint(fitted: Any, tmp_path: Path, into_pruned: bool) -> None:
    dense = fitted[0]
    small = narrowed(dense)
    source, target = (dense, small) if into_pruned else (small, PolypSegmenter(image_size=SIZE))
    run = trainer(tmp_path)
    run.strategy.connect(source)
    run.save_checkpoint(tmp_path / "source.ckpt", weights_only=True)
    expected = trainer(tmp_path).test(source, datamodule=Frames(), verbose=False)
    found = trainer(tmp_path).test(target, datamodule=Frames(), ckpt_path=tmp_path / "source.ckpt", verbose=False)
    np.testing.assert_equal(found, expected)
    shapes = [p.shape for p in source.parameters()]
    assert [p.shape for p in target.parameters()] == shapes


class StopAfterFirstEpoch(Callback):
    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        trainer.should_stop = True


def test_checkpoint__pruned_fit_resumes_and_moves(fitted: Any, tmp_path: Path) -> None:
    small = narrowed(fitted[0]).train()
    options = {"limit_train_batches": 1, "limit_val_batches": 0}
    first = trainer(tmp_path, epochs=3, callbacks=StopAfterFirstEpoch(), **options)
    first.fit(small, datamodule=Frames(4))
    first.save_checkpoint(tmp_path / "pruned.ckpt")
    fresh, resumed = PolypSegmenter(image_size=SIZE), trainer(tmp_path, epochs=3, **options)
    resumed.fit(fresh, datamodule=Frames(4), ckpt_path=tmp_path / "pruned.ckpt")
    assert resumed.global_step == 3
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in small.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(parameters(small), parameters(fresh), strict=True))
    owned = {id(p) for group in resumed.optimizers[0].param_groups for p in group["params"]}
    assert owned == {id(p) for p in fresh.parameters()}


def test_checkpoint__longer_than_its_one_cycle(fitted: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends after 24 steps, but this run has 26: keep --trainer\.max_epochs"):
        trainer(tmp_path, epochs=13).fit(PolypSegmenter(image_size=SIZE), datamodule=Frames(), ckpt_path=fitted[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda stored: stored.pop(checkpoint.KEY), "not written by polyp_lightning"),
        (lambda stored: stored[checkpoint.KEY].update(schema=2), r"layout 2 \(written by polyp_lightning 0"),
        (
            lambda stored: stored["hyper_parameters"].update(arch="FPN"),
            "holds FPN with resnet18, but Unet with resnet18",
        ),
    ],
)
def test_checkpoint__of_another_kind(fitted: Any, tmp_path: Path, change: Callable[[Any], Any], message: str) -> None:
    stored = torch.load(fitted[1], weights_only=True)
    change(stored)
    torch.save(stored, tmp_path / "changed.ckpt")
    with pytest.raises(ConfigError, match=message):
        trainer(tmp_path).test(
            PolypSegmenter(image_size=SIZE), datamodule=Frames(), ckpt_path=tmp_path / "changed.ckpt", verbose=False
        )


def test_cli__hyper_parameters_of_a_checkpoint_parse(fitted: Any, tmp_path: Path) -> None:
    common = ["--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    common += [f"--trainer.default_root_dir={tmp_path}", "--trainer.enable_model_summary=false"]

    def run(*args: str) -> LightningCLI:
        return LightningCLI(
            PolypSegmenter, Frames, args=[*args, *common], auto_configure_optimizers=False, save_config_callback=None
        )

    fit = ["--trainer.max_epochs=1", "--model.image_size=64", "--model.lr=0.004", "--data.count=4"]
    optimizer = ["--model.optimizer=SGD", "--model.optimizer.momentum=0.5"]
    first = run("fit", *fit, *optimizer, "--model.lr_scheduler=StepLR", "--model.lr_scheduler.step_size=1")
    assert isinstance(first.trainer.optimizers[0], torch.optim.SGD)
    assert first.trainer.optimizers[0].param_groups[0]["momentum"] == 0.5
    (path,) = tmp_path.rglob("*.ckpt")
    second = run("validate", f"--ckpt_path={path}")
    assert (second.model.lr, second.model.image_size) == (0.004, 64)
    loaded = PolypSegmenter.load_from_checkpoint(path)
    assert loaded.lr == 0.004
    pairs = zip(parameters(first.model), parameters(loaded), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_load_from_checkpoint__is_in_evaluation_mode_until_it_is_fitted(fitted: Any, tmp_path: Path) -> None:
    _, path, _, _ = fitted
    loaded = PolypSegmenter.load_from_checkpoint(path)
    assert not any(part.training for part in loaded.modules())
    modes: list[bool] = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
            modes.append(all(part.training for part in pl_module.net.modules()))

    trainer(tmp_path, callbacks=[Watch()]).fit(loaded, datamodule=Frames())
    assert modes == [True, True]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 100, 64), r"height=100, width=64\. Expected image height and width divisible by 32\. .*any size"),
        ((1, 64, 64, 3), r"images are RGB \(N, 3, H, W\) .* got \(1, 64, 64, 3\)"),
        ((3, 64, 64), r"got \(3, 64, 64\)"),
    ],
)
def test_forward__refuses_other_shapes_with_a_sentence(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PolypSegmenter("FPN", image_size=SIZE).eval()(torch.zeros(shape, dtype=torch.uint8))
