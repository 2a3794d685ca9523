import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeData, FakePruning, FakeSegmenter, trainer

from polyp_lightning.tracking import StageCheckpoint
from polyp_lightning.tracking.artefacts import log_export, log_files, log_model
from polyp_lightning.tracking.sync import find_offline_runs, main


class OnlineRun:
    """A run as W&B gives it while it is online; keeps what it is given."""

    id, offline, disabled = "abc", False, False

    def __init__(self) -> None:
        self.taken: list[tuple[Any, list[str]]] = []

    def log_artifact(self, artefact: Any, aliases: list[str]) -> None:
        self.taken.append((artefact, aliases))

    def __enter__(self) -> "OnlineRun":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    fit = trainer(tmp_path_factory.mktemp("fit"), [FakePruning(), StageCheckpoint()])
    fit.fit(FakeSegmenter(), FakeData())
    return fit


def test_log_model__the_best_of_the_final_stage_and_the_pick(fitted: Any) -> None:
    run = OnlineRun()
    log_model(run, fitted)
    ((artefact, aliases),) = run.taken
    assert (artefact.type, artefact.name, aliases) == ("model", "checkpoint-abc", ["best"])
    assert set(artefact.manifest.entries) == {"stage2-epoch04-dice0.4000.ckpt", "pick.ckpt"}
    assert artefact.metadata["best_dice"] == pytest.approx({"stage0": 0.9, "stage1": 0.7, "stage2": 0.4})


@pytest.mark.parametrize("state", ["offline", "disabled"])
def test_log_files__nothing_where_the_run_is_not_online(tmp_path: Path, state: str) -> None:
    run = OnlineRun()
    setattr(run, state, True)
    (tmp_path / "a").write_bytes(b"1")
    log_files(run, "x", [tmp_path / "a"], [], {})
    assert run.taken == []


def test_log_model__an_upload_that_fails_ends_no_training(fitted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, artefact: Any, aliases: list[str]) -> None:
        raise RuntimeError("quota")

    monkeypatch.setattr(OnlineRun, "log_artifact", refuse)
    with pytest.warns(UserWarning, match=r"W&B took no checkpoint \(quota\); it is at .*stage2"):
        log_model(OnlineRun(), fitted)


def _exported(folder: Path, run: str) -> tuple[Path, list[Path]]:
    (folder / "wandb" / run).mkdir(parents=True)
    (folder / "wandb" / run / "run-abc.wandb").touch()
    (folder / "config.yaml").write_text("trainer: {logger: {init_args: {project: mine}}}\n")
    files = [folder / "export" / "m (1).onnx", folder / "export" / "m (1).json"]
    files[0].parent.mkdir()
    for file in files:
        file.write_text("x")
    return folder / "checkpoints" / "m.ckpt", files


def test_log_export__goes_to_the_run_that_trained_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    run, asked = OnlineRun(), {}
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb, "init", lambda **options: asked.update(options) or run)
    assert log_export(*_exported(tmp_path, "run-20261124_100000-abc"))
    ((artefact, _),) = run.taken
    assert (asked["id"], asked["project"], asked["resume"]) == ("abc", "mine", "must")
    assert artefact.name == "export-abc-m-1-"
    assert set(artefact.manifest.entries) == {"m (1).onnx", "m (1).json"}


@pytest.mark.parametrize(
    ("run", "key"), [("offline-run-20261124_100000-abc", True), ("run-20261124_100000-abc", False)]
)
def test_log_export__never_without_an_online_run_and_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, key: bool
) -> None:
    import wandb

    monkeypatch.setattr(wandb, "init", lambda **_: pytest.fail("W&B was opened"))
    if key:
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert not log_export(*_exported(tmp_path, run))


def test_offline_runs__those_that_wait(tmp_path: Path) -> None:
    for name in ("r1/wandb/offline-run-2-b/run-b.wandb", "r2/wandb/offline-run-1-a/run-a.wandb",
                 "r3/wandb/offline-run-3-c/run-c.wandb", "r3/wandb/offline-run-3-c/run-c.wandb.synced",
                 "r4/wandb/run-4-d/run-d.wandb"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [run.name for run in find_offline_runs(tmp_path)] == ["offline-run-1-a", "offline-run-2-b"]


def test_sync__says_when_there_is_nothing_to_do_or_nobody_logged_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 0
    assert "No offline W&B run" in capsys.readouterr().out
    _exported(tmp_path, "offline-run-1-abc")
    assert main([str(tmp_path)]) == 2
    assert "1 offline runs" in (error := capsys.readouterr().err)
    assert "wandb login" in error


@pytest.mark.parametrize(("code", "text"), [(0, "1 of 1"), (1, "0 of 1")])
def test_sync__reports_what_was_uploaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, text: str
) -> None:
    _exported(tmp_path, "offline-run-1-abc")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    # A stand-in for the client, which is started as a process.
    client = tmp_path / "client"
    client.write_text(f'#!/bin/sh\n[ "$3" = sync ] && [ -d "$4" ] && exit {code}\nexit 9\n')
    client.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(client))
    assert main([str(tmp_path)]) == code
    assert text in capsys.readouterr().out
