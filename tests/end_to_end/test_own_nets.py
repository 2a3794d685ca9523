"""A network of the user's own through every verb."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from own_nets import Supervised

from polyp_lightning.checkpoints.record import read_record
from polyp_lightning.checkpoints.run_folder import best_checkpoints
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.cli import main
from polyp_lightning.cli.ckpt_path import find_named
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.deploy.bundle import load_model, read_bundle
from polyp_lightning.deploy.samples import draw_phantoms
from polyp_lightning.networks.losses import dice_bce
from polyp_lightning.networks.own import OwnNet
from polyp_lightning.report.inputs import read_source
from polyp_lightning.study.commands import Step, resume_step
from polyp_lightning.study.commands import test_steps as study_tests
from polyp_lightning.study.config import Data, Net
from polyp_lightning.study.plan import Cell
from polyp_lightning.training.module import PolypSegmenter

ARCH = "own_nets.Supervised"
QUIET = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--data.num_workers=0"]
FIT = [
    *("fit", f"--model.arch={ARCH}", "--model.arch_options.width=6", "--model.map_weights=[1, 0.5]"),
    *("--model.mean=[0.5, 0.4, 0.3]", "--data.phantom_frames=14", "--data.image_size=64", "--data.batch_size=4"),
    *("--trainer.accelerator=cpu", "--pruning.target=0.6", "--pruning.recalibration_batches=2", *QUIET),
]
CUT = ["--trainer.max_epochs=2", "--pruning.start=1", "--pruning.end=1"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was cut before its second epoch."""
    folder = tmp_path_factory.mktemp("run")
    assert main([*FIT, *CUT, f"--trainer.default_root_dir={folder}"]) == 0
    return folder


@pytest.fixture
def pruned(run: Path) -> Path:
    return best_checkpoints(run / "checkpoints")[1]


def test_fit__cuts_it_and_stores_what_brings_it_back(run: Path, pruned: Path) -> None:
    record = read_record(pruned)
    assert (record.arch, record.encoder, record.arch_options) == (ARCH, "", {"width": 6})
    stages = read_source(run).stages  # type: ignore[union-attr]
    assert stages[1].share < 0.62
    assert stages[1].layers["body.merge"] <= stages[0].layers["body.merge"] == 6
    trained = load_net(pruned, named=[ARCH])
    assert trained.mean == (0.5, 0.4, 0.3)
    assert trained.net(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_evaluation__with_the_class_named(verb: str, pruned: Path, here: Path) -> None:
    command = [verb, "--ckpt_path", str(pruned), "--model.arch", ARCH, "--data.phantom_frames=14", *QUIET]
    assert main([*command, *(["--masks.output=masks"] if verb == "predict" else [])]) == 0


@pytest.mark.slow
def test_fit__goes_on_with_it(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = [*FIT, "--trainer.max_epochs=3", "--pruning.start=2", "--pruning.end=2", "--trainer.max_time=00:10:00:00"]
    assert main([*first, f"--trainer.default_root_dir={folder}"]) == 0
    last = folder / "checkpoints" / "last.ckpt"
    assert main(["fit", "--ckpt_path", str(last), "--model.arch", ARCH, "--trainer.default_root_dir", str(folder)]) == 0


@pytest.mark.slow
def test_fit__starts_from_its_weights_or_widths(pruned: Path, here: Path) -> None:
    for origin in ("init_from", "architecture_from"):
        command = [*FIT, "--pruning.target=1", "--trainer.max_epochs=1", f"--model.{origin}", str(pruned)]
        assert main([*command, f"--trainer.default_root_dir={origin}"]) == 0
        started = load_net(here / origin / "checkpoints" / "last.ckpt", named=[ARCH]).net
        widths = load_net(pruned, named=[ARCH]).net
        assert [p.shape for p in started.parameters()] == [p.shape for p in widths.parameters()]


def test_prune__one_step(pruned: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = here / "small.ckpt"
    command = ["prune", "--ckpt_path", str(pruned), "--arch", ARCH, "--target=0.8", "--batches=2"]
    assert main([*command, "--output", str(output)]) == 0
    assert f"--model.arch {ARCH}" in capsys.readouterr().out
    sizes = [sum(p.numel() for p in load_net(path, named=[ARCH]).net.parameters()) for path in (pruned, output)]
    assert sizes[1] < sizes[0]


@pytest.mark.slow
def test_export__masks_are_those_of_the_prediction(pruned: Path, here: Path) -> None:
    model = here / "model.onnx"
    command = ["export", "--ckpt_path", str(pruned), "--arch", ARCH, "--output", str(model), "--dynamic_batch"]
    assert main(command) == 0
    sample = draw_phantoms(64, 1)[0]
    trained = load_net(pruned, named=[ARCH])
    expected = trained.net(trained.network_input(torch.from_numpy(sample.frame).permute(2, 0, 1)[None])).sigmoid()
    got = load_model(read_bundle(model), "onnxruntime", 1)(sample.frame[None])
    np.testing.assert_allclose(got, expected.detach().numpy(), atol=1e-5)
    assert json.loads((here / "model.onnx.json").read_text())["network"]["arch"] == ARCH


@pytest.mark.slow
def test_benchmark_report_and_taylor_check__with_the_class_named(run: Path, pruned: Path, here: Path) -> None:
    few = ["--rounds=1", "--frames=1", "--backend=torch"]
    assert main(["benchmark", "--model", str(pruned), "--arch", ARCH, *few]) == 0
    assert main(["report", str(run), "-o", "page.html", "--arch", ARCH]) == 0
    assert "imports no code" not in Path("page.html").read_text()
    check = ["taylor-check", "--ckpt_path", str(pruned), "--images=2", "--components=3"]
    assert main([*check, "--arch", ARCH, "--out=check"]) == 0


def test_study__names_it_to_every_step(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {
        "nets": {"mine": {"arch": ARCH, "options": {"arch_options": {"width": 4}, "prediction": 0}}},
        "data": {"phantom": {"phantom_frames": 14}},
        "criteria": {"taylor": {}},
        "targets": [0.5],
        "seeds": [0],
        "epochs": {"epochs": 3, "start": 1, "end": 1},
        "controls": {"oneshot": ["taylor"], "scratch": ["taylor"]},
    }
    Path("study.yaml").write_text(yaml.safe_dump(config))
    assert main(["study", "--config", "study.yaml", "--dry_run"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if "polyp_lightning" in line]
    assert len(lines) == 6
    for line in lines:
        named = "--arch=" if "polyp_lightning prune" in line else "--model.arch="
        assert f"{named}{ARCH}" in line
        assert "--model.encoder=" not in line
        assert ("--model.arch_options.width=4" in line) == ("polyp_lightning fit" in line)


def test_study__names_it_where_a_run_goes_on_and_is_tested(here: Path) -> None:
    cell = Cell("a", "dense", Net("a", ARCH, ""), Data("phantom", {"name": "phantom"}), None, "", False, 1.0, 0)
    checkpoints = here / "checkpoints"
    checkpoints.mkdir()
    for name in ("last.ckpt", "stage0-epoch00-dice0.5000.ckpt"):
        (checkpoints / name).touch()
    resumed = resume_step(Step("fit", ["fit", f"--model.arch={ARCH}"], here))
    for step in (resumed, *(step for step, _ in study_tests(cell, here))):
        assert find_named(step.arguments) == [ARCH]
    smp = resume_step(Step("fit", ["fit", "--model.arch=Unet"], here))
    assert find_named(smp.arguments) == []


def test_training_step__adds_the_losses_of_the_maps() -> None:
    torch.manual_seed(0)
    module = PolypSegmenter(arch=ARCH, map_weights=[1, 0.5], image_size=64)
    generator = torch.Generator().manual_seed(0)
    batch: dict[str, Any] = {"image": torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8)}
    batch["mask"] = (torch.rand(2, 1, 64, 64, generator=generator) > 0.5).float()
    module.log = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    body: Any = module.net
    large, small = body.body.train()(module.network_input(batch["image"]))
    resized = torch.nn.Upsample(size=(64, 64), mode="bilinear")(small)
    expected = dice_bce(large, batch["mask"]) + 0.5 * dice_bce(resized, batch["mask"])
    torch.testing.assert_close(module.train().training_step(batch, 0), expected)


def test_forward__the_option_wins_over_the_checkpoint(pruned: Path) -> None:
    module = PolypSegmenter.load_from_checkpoint(pruned, arch=ARCH, prediction=1)
    other = PolypSegmenter.load_from_checkpoint(pruned, arch=ARCH)
    image = torch.randint(0, 256, (1, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert isinstance(module.net, OwnNet)
    maps = module.net.body.eval()(module.network_input(image))
    torch.testing.assert_close(module.eval()(image), torch.nn.Upsample(size=(64, 64), mode="bilinear")(maps[1]))
    torch.testing.assert_close(other.eval()(image), maps[0])


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"map_weights": [1.0, -1.0]}, "map_weights"),
        ({"map_weights": [0.0, 0.0]}, "map_weights"),
        ({"map_weights": [1.0], "arch": "Unet"}, "map_weights"),
        ({"mean": [0.5]}, "mean=.*three numbers"),
        ({"std": [0.5, 0.0, 0.5]}, "std=.*above 0"),
        ({"encoder_weights": "imagenet"}, "encoder_weights"),
    ],
)
def test_options__what_cannot_work_is_explained(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        PolypSegmenter(**{"arch": ARCH, **options})


def test_fit__says_why_much_of_it_is_frozen(here: Path, recwarn: pytest.WarningsRecorder) -> None:
    command = [part for part in FIT if "arch" not in part and "map_weights" not in part]
    frozen = ["--model.arch=own_nets.frozen_half", "--trainer.max_epochs=2", "--pruning.start=1", "--pruning.end=1"]
    assert main([*command, *frozen, "--pruning.target=0.9", "--trainer.default_root_dir=run"]) == 0
    (text,) = [str(one.message) for one in recwarn if "can't be cut" in str(one.message)]
    assert text.startswith("44% of the convolutions' filters can't be cut: 8 of body.stem, because of expand")
    line = 1 + Path(Supervised.forward.__code__.co_filename).read_text().splitlines().index(
        "        gate = self.gate(x).sigmoid().expand(-1, 8, -1, -1)"
    )
    assert f"own_nets.py:{line})" in text
    assert main(["report", "run", "-o", "page.html", "--markdown", "page.md"]) == 0
    section = Path("page.md").read_text().partition("## What can't be cut, and why")[2].partition("##")[0]
    assert "body.stem" in section
    assert f"nets.py:{line}" in section
