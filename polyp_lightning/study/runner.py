"""Runs the cells of a study: skips what is done, goes on with what was interrupted."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.locks import hold_lock
from polyp_lightning.common.terminal import show_text
from polyp_lightning.study.cell_runner import CellRunner, tell_last_line
from polyp_lightning.study.engines import Done, Engine, Sequential
from polyp_lightning.study.plan import Cell
from polyp_lightning.study.results import RESULTS, Result, append_result, read_results

_WAIT = 1.0


@contextmanager
def alone_with(out: Path) -> Iterator[None]:
    """Keeps a second process from writing into a study's table.

    Raises:
        ConfigError: another one does.
    """
    out.mkdir(parents=True, exist_ok=True)
    with hold_lock(out) as lock:
        if lock is None:
            msg = f"another process works on the study in {out}; wait for it, or give another --output"
            raise ConfigError(msg)
        yield


class Runner:
    """Runs the cells of a study and collects their rows in its table.

    Args:
        cell_runner: what makes a cell.
        engine: where cells run; by default one after the other, as children of this process.
    """

    def __init__(self, cell_runner: CellRunner, engine: Engine | None = None) -> None:
        self._cells, self._engine = cell_runner, engine or Sequential(cell_runner)
        self._by_id = {cell.id: cell for cell in cell_runner.study.cells}
        self._table = cell_runner.out / RESULTS
        self._minutes: list[float] = []
        self._failed: dict[str, str] = {}
        self._finished: set[str] = set()

    def run(self, cells: Sequence[Cell]) -> bool:
        """Runs cells until all are done or have failed.

        Returns:
            Whether all are done.
        """
        waiting = {cell.id: cell for cell in cells}
        running: dict[str, Done] = {}
        while waiting or running:
            self._start(waiting, running)
            over = [name for name, done in running.items() if done()]
            for name in over:
                del running[name]
                self._end(self._by_id[name])
            if running and not over:
                time.sleep(_WAIT)
        for name, reason in self._failed.items():
            show_text(f"FAILED {name}: {reason}")
        return not self._failed

    def _start(self, waiting: dict[str, Cell], running: dict[str, Done]) -> None:
        """Starts the cells that can run now, and drops those that are done or never can."""
        for name, cell in list(waiting.items()):
            if reason := self._hopeless(cell, {*waiting, *running}):
                self._failed[name] = reason
            elif self._done(name):
                self._collect(cell, missing=True)
            elif len(running) < self._engine.limit and all(map(self._done, cell.needs)):
                how = "goes on" if self._cells.progress(cell).steps else "begins"
                show_text(f"{name}: {how} ({len(waiting) + len(running)} to go{self._time_left(waiting, running)})")
                running[name] = self._engine.submit(cell)
            else:
                continue
            del waiting[name]

    def _end(self, cell: Cell) -> None:
        """Takes the rows of a cell whose job is over, or says why there are none."""
        progress = self._cells.progress(cell)
        if not progress.done:
            killed = f"its job ended before it was done: {tell_last_line(self._cells.folder(cell))}"
            self._failed[cell.id] = progress.failed or killed
            show_text(f"{cell.id}: failed: {self._failed[cell.id]}")
            return
        rows = self._collect(cell)
        self._minutes.append(progress.minutes)
        self._finished.add(cell.id)
        dice = ", ".join(f"{row.test_set} {row.dice:.4f}" for row in rows)
        show_text(f"{cell.id}: {rows[0].gmacs:.3f} GMACs, test Dice {dice} ({progress.minutes:.1f} min)")

    def _collect(self, cell: Cell, *, missing: bool = False) -> list[Result]:
        """Puts a cell's rows into the table; with ``missing`` only those that a killed study had not put there."""
        own = self._cells.folder(cell) / RESULTS
        # A study of before 0.2 has them in its table only.
        rows = read_results(own) if own.is_file() else []
        there = {row.run for row in read_results(self._table)} if missing and self._table.is_file() else set()
        for row in rows:
            if row.run not in there:
                append_result(self._table, row)
        return rows

    def _hopeless(self, cell: Cell, coming: Collection[str]) -> str:
        for need in cell.needs:
            if need in self._failed:
                return f"it needs {need}, which failed"
            if need not in coming and not self._done(need):
                return f"it needs {need}, which is not done; run that first, or widen --only"
        return ""

    def _done(self, name: str) -> bool:
        """Whether a cell is done; its files are read until it is, and no more afterwards."""
        if name not in self._finished and self._cells.progress(self._by_id[name]).done:
            self._finished.add(name)
        return name in self._finished

    def _time_left(self, waiting: Collection[str], running: Collection[str]) -> str:
        if not self._minutes:
            return ""
        cells = len(waiting) + len(running)
        minutes = cells * sum(self._minutes) / len(self._minutes) / min(self._engine.limit, cells)
        return f", about {minutes / 60:.1f} h" if minutes > 90 else f", about {minutes:.0f} min"
