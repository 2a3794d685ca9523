"""Where the cells of a study run: one after the other in this process's children, or as jobs of submitit."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.extras import need
from polyp_lightning.common.files import write_beside
from polyp_lightning.study.cell_runner import CellRunner
from polyp_lightning.study.plan import Cell

JOBS = "jobs"
_ID = "job.json"

Done = Callable[[], bool]
"""Asks whether a job is over, whatever came of it."""


class Engine(Protocol):
    """Runs cells.

    Attributes:
        limit: how many may run at a time.
    """

    limit: int

    def submit(self, cell: Cell) -> Done:
        """Starts a cell."""


class Sequential:
    """Runs one cell at a time, and returns when it is over."""

    limit = 1

    def __init__(self, runner: CellRunner) -> None:
        self._runner = runner

    def submit(self, cell: Cell) -> Done:
        """Runs a cell."""
        self._runner.run(cell)
        return lambda: True


class Submitit:
    """Hands cells to submitit. A job is the verb ``study`` with one cell: an argument list, nothing of ours is pickled.

    Args:
        name: ``slurm``, or ``local`` for processes of this machine.
        out: the study's folder, which all machines share.
        arguments: those of the job's command; the cell's id is added.
        limit: how many jobs may be submitted at a time; None for 2 of this machine, and for all of SLURM's.
        options: of ``sbatch``, such as ``partition`` or ``time``.

    Raises:
        ConfigError: submitit is not installed, there is no SLURM, or it knows no such option.
    """

    def __init__(
        self, name: str, out: Path, arguments: Sequence[str], limit: int | None, options: Mapping[str, Any]
    ) -> None:
        submitit = need("submitit")
        self.limit = limit or (2 if name == "local" else sys.maxsize)
        self._out, self._arguments, self._submitit = out, arguments, submitit
        self._slurm, self._folder = name == "slurm", (out / JOBS).absolute()
        try:
            if self._slurm:
                self._executor: Any = submitit.SlurmExecutor(self._folder)
                self._executor.update_parameters(**{"job_name": out.name, **options})
            else:
                import torch

                self._executor = submitit.LocalExecutor(self._folder)
                # A year: the default is two minutes, and no GPU.
                self._executor.update_parameters(timeout_min=525_600, gpus_per_node=torch.cuda.device_count())
        except (RuntimeError, ValueError) as error:
            msg = f"--executor {name}: {error}"
            raise ConfigError(msg) from error

    def submit(self, cell: Cell) -> Done:
        """Submits a cell, or takes up the job of SLURM that a study which was killed has submitted."""
        path = self._folder / cell.id / _ID
        if self._slurm and path.is_file():
            earlier: Any = self._submitit.SlurmJob(self._folder, json.loads(path.read_text(encoding="utf-8"))["id"])
            if not earlier.done(force_check=True):
                return lambda: bool(earlier.done())
        command = [sys.executable, "-m", "polyp_lightning", *self._arguments, "--cell", cell.id]
        job = self._executor.submit(self._submitit.helpers.CommandFunction(command, cwd=Path.cwd()))
        with write_beside(path) as beside:
            beside.write_text(json.dumps({"id": job.job_id}), encoding="utf-8")
        return job.done  # type: ignore[no-any-return]
