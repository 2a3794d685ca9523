"""What reaches submitit; whole jobs are in tests/end_to_end/test_study.py. SLURM is played by three scripts."""

import sys
from pathlib import Path

import pytest
from studies import written

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.study.engines import JOBS, Submitit
from polyp_lightning.study.plan import Cell, read_study


@pytest.fixture
def cells(tmp_path: Path) -> list[Cell]:
    return read_study(written(tmp_path)).cells


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the jobs that were submitted, and the state that all of them have."""
    scripts = {
        "srun": "exit 0",
        "sbatch": 'echo x >> submitted; cp "$1" script; echo "Submitted batch job $(wc -l < submitted)"',
        "sacct": 'echo "JobID|State|NodeList"; for i in 1 2 3; do echo "$i|$(cat state)|a"; done',
    }
    for name, script in scripts.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/bash\ncd {tmp_path}\n{script}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    return tmp_path


def submitted(slurm: Path) -> int:
    return len((slurm / "submitted").read_text().splitlines())


def test_submitit__slurm_gets_the_options_and_the_cells_command(slurm: Path, cells: list[Cell]) -> None:
    options = {"partition": "gpu", "time": 240, "gpus_per_node": 1}
    engine = Submitit("slurm", slurm / "out", ["study", "--config", "c.yaml"], None, options)
    engine.submit(cells[0])
    script = (slurm / "script").read_text().splitlines()
    for line in ("--partition=gpu", "--time=240", "--gpus-per-node=1", "--job-name=out"):
        assert f"#SBATCH {line}" in script
    import submitit

    (pickle,) = (slurm / "out" / JOBS).glob("*_submitted.pkl")
    command = submitit.core.utils.DelayedSubmission.load(pickle).function.command
    assert command == [sys.executable, "-m", "polyp_lightning", "study", "--config", "c.yaml", "--cell", cells[0].id]


def test_submitit__a_job_in_slurms_queue_is_taken_up_and_a_lost_one_submitted_again(
    slurm: Path, cells: list[Cell]
) -> None:
    (slurm / "state").write_text("PENDING")
    Submitit("slurm", slurm / "out", [], None, {}).submit(cells[0])
    # As after the first study's end.
    done = Submitit("slurm", slurm / "out", [], None, {}).submit(cells[0])
    assert submitted(slurm) == 1
    assert not done()
    Submitit("slurm", slurm / "out", [], None, {}).submit(cells[1])
    assert submitted(slurm) == 2
    (slurm / "state").write_text("NODE_FAIL")
    Submitit("slurm", slurm / "out", [], None, {}).submit(cells[0])
    assert submitted(slurm) == 3


def test_submitit__an_unknown_option(slurm: Path) -> None:
    with pytest.raises(ConfigError, match=r"--executor slurm: .*'partiton'.*\n(.*\n)*.*partition"):
        Submitit("slurm", slurm / "out", [], None, {"partiton": "gpu"})


def test_submitit__no_slurm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match=r'--executor slurm: Could not detect "srun"'):
        Submitit("slurm", tmp_path, [], None, {})


def test_submitit__not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"submitit is needed .*: pip install 'polyp-lightning\[cluster\]'"):
        Submitit("local", tmp_path, [], None, {})
