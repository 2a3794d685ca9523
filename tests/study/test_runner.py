"""Which cells run, in what order and how often; the verbs themselves are played."""

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from results import a_result
from studies import written

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.study import cell_runner, runner
from polyp_lightning.study.cell_runner import CellRunner
from polyp_lightning.study.engines import Done
from polyp_lightning.study.outcome import Outcome
from polyp_lightning.study.plan import Cell, read_study
from polyp_lightning.study.results import change_results, read_results
from polyp_lightning.study.runner import Runner, alone_with


class Verbs:
    """Plays fit, prune and test: leaves the files that they leave, and fails where told."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.fails: dict[str, int] = {}

    def __call__(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
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

    monkeypatch.setattr(cell_runner, "collect_outcome", played)
    return Verbs()


def made(tmp_path: Path, verbs: Verbs, **changes: Any) -> CellRunner:
    return CellRunner(read_study(written(tmp_path, seeds=[0], **changes)), tmp_path / "out", verbs)


def run(cell_runner: CellRunner, cells: Sequence[Cell]) -> bool:
    return Runner(cell_runner).run(cells)


def test_run__every_cell_once_and_done_cells_never_again(
    tmp_path: Path, verbs: Verbs, capsys: pytest.CaptureFixture[str]
) -> None:
    one = made(tmp_path, verbs)
    assert run(one, one.study.cells)
    left = [int(count) for count in re.findall(r"begins \((\d+) to go", capsys.readouterr().out)]
    assert left == list(range(len(one.study.cells), 0, -1))
    assert sorted(row.run for row in read_results(tmp_path / "out")) == sorted(cell.id for cell in one.study.cells)
    calls = len(verbs.calls)
    again = made(tmp_path, verbs)
    assert run(again, again.study.cells)
    assert len(verbs.calls) == calls


def test_run__the_test_set_is_touched_once_a_run_and_after_all_training(tmp_path: Path, verbs: Verbs) -> None:
    one = made(tmp_path, verbs)
    run(one, one.study.cells)
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
    assert not run(one, one.study.cells)
    missing = {"u_phantom_taylor_0.25_s0", "u_phantom_scratch-taylor_0.25_s0"}
    assert {row.run for row in read_results(tmp_path / "out")} == {c.id for c in one.study.cells} - missing
    said = " ".join(capsys.readouterr().out.split())
    assert "FAILED u_phantom_taylor_0.25_s0: `fit` ended with status 2: error: it broke" in said
    assert "it needs u_phantom_taylor_0.25_s0, which failed" in said
    again = made(tmp_path, verbs)
    assert run(again, again.study.cells)
    assert len(read_results(tmp_path / "out")) == len(one.study.cells)


def test_run__an_interrupted_fit_goes_on_and_finished_steps_are_not_repeated(tmp_path: Path, verbs: Verbs) -> None:
    one = made(tmp_path, verbs)
    (cell,) = one.study.only("*oneshot*")
    last = tmp_path / "out" / "runs" / cell.id / "before" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    last.touch()
    assert run(one, [cell])
    assert verbs.calls[0][:2] == ["fit", f"--ckpt_path={last}"]
    assert [call[0] for call in verbs.calls] == ["fit", "prune", "fit", "test"]


def test_run__other_settings_in_the_same_folder_are_refused(tmp_path: Path, verbs: Verbs) -> None:
    one = made(tmp_path, verbs)
    run(one, one.study.only("*dense*"))
    other = made(tmp_path, verbs, epochs={"epochs": 9, "start": 1, "end": 2})
    with pytest.raises(
        ConfigError, match=r"run with other settings \(--trainer\.max_epochs=6, --trainer\.max_epochs=9\)"
    ):
        run(other, other.study.only("*dense*"))


def test_run__what_a_pattern_left_out_is_asked_for(tmp_path: Path, verbs: Verbs) -> None:
    one = made(tmp_path, verbs)
    assert not run(one, one.study.only("*scratch*"))
    assert verbs.calls == []


def test_run__two_studies_in_one_folder(tmp_path: Path) -> None:
    with (
        alone_with(tmp_path / "out"),
        pytest.raises(ConfigError, match="another process works on the study in"),
        alone_with(tmp_path / "out"),
    ):
        pass


def test_run__a_training_that_survived_a_killed_study_is_waited_for(tmp_path: Path, verbs: Verbs) -> None:
    one = made(tmp_path, verbs)
    (cell,) = one.study.only("*dense*")
    folder = tmp_path / "out" / "runs" / cell.id
    folder.mkdir(parents=True)
    code = "import fcntl, os, sys, time; fcntl.flock(os.open(sys.argv[1], 0), 2); print(1, flush=True); time.sleep(3)"
    other = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    assert run(one, [cell])
    assert other.poll() == 0
    assert verbs.verbs(cell.id) == ["fit", "test"]


def test_run__rows_that_a_killed_study_did_not_collect_are_in_the_table(tmp_path: Path, verbs: Verbs) -> None:
    one = made(tmp_path, verbs)
    cells = one.study.only("*dense*")
    assert one.run(cells[0])
    assert not (tmp_path / "out" / "results.csv").exists()
    assert run(one, cells)
    assert [row.run for row in read_results(tmp_path / "out")] == [cells[0].id]
    # A row that was measured anew since then stays as it is.
    change_results(tmp_path / "out" / "results.csv", lambda row: replace(row, ms=7.0))
    assert run(made(tmp_path, verbs), cells)
    assert [row.ms for row in read_results(tmp_path / "out")] == [7.0]


class Jobs:
    """Jobs that are over when they are asked for the second time."""

    limit = 2

    def __init__(self, runner: CellRunner) -> None:
        self.runner, self.running, self.most = runner, 0, 0
        self.killed: set[str] = set()

    def submit(self, cell: Cell) -> Done:
        self.running += 1
        self.most = max(self.most, self.running)
        asked = iter([False, True])

        def done() -> bool:
            over = next(asked)
            if over:
                self.running -= 1
                if cell.id not in self.killed:
                    self.runner.run(cell)
            return over

        return done


def test_run__jobs_wait_for_what_they_need(
    tmp_path: Path, verbs: Verbs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "_WAIT", 0.0)
    one = made(tmp_path, verbs)
    jobs = Jobs(one)
    jobs.killed = {"u_phantom_taylor_0.25_s0"}
    assert not Runner(one, jobs).run(one.study.cells)
    said = " ".join(capsys.readouterr().out.split())
    assert "FAILED u_phantom_taylor_0.25_s0: its job ended before it was done: it said nothing" in said
    assert "it needs u_phantom_taylor_0.25_s0, which failed" in said
    jobs.killed = set()
    assert Runner(one, jobs).run(one.study.cells)
    assert jobs.most == 2
    order = [row.run for row in read_results(tmp_path / "out")]
    assert sorted(order) == sorted(cell.id for cell in one.study.cells), "each once"
    for cell in one.study.cells:
        assert all(order.index(need) < order.index(cell.id) for need in cell.needs)
