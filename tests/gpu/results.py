"""The table of a GPU run: each row is printed and on disk at once, so that a run that is cut off leaves its rows."""

import csv
import time
from pathlib import Path

COLUMNS = ("part", "check", "asked", "got", "verdict", "seconds")


class Results:
    """Rows of (part, check, asked, got, verdict), in ``results.txt``, ``results.csv`` and ``results.md``.

    Args:
        folder: where the files are; a run that goes on there adds to them.
        title: a line on the machine, above the page.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self.folder, self.title, self.part = folder, title, ""
        self.rows: list[tuple[str, ...]] = []
        self._since = time.perf_counter()
        folder.mkdir(parents=True, exist_ok=True)
        self._csv = folder / "results.csv"
        if self._csv.exists():
            with self._csv.open(newline="", encoding="utf-8") as file:
                self.rows = [tuple(row) for row in list(csv.reader(file))[1:]]
        else:
            self._append(COLUMNS)
        self._say(title)

    @property
    def failed(self) -> int:
        """How many rows say FAIL."""
        return sum(row[4] == "FAIL" for row in self.rows)

    def row(self, check: str, asked: str, got: str, ok: bool | None) -> None:
        """Adds a row; ``ok`` is None where nothing is asked."""
        self._add(check, asked, got, {True: "ok", False: "FAIL", None: ""}[ok])

    def at_most(self, check: str, value: float, limit: float, unit: str = "") -> None:
        """Adds a row whose value may be ``limit`` at most."""
        self.row(check, f"≤ {limit:.3g}{unit}", f"{value:.3g}{unit}", value <= limit)

    def skip(self, check: str, reason: str) -> None:
        """Adds a row for what was not done."""
        self._add(check, "", "", f"skipped: {reason}")

    def write_page(self) -> Path:
        """Writes the page of results, a Markdown table for each part."""
        counts = f"{len(self.rows)} rows, {self.failed} failed, {sum('skipped' in row[4] for row in self.rows)} skipped"
        lines = ["# Results on this machine", "", self.title, "", f"{counts}.", ""]
        for part in dict.fromkeys(row[0] for row in self.rows):
            lines += [f"## {part}", "", "| check | asked | got | verdict |", "|---|---|---|---|"]
            lines += [f"| {' | '.join(row[1:5])} |" for row in self.rows if row[0] == part] + [""]
        path = self.folder / "results.md"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path

    def _add(self, check: str, asked: str, got: str, verdict: str) -> None:
        # A message of several lines, or with a bar, would break the tables.
        texts = [" ".join(text.split()).replace("|", "/") for text in (check, asked, got, verdict)]
        row = (self.part, *texts, f"{time.perf_counter() - self._since:.0f}")
        self.rows.append(row)
        self._append(row)
        self._say(f"{row[5]:>4} s  {self.part:<11} {texts[0]:<78} {texts[1]:<12} {texts[2]:<28} {texts[3]}")

    def _append(self, row: tuple[str, ...]) -> None:
        with self._csv.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)

    def _say(self, line: str) -> None:
        print(line, flush=True)
        with (self.folder / "results.txt").open("a", encoding="utf-8") as file:
            file.write(line + "\n")
