"""A run that goes on: its offline pieces are files of one id, and go up into one run."""

import time
from pathlib import Path
from typing import Any

import pytest
from slow_wandb import slow_server
from wandb_file import finished_records

from polyp_lightning.tracking import RunLogger, sync
from polyp_lightning.tracking.sync import find_offline_runs


def piece(folder: Path, numbers: range, before: RunLogger | None = None) -> RunLogger:
    logger = RunLogger(str(folder))
    if before is not None:
        logger.go_on(before.version, before.begun)
        # W&B names a piece's folder by the second.
        time.sleep(1.1)
    for number in numbers:
        logger.log_metrics({"x": float(number)}, step=number)
    logger.finalize("success")
    return logger


def history(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.glob("run-*.wandb")
    rows = []
    for record in finished_records(file, 20.0):
        if record.WhichOneof("record_type") == "history":
            rows.append({item.nested_key[0]: item.value_json for item in record.history.item})
            rows[-1]["_step"] = int(rows[-1].get("_step", record.history.step.num))
    return rows


def test_offline_pieces__have_one_id_and_steps_of_their_own(tmp_path: Path) -> None:
    first = piece(tmp_path, range(3))
    # The third goes on from the same checkpoint as the second.
    for numbers in (range(3, 5), range(3, 6)):
        piece(tmp_path, numbers, first)
    folders = find_offline_runs(tmp_path)
    assert [folder.name.split("-")[-1] for folder in folders] == [first.version] * 3
    rows = [row for folder in folders for row in history(folder)]
    assert [row["x"] for row in rows] == ["0", "1", "2", "3", "4", "3", "4", "5"]
    steps = [row["_step"] for row in rows]
    assert steps == sorted(set(steps))


def test_main__pieces_go_up_into_one_run_without_overwriting_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = piece(tmp_path, range(3))
    piece(tmp_path, range(3, 5), first)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("HOME", str(tmp_path))
    with slow_server(0.0) as server:
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        assert sync.main([str(tmp_path)]) == 0
        assert [row["x"] for row in server.rows] == [0, 1, 2, 3, 4]
        # The second piece's rows come behind the first one's.
        assert server.offsets == [0, 3]
        # What has gone up does not go up again.
        assert sync.main([str(tmp_path)]) == 0
        assert len(server.rows) == 5


def test_main__a_later_piece_waits_for_an_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["20260101_000001-aaaa", "20260101_000002-bbbb", "20260101_000003-aaaa"]
    for name in names:
        (tmp_path / f"offline-run-{name}").mkdir()
        (tmp_path / f"offline-run-{name}" / f"run-{name[-4:]}.wandb").touch()
    tried = []
    monkeypatch.setattr(sync, "logged_in", lambda: True)
    monkeypatch.setattr(sync, "_upload", lambda run: tried.append(run.name[12:]) or int(run.name.endswith("aaaa")))
    assert sync.main([str(tmp_path)]) == 1
    assert tried == names[:2]


@pytest.mark.parametrize(("run_id", "begun"), [(None, None), ("../x", 1.0), ("abc", "soon"), (7, 1.0)])
def test_go_on__a_damaged_id_is_passed_over(run_id: Any, begun: Any) -> None:
    logger = RunLogger()
    logger.go_on(run_id, begun)
    assert not logger.goes_on
    assert logger.version is None
