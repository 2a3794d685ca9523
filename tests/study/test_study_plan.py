from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies import written

from polyp_lightning.checkpoints.run_folder import best_checkpoint
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.pruning.criteria import CRITERIA
from polyp_lightning.study.commands import resume_step, training_steps
from polyp_lightning.study.plan import read_study

CONFIGS = Path(__file__).parent.parent.parent / "configs"


def commands(folder: Path, name: str) -> list[list[str]]:
    study = read_study(written(folder))
    (cell,) = study.only(name)
    sources = {need: Path(f"{need}.ckpt") for need in cell.needs}
    return [step.arguments for step in training_steps(study, cell, Path("R"), sources)]


def test_read_study__names_are_stable_and_needs_come_first(tmp_path: Path) -> None:
    cells = read_study(written(tmp_path)).cells
    expected = ["dense", "taylor_0.25", "plain_0.25", "random_0.25", "scratch-taylor_0.25", "oneshot-random_0.25"]
    expected = [f"u_phantom_{what}_s{seed}" for seed in (0, 7) for what in [*expected, "distill-taylor_0.25"]]
    assert [cell.id for cell in cells] == expected
    for index, cell in enumerate(cells):
        assert set(cell.needs) <= {before.id for before in cells[:index]}
    needs = {cell.id: cell.needs for cell in cells}
    assert needs["u_phantom_scratch-taylor_0.25_s7"] == ("u_phantom_taylor_0.25_s7",)
    assert needs["u_phantom_distill-taylor_0.25_s7"] == ("u_phantom_dense_s7",)


def test_training_steps__options_of_each_kind(tmp_path: Path) -> None:
    (dense,) = commands(tmp_path, "*dense_s7")
    assert {"--pruning.target=1.0", "--seed_everything=7", "--data.seed=7", "--model.encoder_weights=imagenet"} <= {
        *dense
    }
    (plain,) = commands(tmp_path, "*plain*_s7")
    assert {"--pruning.criterion=taylor", "--pruning.options.normalise=false", "--pruning.target=0.25"} <= {*plain}
    (random,) = commands(tmp_path, "*_random*_s7")
    assert "--pruning.options.seed=7" in random
    (scratch,) = commands(tmp_path, "*scratch*_s7")
    assert "--model.architecture_from=u_phantom_taylor_0.25_s7.ckpt" in scratch
    assert {"--model.encoder_weights=null", "--trainer.max_epochs=6", "--pruning.target=1.0"} <= {*scratch}
    (taught,) = commands(tmp_path, "*distill*_s7")
    assert "--model.distill_from=u_phantom_dense_s7.ckpt" in taught


def test_training_steps__one_shot_has_equal_epochs_in_all(tmp_path: Path) -> None:
    before, prune, after = commands(tmp_path, "*oneshot*_s7")
    assert (before[0], prune[0], after[0]) == ("fit", "prune", "fit")
    assert "--trainer.max_epochs=4" in before
    assert "--trainer.max_epochs=2" in after
    assert {"--criterion=random", "--options.seed=7", "--target=0.25", "--output=R/pruned.ckpt"} <= {*prune}
    assert {"--model.init_from=R/pruned.ckpt", "--model.encoder_weights=null", "--pruning.target=1.0"} <= {*after}


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_training_steps__every_criterion_can_be_planned(tmp_path: Path, name: str) -> None:
    """While training and in one step, with its own options, and with a seed where it draws random numbers."""
    drawn = "seed" in signature(CRITERIA[name]).parameters
    own = {"signal": "random"} if name == "taylor" else {}
    judges = {"taylor": {}, "x": {"criterion": name, "options": own}}
    controls = {"oneshot": ["x"], "scratch": ["x"], "distill": ["x"]}
    study = read_study(written(tmp_path, criteria=judges, controls=controls))
    for pattern, prefix in (("u_phantom_x_*_s7", "pruning."), ("*oneshot-x*_s7", ""), ("*distill-x*_s7", "pruning.")):
        (cell,) = study.only(pattern)
        sources = {need: Path(f"{need}.ckpt") for need in cell.needs}
        flags = [flag for step in training_steps(study, cell, Path("R"), sources) for flag in step.arguments]
        assert f"--{prefix}criterion={name}" in flags
        assert (f"--{prefix}options.seed=7" in flags) is drawn
        assert all(f"--{prefix}options.{key}={value}" in flags for key, value in own.items())


def test_best_checkpoint__is_that_of_the_smallest_network(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in (
        "stage0-epoch02-dice0.9000",
        "stage2-epoch05-dice0.7000",
        "stage10-epoch07-dice0.5000",
        "last",
        "pick",
    ):
        (folder / f"{name}.ckpt").touch()
    assert best_checkpoint(tmp_path).name == "stage10-epoch07-dice0.5000.ckpt"
    with pytest.raises(ConfigError, match="no checkpoint of a stage"):
        best_checkpoint(folder)


def test_resumed__goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    study = read_study(written(tmp_path))
    (step,) = training_steps(study, study.cells[0], tmp_path, {})
    assert resume_step(step) == step
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert resume_step(step).arguments == ["fit", f"--ckpt_path={last}", f"--trainer.default_root_dir={tmp_path}"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"criteria": {"tailor": {}}}, "Did you mean taylor"),
        ({"criteria": {"taylor": {"options": {"norm": 1}}}}, "no option norm"),
        ({"nets": {"u": {"encoder": "resnet81"}}}, "Did you mean resnet18"),
        ({"data": {"kvasi": {}}}, "Did you mean kvasir"),
        ({"data": {"kvasir": {"cross": ["clinic"]}}}, "'clinic' is unknown"),
        ({"targets": [25]}, "targets: 25 must be above 0 and below 1"),
        ({"seeds": [-1]}, "seeds: -1"),
        ({"controls": {"scratch": ["magnitude_l1"]}}, r"controls\.scratch: 'magnitude_l1' is unknown"),
        ({"control": {}}, "Did you mean controls"),
        ({"epochs": {"epochs": 4, "start": 3, "end": 9}}, "must lie inside"),
        ({"seeds": []}, "has no seeds"),
        ({"nets": {"a/b": {}}}, "must consist of letters"),
    ],
)
def test_read_study__mistakes_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_study(written(tmp_path, **changes))


def test_read_study__local_weights_take_the_place_of_published_ones(tmp_path: Path) -> None:
    found = read_study(written(tmp_path), {"resnet18": "w.pth", "resnet34": "x.pth"})
    assert {cell.net.encoder_weights for cell in found.cells if cell.kind != "scratch"} == {"w.pth"}
    assert {cell.net.encoder_weights for cell in found.cells if cell.kind == "scratch"} == {None}


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("study", 3 * 3 * 3 * (1 + 5 * 11)),
        ("study-quick", 15),
        ("study-cpu", 3 * (1 + 10 + 3)),
        ("study-curve", 3 * (2 + 6 + 11 * 3)),
        ("study-curve-quick", 2 * (2 + 3 + 1)),
        ("study-less-lost", 2 + 16 + 2),
        ("study-time", 3 * (2 + 2)),
        ("study-time-bf16", 3 * (2 + 2)),
    ],
)
def test_configs__each_study_can_be_read(name: str, cells: int) -> None:
    found = read_study(CONFIGS / f"{name}.yaml").cells
    assert len({cell.id for cell in found}) == len(found) == cells


def test_configs__every_command_of_a_study_parses(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from polyp_lightning.cli import main

    study = read_study(CONFIGS / "study.yaml")
    for name in ("*kvasir_taylor_plain_0.06_s2", "unet-lite0_clinicdb_dense_s0"):
        (step,) = training_steps(study, study.only(name)[-1], tmp_path, {})
        with pytest.raises(SystemExit) as stop:
            main([*step.arguments, "--print_config"])
        assert stop.value.code == 0
    assert "floor: 0.02" in capsys.readouterr().out


def test_configs__every_command_of_the_sweep_parses(capsys: pytest.CaptureFixture[str]) -> None:
    from polyp_lightning.cli import main

    sweep = yaml.safe_load((CONFIGS / "sweep.yaml").read_text())
    fixed = sweep["command"][sweep["command"].index("${program}") + 1 : -1]
    fixed[fixed.index("configs/kvasir.yaml")] = str(CONFIGS / "kvasir.yaml")
    values = {key: entry["values"] for key, entry in sweep["parameters"].items()}
    # Options don't depend on one another: each value once, the way `${args}` writes it.
    for index in range(max(map(len, values.values()))):
        args = [f"--{key}={found[index % len(found)]}" for key, found in values.items()]
        with pytest.raises(SystemExit) as stop:
            main([*fixed, *args, "--print_config"])
        assert stop.value.code == 0
        config = yaml.safe_load(capsys.readouterr().out)
        assert config["pruning"]["criterion"] == values["pruning.criterion"][index % 5]
