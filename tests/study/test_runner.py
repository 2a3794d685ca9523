"""Which cells run, in what order and how often; the verbs themselves are played."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from results import a_result
from studies import written

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.study import runner
from polyp_lightning.study.claims import claimed
from polyp_lightning.study.outcome import Outcome
from polyp_lightning.study.plan import read_study
from polyp_lightning.study.results import read_results
from polyp_lightning.study.runner import Runner


class Verbs:
    """Plays fit, prune and test: leaves the files that they leave, and fails where told."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.fails: dict[str, int] = {}

    def __call__(self, arguments: Sequence[str], log: Path, claim: int, environment: Mapping[str, str]) -> int:
        self.calls.append(list(arguments))
        options = dict(flag.removeprefix("--").split("=", 1) for flag in arguments[1:])
        log.write_text("error: it broke\n")
        name = log.parent.name
        if self.fails.get(name, 0) > 0:
            self.fails[name] -= 1
            return 2
        if arguments[0] == "fit":
            folder = Path(options["trainer.default_root_dir"]) / "checkpoints"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "stage0-epoch00-dice0.5000.ckpt").touch()
            (folder / "last.ckpt").touch()
        return 0

    def verbs(self, name: str) -> list[str]:
        return [call[0] for call in self.calls if any(f"/{name}" in argument for argument in call)]


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> Verbs:
    def played(study: Any, cell: Any, out: Path, *_: Any) -> Outcome:
        return Outcome([a_result(run=cell.id, test_set="phantom-8")], [])

    monkeypatch.setattr(runner, "collect_outcome", played)
    return Verbs()


def made(tmp_path: Path, verbs: Verbs, **changes: Any) -> Runner:
    return Runner(read_study(written(tmp_path, seeds=[0], **changes)), tmp_path / "out", verbs)


def test_run__every_cell_once_and_done_cells_never_again(
    tmp_path: Path, verbs: Verbs, capsys: pytest.CaptureFixture[str]
) -> None:
    one = made(tmp_path, verbs)
    assert one.run(one.study.cells)
    left = [int(count) for count in re.findall(r"begins \((\d+) to go", capsys.readouterr().out)]
    assert left == list(range(len(one.study.cells), 0, -1))
    assert sorted(row.run for row in read_results(tmp_path / "out")) == sorted(cell.id for cell in one.study.cells)
    calls = len(verbs.calls)
    again = made(tmp_path, verbs)
    assert again.run(again.study.cells)
    assert len(verbs.calls) == calls


def test_run__the_test_set_is_touched_once_a_run_and_after_all_training(tmp_path: Path, verbs: Verbs) -> None:
    one = made(tmp_path, verbs)
    one.run(one.study.cells)
    for cell in one.study.cells:
        own = [call[0] for call in verbs.calls if f"--trainer.default_root_dir={tmp_path}/out/runs/{cell.id}" in call]
        assert own.count("test") == 1
        assert own[-1] == "test"
    tests = [call for call in verbs.calls if call[0] == "test"]
    # The file that validation chose, by name.
    assert all(any("stage0-epoch00-dice0.5000.ckpt" in argument for argument in call) for call in tests)


def test_run__a_failure_is_noted_and_only_what_needs_it_stops(
    tmp_path: Path, verbs: Verbs, capsys: pytest.CaptureFixture[str]
) -> None:
    verbs.fails["u_phantom_taylor_0.25_s0"] = 1
    one = made(tmp_path, verbs)
    assert not one.run(one.study.cells)
    missing = {"u_phantom_taylor_0.25_s0", "u_phantom_scratch-taylor_0.25_s0"}
    assert {row.run for row in read_results(tmp_path / "out")} == {c.id for c in one.study.cells} - missing
    said = " ".join(capsys.readouterr().out.split())
    assert "FAILED u_phantom_taylor_0.25_s0: `fit` ended with status 2: error: it broke" in said
    assert "it needs u_phantom_taylor_0.25_s0, which failed" in said
    again = made(tmp_path, verbs)
    assert again.run(again.study.cells)
    assert len(read_results(tmp_path / "out")) == len(one.study.cells)


def test_run__an_interrupted_fit_goes_on_and_finished_steps_are_not_repeated(tmp_path: Path, verbs: Verbs) -> None:
    one = made(tmp_path, verbs)
    (cell,) = one.study.only("*oneshot*")
    run = tmp_path / "out" / "runs" / cell.id
    (run / "before" / "checkpoints").mkdir(parents=True)
    (run / "before" / "checkpoints" / "last.ckpt").touch()
    assert one.run([cell])
    assert verbs.calls[0][:2] == ["fit", f"--ckpt_path={run}/before/checkpoints/last.ckpt"]
    assert [call[0] for call in verbs.calls] == ["fit", "prune", "fit", "test"]


def test_run__other_settings_in_the_same_folder_are_refused(tmp_path: Path, verbs: Verbs) -> None:
    one = made(tmp_path, verbs)
    one.run(one.study.only("*dense*"))
    other = made(tmp_path, verbs, epochs={"epochs": 9, "start": 1, "end": 2})
    with pytest.raises(
        ConfigError, match=r"run with other settings \(--trainer\.max_epochs=6, --trainer\.max_epochs=9\)"
    ):
        other.run(other.study.only("*dense*"))


def test_run__what_a_pattern_left_out_is_asked_for(tmp_path: Path, verbs: Verbs) -> None:
    one = made(tmp_path, verbs)
    assert not one.run(one.study.only("*scratch*"))
    assert verbs.calls == []


def test_run__another_process_claim_is_waited_for(
    tmp_path: Path, verbs: Verbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(tmp_path, verbs)
    cells = one.study.only("*dense*")
    path = tmp_path / "out" / "claims" / f"{cells[0].id}.lock"
    path.parent.mkdir(parents=True)
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print(1, flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    waits = []

    def wait(seconds: float) -> None:
        # It dies without giving anything back: its claim must not outlive it.
        waits.append(seconds)
        os.kill(other.pid, signal.SIGKILL)
        other.wait()

    monkeypatch.setattr(runner.time, "sleep", wait)
    assert one.run(cells)
    assert len(waits) == 1
    with claimed(path) as claim:
        assert claim is not None
