"""Reads what an offline W&B run has written, independently of the code that wrote it.

The file is a LevelDB log (https://github.com/google/leveldb/blob/main/doc/log_format.md) behind a header of 7 bytes:
blocks of 32 KiB, in them chunks of checksum (4 bytes), length (2), type (1: whole, 2: first, 3: middle, 4: last) and
payload. Each record is a protobuf message of `wandb.proto`.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as pb

_BLOCK, _HEADER = 32768, 7


def find_run(folder: str | Path) -> Path:
    """The only W&B run at or below a folder, as the folder that holds its `.wandb` file."""
    found = sorted({path.parent.resolve() for path in Path(folder).rglob("run-*.wandb")})
    assert len(found) == 1, f"one W&B run expected below {folder}, found {[str(p) for p in found]}"
    return found[0]


def records(path: Path) -> Iterator[Any]:
    """Every record that stands whole in a `.wandb` file."""
    data = path.read_bytes()
    assert data[:4] in (b":W&B", b"")
    position, message = _HEADER, b""
    while position + _HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        size, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        if position + _HEADER + size > len(data):
            return
        message += data[position + _HEADER : position + _HEADER + size]
        position += _HEADER + size
        if kind in (1, 4):
            yield pb.Record.FromString(message)
            message = b""


def finished_records(path: Path, patience: float) -> list[Any]:
    """The records of a run that has ended. W&B's service writes its last ones a moment after `finish` has returned."""
    give_up = time.monotonic() + patience
    while time.monotonic() < give_up:
        found = list(records(path))
        if any(record.WhichOneof("record_type") == "exit" for record in found):
            return found
        time.sleep(0.05)
    message = f"{path} has no end after {patience} s: was the run finished?"
    raise TimeoutError(message)


def read_run(folder: str | Path, patience: float = 20.0) -> dict[str, Any]:
    """What the only W&B run at or below a folder holds; the run must have been finished.

    Returns:
        `history`: list of rows (dict); `metrics`: {name or glob: its step metric}; `config`: dict; `summary`: dict;
        `name`, `group`, `job_type`: str; `tags`: list;
        `files`: paths below the run's `files/`; `project`: str; `folder`: Path; `exit_code`: int.
    """
    run = find_run(folder)
    result: dict[str, Any] = {"history": [], "metrics": {}, "config": {}, "summary": {}, "project": None}
    result["exit_code"] = None
    for record in finished_records(next(run.glob("run-*.wandb")), patience):
        _collect(result, record)
    below = run / "files"
    result["files"] = sorted(str(path.relative_to(below)) for path in below.rglob("*") if path.is_file())
    result["folder"] = run
    return result


def _collect(result: dict[str, Any], record: Any) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        result["project"] = record.run.project
        result["name"] = record.run.display_name
        result |= {"group": record.run.run_group, "job_type": record.run.job_type, "tags": list(record.run.tags)}
        _update(result["config"], record.run.config.update)
    elif kind == "config":
        _update(result["config"], record.config.update)
    elif kind == "summary":
        _update(result["summary"], record.summary.update)
    elif kind == "history":
        row: dict[str, Any] = {}
        _update(row, record.history.item)
        result["history"].append(row)
    elif kind == "metric":
        result["metrics"][record.metric.name or record.metric.glob_name] = record.metric.step_metric
    elif kind == "exit":
        result["exit_code"] = record.exit.exit_code


def _update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        *parents, last = list(item.nested_key) or [item.key]
        place = target
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = json.loads(item.value_json)
