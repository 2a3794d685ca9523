"""Makes one cell of a study: trains and tests it, and leaves its rows in its folder."""

import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polyp_lightning.checkpoints.run_folder import best_checkpoint
from polyp_lightning.common.errors import ConfigError, PolypError
from polyp_lightning.common.locks import hold_lock
from polyp_lightning.study.commands import Step, resume_step, test_steps, training_steps
from polyp_lightning.study.outcome import collect_outcome
from polyp_lightning.study.plan import Cell, Study
from polyp_lightning.study.progress import Progress, load_progress
from polyp_lightning.study.results import IMAGES, RESULTS, RUNS, append_result, write_images

LOG = "log.txt"

_GRACE = 60.0
"""Seconds that a verb has to end in once it was asked to."""

Launch = Callable[[Sequence[str], Path, Mapping[str, str]], int]
"""Runs a verb: arguments, log file, more environment; its exit status."""


class OutOfTime(Exception):
    """The study's time is over; a later call goes on."""


def launch_until(end: float) -> Launch:
    """Returns what runs a verb in a process of its own, until a moment of :func:`time.monotonic`.

    A verb that runs then is asked to end (SIGTERM), which `fit` does before its next step.

    Raises:
        OutOfTime: by what it returns, at that moment.
    """

    def launch(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
        if time.monotonic() >= end:
            raise OutOfTime
        with log.open("a", encoding="utf-8") as file:
            process = subprocess.Popen(  # noqa: S603 (an argument list, no shell)
                [sys.executable, "-m", "polyp_lightning", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
            )
            try:
                return process.wait(None if end == math.inf else end - time.monotonic())
            except subprocess.TimeoutExpired:
                raise OutOfTime from None
            finally:
                _end(process)

    return launch


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that has not ended: it is asked to, and killed where it does not within a minute."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass
class CellRunner:
    """Makes cells of a study.

    Attributes:
        study: the study.
        out: its folder.
        launch: what runs a verb.
    """

    study: Study
    out: Path
    launch: Launch = field(default_factory=lambda: launch_until(math.inf))

    def folder(self, cell: Cell) -> Path:
        """Returns a cell's folder."""
        return self.out / RUNS / cell.id

    def progress(self, cell: Cell) -> Progress:
        """Reads how far a cell is; see :func:`load_progress`."""
        return load_progress(self.folder(cell), self.settings(cell))

    def settings(self, cell: Cell) -> list[str]:
        """Returns what decides a cell's result: its commands, without the folders."""
        steps = training_steps(self.study, cell, Path("run"), {need: Path(need) for need in cell.needs})
        return [argument for step in steps for argument in step.arguments if not argument.startswith("--data.root=")]

    def commands(self, cell: Cell) -> list[str]:
        """Returns the commands of a cell as text."""
        sources = {need: self.out / RUNS / need / "checkpoints" / "stage….ckpt" for need in cell.needs}
        steps = training_steps(self.study, cell, self.folder(cell), sources)
        return [shlex.join(["python", "-m", "polyp_lightning", *step.arguments]) for step in steps]

    def run(self, cell: Cell) -> bool:
        """Makes a cell, or goes on with it. Its rows, or the reason why there are none, are in its folder afterwards.

        Returns:
            Whether it is done.
        """
        folder = self.folder(cell)
        folder.mkdir(parents=True, exist_ok=True)
        # A process of this machine that has survived a killed study is waited for.
        with hold_lock(folder / ".lock", wait=True):
            progress = self.progress(cell)
            if progress.done:
                return True
            progress.failed = ""
            progress.save(folder)
            try:
                self._run(cell, progress)
            except PolypError as error:
                progress.failed = str(error)
                progress.save(folder)
        return progress.done

    def _run(self, cell: Cell, progress: Progress) -> None:
        folder = self.folder(cell)
        sources = {need: best_checkpoint(self.out / RUNS / need) for need in cell.needs}
        names = [step.name for step in training_steps(self.study, cell, folder, sources)]
        command: list[str] = []
        for index, name in enumerate(names):
            # Asked again: a later step's arguments depend on the files of an earlier one.
            step = training_steps(self.study, cell, folder, sources)[index]
            command = step.arguments
            self._step(cell, step, name, progress)
        tests = test_steps(cell, folder)
        for step, _ in tests:
            self._step(cell, step, step.name, progress)
        checkpoint, folders = best_checkpoint(folder), [where for _, where in tests]
        found = collect_outcome(self.study, cell, self.out, checkpoint, folders, command, progress.minutes)
        write_images(folder / IMAGES, found.images)
        for row in found.results:
            append_result(folder / RESULTS, row)
        progress.done = True
        progress.save(folder)

    def _step(self, cell: Cell, step: Step, name: str, progress: Progress) -> None:
        if name in progress.steps:
            return
        folder, started = self.folder(cell), time.monotonic()
        if step.folder and step.folder.is_dir():
            # So is a training that has survived this one's killed predecessor.
            with hold_lock(step.folder, wait=True):
                pass
        environment = {
            "WANDB_RUN_GROUP": self.out.name,
            "WANDB_NAME": cell.id,
            "WANDB_JOB_TYPE": cell.kind,
            "WANDB_TAGS": ",".join([cell.net.key, cell.data.key, cell.criterion.key if cell.criterion else "dense"]),
        }
        try:
            status = self.launch(resume_step(step).arguments, folder / LOG, environment)
        finally:
            progress.minutes += (time.monotonic() - started) / 60
            progress.save(folder)
        if status:
            msg = f"`{step.arguments[0]}` ended with status {status}: {tell_last_line(folder)}"
            raise ConfigError(msg)
        progress.steps.append(name)
        progress.save(folder)


def tell_last_line(folder: Path) -> str:
    """Returns the last error in a cell's log, or else its last line, and where the log is."""
    log = folder / LOG
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    said = [line for line in lines if line.startswith("error: ")] or lines
    return f"{said[-1][:300] if said else 'it said nothing'} (all of it: {log})"
