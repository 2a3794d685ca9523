"""The verb ``prune`` on a trained network, and what can be done with the file that it writes."""

import json
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import pytest
import torch
from fake_timer import FakeTimer
from torch.utils.flop_counter import FlopCounterMode

from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.checkpoints.file import read
from polyp_lightning.checkpoints.record import KEY
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.cli import main
from polyp_lightning.cli import prune as oneshot
from polyp_lightning.common.errors import PolypError
from polyp_lightning.pruning.budget import UNITS
from polyp_lightning.pruning.criteria import CRITERIA

SIZE = 64
QUICK = ["--batches", "2", "--batch_size", "2", "--recalibration_batches", "2"]
FIT = [
    *("fit", "--data.phantom_frames", "14", "--data.num_workers", "0", "--data.batch_size", "4"),
    *("--data.image_size", str(SIZE), "--trainer.max_epochs", "1", "--pruning.target", "1"),
    *("--trainer.logger", "false", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"),
]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a small dense run."""
    root = tmp_path_factory.mktemp("dense")
    assert main([*FIT, "--trainer.default_root_dir", str(root)]) == 0
    return root / "checkpoints" / "last.ckpt"


def macs(checkpoint: Path) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        load_net(checkpoint).net(torch.rand(1, 3, SIZE, SIZE))
    return counter.get_total_flops() // 2


def parameters(checkpoint: Path) -> int:
    return sum(p.numel() for p in load_net(checkpoint).net.parameters())


@pytest.mark.parametrize(
    ("options", "cost", "wanted"),
    [
        (["--target", "0.3"], macs, 0.3),
        (["--target_params", "0.4", "--allocation", "optimal"], parameters, 0.4),
        (["--target_gmacs", "0.1", "--criterion", "magnitude_l1"], macs, None),
    ],
)
def test_prune__meets_the_target(
    options: list[str], cost: object, wanted: float | None, dense: Path, tmp_path: Path
) -> None:
    goal = tmp_path / "cut.ckpt"
    assert main(["prune", "--ckpt_path", str(dense), *options, *QUICK, "--output", str(goal)]) == 0
    assert callable(cost)
    whole = cost(dense)
    assert cost(goal) / whole == pytest.approx(wanted if wanted else 1e8 / whole, abs=0.01)


def test_prune__its_checkpoint_is_one_like_any_other(dense: Path, tmp_path: Path) -> None:
    goal = tmp_path / "cut.ckpt"
    arguments = ["prune", "--ckpt_path", str(dense), "--target", "0.4", *QUICK, "--output", str(goal)]
    assert main(arguments) == 0
    assert read(goal)[KEY]["pruned"] == {
        "criterion": "taylor",
        "target": "0.400 of the MACs",
        "allocation": "global",
        "from": "last.ckpt",
    }
    folder = ["--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.enable_progress_bar", "false"]
    small = ["--data.phantom_frames", "14", "--data.num_workers", "0", "--trainer.logger", "false", *folder]
    assert main(["test", "--ckpt_path", str(goal), *small]) == 0
    before = macs(goal)
    assert main([*FIT, "--model.init_from", str(goal), *folder]) == 0
    assert macs(tmp_path / "run" / "checkpoints" / "last.ckpt") == before
    assert main(["export", "--ckpt_path", str(goal), "--output", str(tmp_path / "net.onnx")]) == 0
    assert main(arguments) == 2, "an older file must not be replaced unasked"


def test_prune__dry_run_writes_nothing(dense: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in dense.parent.iterdir()}
    assert main(["prune", "--ckpt_path", str(dense), "--target", "0.5", *QUICK, "--dry_run", "true"]) == 0
    shown = capsys.readouterr().out
    assert "encoder.layer4.0.conv1" in shown
    assert " 50%" in shown
    assert "What can't be cut" not in shown, "nothing of this network is frozen"
    assert {path: path.stat().st_mtime_ns for path in dense.parent.iterdir()} == before


@pytest.mark.parametrize("options", [oneshot.prune, TaylorFOPruning])
def test_target__each_unit_has_its_option(options: Callable[..., object]) -> None:
    given = {name for name in signature(options).parameters if name.startswith("target_")}
    assert {"target_macs", *given} == {f"target_{unit}" for unit in UNITS}


@pytest.mark.parametrize("criterion", sorted(set(CRITERIA) - {"oracle"}))
def test_prune__takes_every_criterion(criterion: str, dense: Path, tmp_path: Path) -> None:
    goal = tmp_path / "cut.ckpt"
    options = ["--criterion", criterion, "--target", "0.5", *QUICK, "--output", str(goal)]
    assert main(["prune", "--ckpt_path", str(dense), *options]) == 0
    assert macs(goal) / macs(dense) == pytest.approx(0.5, abs=0.01)


def test_prune__milliseconds_are_those_of_the_timer(
    dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timer = FakeTimer()
    monkeypatch.setattr(oneshot, "build_timer", lambda backend, threads: timer)
    whole = timer(load_net(dense).net, (1, 3, SIZE, SIZE))
    goal = tmp_path / "cut.ckpt"
    options = ["--target_ms", str(0.6 * whole), *QUICK, "--output", str(goal)]
    assert main(["prune", "--ckpt_path", str(dense), *options]) == 0
    assert timer(load_net(goal).net, (1, 3, SIZE, SIZE)) == pytest.approx(0.6 * whole, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "0"], "target is 0"),
        (["--target_params", "0.5", "--target_ms", "3"], "give one target, not 2"),
        (["--criterion", "tailor"], "taylor"),
        (["--criterion", "taylor", "--options", "{reduction: cube}"], "abs, square, signed"),
        (["--limits.protected", "[nolayer*]"], "nolayer"),
        (["--limits.floor", "0.9", "--target", "0.1"], "cannot be met"),
        (["--batches", "0"], "--batches 0 is too small"),
        (["--target_ms", "5", "--backend", "onnx"], "onnxruntime"),
        (["--tarket", "0.5"], "--target"),
    ],
)
def test_prune__mistakes_are_explained(
    options: list[str], message: str, dense: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(dense.parent.iterdir())
    assert main(["prune", "--ckpt_path", str(dense), *QUICK, *options]) == 2
    assert message in capsys.readouterr().err
    assert sorted(dense.parent.iterdir()) == before


def test_prune__a_checkpoint_of_unknown_data_is_refused(dense: Path, tmp_path: Path) -> None:
    stored = read(dense)
    stored[KEY] |= {"data": {}}
    torch.save(stored, tmp_path / "bare.ckpt")
    with pytest.raises(PolypError, match=r"does not say its data\.name"):
        oneshot.prune(str(tmp_path / "bare.ckpt"))


def test_prune__keeps_the_options_of_the_architecture(tmp_path: Path) -> None:
    narrow = {"decoder_pyramid_channels": 64, "decoder_segmentation_channels": 32}
    run = ["--trainer.default_root_dir", str(tmp_path / "run")]
    assert main([*FIT, "--model.arch", "FPN", "--model.arch_options", json.dumps(narrow), *run]) == 0
    dense, goal = tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "cut.ckpt"
    assert main(["prune", "--ckpt_path", str(dense), "--target", "0.5", *QUICK, "--output", str(goal)]) == 0
    assert load_net(goal).arch_options == narrow
    assert macs(goal) / macs(dense) == pytest.approx(0.5, abs=0.01)
    again = ["--trainer.default_root_dir", str(tmp_path / "again")]
    assert main([*FIT, "--model.init_from", str(goal), "--model.distill_from", str(dense), *again]) == 0
    assert macs(tmp_path / "again" / "checkpoints" / "last.ckpt") == macs(goal)
