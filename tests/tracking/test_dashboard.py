import json
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeData, FakePruning, FakeSegmenter, trainer
from wandb_file import read_run

from polyp_lightning.cli import main
from polyp_lightning.tracking import RunLogger, RunTracker
from polyp_lightning.tracking.dashboard import COLUMNS, SECTIONS
from polyp_lightning.tracking.tracker import measure_speed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        # Whatever else this machine does.
        patch.setattr("polyp_lightning.common.timing.LEAST_SHARE", 0.0)
        trainer(folder, [FakePruning(), RunTracker()], RunLogger(str(folder))).fit(FakeSegmenter(), FakeData())
    return read_run(folder)


def test_dashboard__dry_run_prints_what_would_be_sent(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb_workspaces", reason="the package wandb-workspaces is not installed")
    assert main(["dashboard", "--entity", "me", "--project", "p", "--dry_run", "--json"]) == 0
    sent = json.loads(capsys.readouterr().out)
    sections = sent["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == list(SECTIONS)
    kinds = [[panel["viewType"] for panel in section["panels"]] for section in sections]
    assert kinds[0] == ["Scatter Plot", "Scatter Plot", "Run History Line Plot", "Run History Line Plot"]
    first = sections[0]["panels"][0]["config"]
    assert (first["xAxis"], first["yAxis"]) == ("summary:final/gmacs", "summary:final/val_dice_best")
    (runs,) = sent["section"]["runSets"]
    assert runs["grouping"][0]["name"] == "method.value"
    assert set(COLUMNS) < set(runs["runFeed"]["columnPinned"])


def test_dashboard__dry_run_is_a_summary_of_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb_workspaces", reason="the package wandb-workspaces is not installed")
    assert main(["dashboard", "--entity", "me", "--project", "p", "--dry_run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 80
    assert "me/p" in lines[0]
    text = "\n".join(lines)
    assert all(panel.title in text for panels in SECTIONS.values() for panel in panels)
    assert all(column in text for column in COLUMNS)
    assert main(["dashboard", "--entity", "me", "--json"]) == 2


def test_dashboard__without_a_login_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb_workspaces", reason="the package wandb-workspaces is not installed")
    assert main(["dashboard", "--entity", "me"]) == 2
    error = capsys.readouterr().err
    assert "wandb login" in error
    assert "--dry_run" in error


def test_dashboard__a_service_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ws = pytest.importorskip("wandb_workspaces.workspaces", reason="the package wandb-workspaces is not installed")

    def refuse(self: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(ws.Workspace, "save", refuse)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert main(["dashboard", "--entity", "me"]) == 2
    assert "no route. Check --entity me" in capsys.readouterr().err


def test_dashboard__without_the_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    assert main(["dashboard", "--entity", "me", "--dry_run"]) == 2
    assert "pip install 'polyp-lightning[dashboard]'" in capsys.readouterr().err


def test_run_logger__group_job_type_and_tags_are_in_the_file(tmp_path: Path) -> None:
    logger = RunLogger(str(tmp_path), group="a group", job_type="fit", tags=["kvasir", "taylor"])
    logger.log_metrics({"x": 1.0})
    logger.finalize("success")
    run = read_run(tmp_path)
    assert (run["group"], run["job_type"], run["tags"]) == ("a group", "fit", ["kvasir", "taylor"])


def test_run_logger__the_environment_names_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_GROUP", "theirs")
    logger = RunLogger(str(tmp_path))
    logger.log_metrics({"x": 1.0})
    logger.finalize("success")
    assert read_run(tmp_path)["group"] == "theirs"


def test_run_tracker__method_and_milliseconds(run: dict[str, Any]) -> None:
    assert run["config"]["method"] == "taylor"
    assert 0 < run["summary"]["final/ms"] < 1000
    assert "threads 1" in run["summary"]["final/ms_conditions"]


def test_measure_speed__under_load_there_is_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polyp_lightning.common.timing.LEAST_SHARE", 100.0)
    found = measure_speed(FakeSegmenter(), 16)
    assert found == {"final/ms_conditions": "not measured: other work took the processor"}
