"""A parent for each seed, targets of a criterion's own, cuts by other software, and a limit of time."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from studies import written

from polyp_lightning.cli import main
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.study.cell_runner import CellRunner, OutOfTime, launch_until
from polyp_lightning.study.commands import training_steps
from polyp_lightning.study.plan import Study, read_study

PARENT: dict[str, Any] = {
    "criteria": {
        "taylor": {},
        "optimal": {"criterion": "taylor", "fit": {"pruning.allocation": "optimal"}},
        "random": {"targets": [0.25]},
        "other": {
            "targets": [0.25],
            "outside": {
                "epochs": 2,
                "fit": {"trainer.callbacks+": "rivals.Cut", "trainer.callbacks.target": "{target}"},
            },
        },
    },
    "targets": [0.5, 0.25],
    "seeds": [3],
    "controls": {"scratch": ["random"], "oneshot": ["optimal"], "distill": ["taylor"]},
    "parent": {"epochs": 10, "fit": {"model.lr": 0.01}},
    "fit": {"model.lr": 0.002},
}


def study(folder: Path, **changes: Any) -> Study:
    return read_study(written(folder, **(PARENT | changes)))


def flags(found: Study, name: str) -> list[dict[str, str]]:
    (cell,) = [cell for cell in found.cells if cell.id == f"u_phantom_{name}_s3"]
    sources = {need: Path(f"{need}.ckpt") for need in cell.needs}
    steps = training_steps(found, cell, Path("R"), sources)
    return [dict(flag.removeprefix("--").split("=", 1) for flag in step.arguments[1:]) for step in steps]


def test_parent__every_cell_starts_from_it_and_trains_equally_long(tmp_path: Path) -> None:
    found = study(tmp_path)
    assert found.cells[0].id == "u_phantom_parent_s3"
    assert found.cells[0].needs == ()
    for cell in found.cells[1:]:
        own = "u_phantom_random_0.25_s3" if cell.kind == "scratch" else "u_phantom_parent_s3"
        assert cell.needs == (own,)
        assert found.epochs_of(cell) == 16
    assert found.epochs_of(found.cells[0]) == 10
    (parent,) = flags(found, "parent")
    assert (parent["trainer.max_epochs"], parent["model.lr"], parent["pruning.target"]) == ("10", "0.01", "1.0")
    assert parent["model.encoder_weights"] == "imagenet"
    for name in ("dense", "taylor_0.5", "optimal_0.25", "distill-taylor_0.5"):
        (one,) = flags(found, name)
        assert (one["trainer.max_epochs"], one["model.lr"], one["model.encoder_weights"]) == ("6", "0.002", "null")
        assert one["model.init_from"] == "u_phantom_parent_s3.ckpt"
    assert flags(found, "distill-taylor_0.5")[0]["model.distill_from"] == "u_phantom_parent_s3.ckpt"
    assert flags(found, "optimal_0.25")[0]["pruning.allocation"] == "optimal"
    (bare,) = flags(found, "scratch-random_0.25")
    assert (bare["trainer.max_epochs"], bare["model.lr"], bare["model.encoder_weights"]) == ("16", "0.01", "null")
    assert "model.init_from" not in bare


def test_parent__one_shot_cuts_the_parent_and_trains_all_epochs_afterwards(tmp_path: Path) -> None:
    cut, after = flags(study(tmp_path), "oneshot-optimal_0.5")
    assert cut["ckpt_path"] == "u_phantom_parent_s3.ckpt"
    assert (after["model.init_from"], after["trainer.max_epochs"]) == ("R/pruned.ckpt", "6")


def test_outside__other_software_cuts_first_and_its_network_trains_on(tmp_path: Path) -> None:
    before, after = flags(study(tmp_path), "other_0.25")
    assert (before["trainer.callbacks+"], before["trainer.callbacks.target"]) == ("rivals.Cut", "0.25")
    assert (before["trainer.max_epochs"], after["trainer.max_epochs"]) == ("2", "4")
    assert before["model.init_from"] == "u_phantom_parent_s3.ckpt"
    assert after["model.init_from"] == "R/before/checkpoints/last.ckpt"
    assert "trainer.callbacks+" not in after


def test_targets__a_criterion_and_its_controls_may_have_their_own(tmp_path: Path) -> None:
    names = {cell.id.removeprefix("u_phantom_").removesuffix("_s3") for cell in study(tmp_path).cells}
    assert {"taylor_0.5", "taylor_0.25", "random_0.25", "scratch-random_0.25", "other_0.25"} <= names
    assert not {"random_0.5", "scratch-random_0.5", "other_0.5"} & names


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parent": {"epochs": 0}}, r"parent\.epochs: 0 must be 1, 2, 3"),
        ({"parent": {"lr": 1}}, "lr. is unknown. Known are epochs, fit"),
        ({"criteria": {"taylor": {"targets": [2]}}}, r"criteria\.taylor\.targets: 2 must be"),
        ({"criteria": {"x": {"outside": {"epochs": 6}}}, "controls": {}}, "leave none to train on"),
        ({"criteria": {"x": {"outside": {"epochs": 1}}}, "controls": {"oneshot": ["x"]}}, "cut by other software"),
    ],
)
def test_parent__mistakes_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        study(tmp_path, **changes)


def test_time_limit__a_verb_is_asked_to_end_and_none_begins_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\ntrap "echo ended; exit 143" TERM\necho begun\nwhile :; do sleep 0.05; done\n')
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    log = tmp_path / "log.txt"
    launch = launch_until(time.monotonic() + 0.3)
    for _ in range(2):
        with pytest.raises(OutOfTime):
            launch(["fit"], log, {})
    assert log.read_text().splitlines() == ["begun", "ended"]


def test_time_limit__the_interrupted_cell_has_not_failed_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[str] = []

    def interrupted(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
        calls.append(arguments[0])
        raise OutOfTime

    monkeypatch.setattr("polyp_lightning.cli.study.launch_until", lambda _: interrupted)
    config = written(tmp_path, **(PARENT | {"criteria": {"taylor": {}}, "controls": {}}))
    command = ["study", "--config", str(config), "--out", str(tmp_path / "out")]
    for _ in range(2):
        assert main([*command, "--time_limit", "5"]) == 0
        assert "5 minutes are over, 4 of 4 runs are left" in " ".join(capsys.readouterr().out.split())
    assert calls == ["fit", "fit"]
    one = CellRunner(read_study(config), tmp_path / "out", interrupted)
    progress = one.progress(one.study.cells[0])
    assert (progress.failed, progress.steps, progress.done) == ("", [], False)
    assert main([*command, "--time_limit", "5", "--executor", "local"]) == 2
