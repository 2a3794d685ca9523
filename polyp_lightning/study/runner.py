"""Runs the cells of a study: skips what is done, goes on with what was interrupted.

Several processes, on one machine or on several that share the folder, may run the same study side by side.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from polyp_lightning.common.errors import ConfigError, PolypError
from polyp_lightning.common.terminal import show_text
from polyp_lightning.study.claims import Progress, claimed, load_progress
from polyp_lightning.study.commands import Step, best_checkpoint, resume_step, test_steps, training_steps
from polyp_lightning.study.outcome import collect_outcome
from polyp_lightning.study.plan import Cell, Study
from polyp_lightning.study.results import IMAGES, RESULTS, RUNS, append_result, write_images

LOG = "log.txt"
_WAIT = 5.0

Launch = Callable[[Sequence[str], Path, int, Mapping[str, str]], int]
"""Runs a verb: arguments, log file, the claim's descriptor, more environment; its exit status."""


def launch(arguments: Sequence[str], log: Path, claim: int, environment: Mapping[str, str]) -> int:
    """Runs a verb in a process of its own, which keeps the claim should this one be killed."""
    with log.open("a", encoding="utf-8") as file:
        done = subprocess.run(  # noqa: S603 (an argument list, no shell)
            [sys.executable, "-m", "polyp_lightning", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=[claim],
            env={**os.environ, **environment},
            check=False,
        )
    return done.returncode


@dataclass
class Runner:
    """Runs the cells of a study.

    Attributes:
        study: the study.
        out: its folder.
        launch: what runs a verb.
    """

    study: Study
    out: Path
    launch: Launch = launch
    _minutes: list[float] = field(default_factory=list)
    _failed: dict[str, str] = field(default_factory=dict)
    _finished: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Finds cells by id."""
        self._by_id = {cell.id: cell for cell in self.study.cells}

    def run(self, cells: Sequence[Cell]) -> bool:
        """Runs cells until all are done or have failed.

        Returns:
            Whether all are done.
        """
        waiting = list(cells)
        while waiting:
            ids = {cell.id for cell in waiting}
            left = [cell for cell in waiting if not self._over(cell, ids)]
            if len(left) == len(waiting):
                # What is left is in other processes' hands.
                time.sleep(_WAIT)
            waiting = left
        for name, reason in self._failed.items():
            show_text(f"FAILED {name}: {reason}")
        return not self._failed

    def _over(self, cell: Cell, waiting: Collection[str]) -> bool:
        """Runs a cell if it can run now, or notes that it never can; tells whether it is over."""
        reason = self._hopeless(cell, waiting)
        if reason:
            self._failed[cell.id] = reason
            return True
        if not all(map(self._done, cell.needs)):
            return False
        with claimed(self.out / "claims" / f"{cell.id}.lock") as claim:
            if claim is None:
                return False
            if not self._done(cell.id):
                self._attempt(cell, claim, len(set(waiting) - self._finished - self._failed.keys()))
        return True

    def _hopeless(self, cell: Cell, waiting: Collection[str]) -> str:
        for need in cell.needs:
            if need in self._failed:
                return f"it needs {need}, which failed"
            if need not in waiting and not self._done(need):
                return f"it needs {need}, which is not done; run that first, or widen --only"
        return ""

    def _done(self, name: str) -> bool:
        """Whether a cell is done; its files are read until it is, and no more afterwards."""
        if name not in self._finished and self._progress(self._by_id[name]).done:
            self._finished.add(name)
        return name in self._finished

    def _progress(self, cell: Cell) -> Progress:
        return load_progress(self._folder(cell), self.settings(cell))

    def _folder(self, cell: Cell) -> Path:
        return self.out / RUNS / cell.id

    def settings(self, cell: Cell) -> list[str]:
        """Returns what decides a cell's result: its commands, without the folders."""
        steps = training_steps(self.study, cell, Path("run"), {need: Path(need) for need in cell.needs})
        return [argument for step in steps for argument in step.arguments if not argument.startswith("--data.root=")]

    def commands(self, cell: Cell) -> list[str]:
        """Returns the commands of a cell as text."""
        sources = {need: self.out / RUNS / need / "checkpoints" / "stage….ckpt" for need in cell.needs}
        steps = training_steps(self.study, cell, self._folder(cell), sources)
        return [shlex.join(["python", "-m", "polyp_lightning", *step.arguments]) for step in steps]

    def _attempt(self, cell: Cell, claim: int, left: int) -> None:
        folder, progress = self._folder(cell), self._progress(cell)
        folder.mkdir(parents=True, exist_ok=True)
        progress.failed = ""
        progress.save(folder)
        show_text(f"{cell.id}: {'goes on' if progress.steps else 'begins'} ({left} to go{self._time_left(left)})")
        started = time.monotonic()
        try:
            self._make(cell, progress, claim)
        except PolypError as error:
            progress.failed = self._failed[cell.id] = str(error)
            progress.save(folder)
            show_text(f"{cell.id}: failed: {error}")
            return
        self._minutes.append((time.monotonic() - started) / 60)
        self._finished.add(cell.id)

    def _time_left(self, cells: int) -> str:
        if not self._minutes:
            return ""
        minutes = cells * sum(self._minutes) / len(self._minutes)
        return f", about {minutes / 60:.1f} h" if minutes > 90 else f", about {minutes:.0f} min"

    def _make(self, cell: Cell, progress: Progress, claim: int) -> None:
        folder = self._folder(cell)
        sources = {need: best_checkpoint(self.out / RUNS / need) for need in cell.needs}
        names = [step.name for step in training_steps(self.study, cell, folder, sources)]
        command: list[str] = []
        for index, name in enumerate(names):
            # Asked again: a later step's arguments depend on the files of an earlier one.
            step = training_steps(self.study, cell, folder, sources)[index]
            command = step.arguments
            self._step(cell, resume_step(step), name, progress, claim)
        tests = test_steps(cell, folder)
        for step, _ in tests:
            self._step(cell, step, step.name, progress, claim)
        checkpoint, folders = best_checkpoint(folder), [where for _, where in tests]
        found = collect_outcome(self.study, cell, self.out, checkpoint, folders, command, progress.minutes)
        write_images(folder / IMAGES, found.images)
        for row in found.results:
            append_result(self.out / RESULTS, row)
        progress.done = True
        progress.save(folder)
        dice = ", ".join(f"{row.test_set} {row.dice:.4f}" for row in found.results)
        show_text(f"{cell.id}: {found.results[0].gmacs:.3f} GMACs, test Dice {dice} ({progress.minutes:.1f} min)")

    def _step(self, cell: Cell, step: Step, name: str, progress: Progress, claim: int) -> None:
        if name in progress.steps:
            return
        folder, started = self._folder(cell), time.monotonic()
        environment = {
            "WANDB_RUN_GROUP": self.out.name,
            "WANDB_NAME": cell.id,
            "WANDB_JOB_TYPE": cell.kind,
            "WANDB_TAGS": ",".join([cell.net.key, cell.data.key, cell.criterion.key if cell.criterion else "dense"]),
        }
        status = self.launch(step.arguments, folder / LOG, claim, environment)
        progress.minutes += (time.monotonic() - started) / 60
        if status:
            log = folder / LOG
            msg = f"`{step.arguments[0]}` ended with status {status}: {_last_line(log)} (all of it: {log})"
            raise ConfigError(msg)
        progress.steps.append(name)
        progress.save(folder)


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log.is_file() else []
    said = [line for line in lines if line.startswith("error: ")] or lines
    return said[-1][:300] if said else "it said nothing"
