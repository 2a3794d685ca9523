"""Test scores of several runs as papers print them: mean ± deviation over runs that differ in their seed alone."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polyp_lightning.callbacks.score_table import MEASURES, build_score_table
from polyp_lightning.checkpoints.test_scores import read_scores
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.files import write_beside
from polyp_lightning.common.tables import write_table
from polyp_lightning.common.terminal import show
from polyp_lightning.networks.names import list_words
from polyp_lightning.report.inputs import FitRun
from polyp_lightning.report.numbers import DASH, number, percent

_SUFFIXES = (".csv", ".tex")


@dataclass(frozen=True)
class ScoreRow:
    """One network on one test set.

    Attributes:
        network: architecture, method and share of the MACs.
        images: their number in the test set.
        values: measure → the value of each run.
    """

    network: str
    test_set: str
    images: int
    values: Mapping[str, Sequence[float]]

    @property
    def runs(self) -> int:
        """How many runs there are."""
        return max((len(values) for values in self.values.values()), default=0)

    def moments(self, measure: str) -> tuple[float, float]:
        """Mean and standard deviation (of a sample) over runs; NaN where there is none."""
        values = self.values.get(measure, [])
        mean = statistics.fmean(values) if values else float("nan")
        return mean, statistics.stdev(values) if len(values) > 1 else float("nan")


def collect_scores(runs: Sequence[FitRun]) -> list[ScoreRow]:
    """Collects the newest scores of each run's last stage; of runs with the same options but their seeds together.

    Raises:
        ConfigError: none of them was tested.
        DataError: a file of scores is damaged.
    """
    labels: dict[str, str] = {}
    found: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    for run in runs:
        network = labels.setdefault(_options(run), _label(run, list(labels.values())))
        last = run.best[max(run.best)].name if run.best else ""
        tested = sorted(read_scores(run.folder), key=lambda scores: scores.checkpoint == last)
        sets = {name: values for scores in tested for name, values in scores.test_sets.items()}
        for name, values in sets.items():
            found.setdefault((network, name), []).append(values)
    if not found:
        msg = "none of the runs was tested: `test --ckpt_path FILE` leaves its scores in the run's folder"
        raise ConfigError(msg)
    return [
        ScoreRow(network, name, int(tested[0]["images"]), {key: _known(tested, key) for key in MEASURES})
        for (network, name), tested in found.items()
    ]


def show_scores(rows: Sequence[ScoreRow]) -> None:
    """Prints the table."""
    cells = [
        ((row.network, row.test_set, str(row.runs)), {key: _text(row, key, "\n±") for key in MEASURES}) for row in rows
    ]
    show(build_score_table(cells, ["network", "test set", "runs"]))


def check_suffix(path: Path) -> None:
    """Refuses a file that is neither CSV nor LaTeX."""
    if path.suffix.lower() not in _SUFFIXES:
        msg = f"--scores {path} is to be a table: name a file that ends in {' or '.join(_SUFFIXES)}"
        raise ConfigError(msg)


def write_scores(rows: Sequence[ScoreRow], path: Path) -> None:
    """Writes the table as CSV, with columns for means and deviations, or as LaTeX (booktabs)."""
    check_suffix(path)
    if path.suffix.lower() == ".tex":
        with write_beside(path) as beside:
            beside.write_text(to_latex(rows), encoding="utf-8")
        return
    header = ["network", "test_set", "images", "runs", *(f"{key}{end}" for key in MEASURES for end in ("", "_sd"))]
    numbers = ([value for key in MEASURES for value in row.moments(key)] for row in rows)
    cells = (["" if value != value else f"{value:.6f}" for value in values] for values in numbers)
    whole = zip(rows, cells, strict=True)
    write_table(path, header, ([row.network, row.test_set, row.images, row.runs, *values] for row, values in whole))


def to_latex(rows: Sequence[ScoreRow]) -> str:
    """The table in LaTeX, for the package booktabs."""
    head = ["Network", "Test set", *(latex for _, latex in MEASURES.values())]
    lines = [[_escape(row.network), _escape(row.test_set), *(_formula(row, key) for key in MEASURES)] for row in rows]
    table = [" & ".join(cells) + r" \\" for cells in (head, *lines)]
    begin, end = rf"\begin{{tabular}}{{ll{'c' * len(MEASURES)}}}", r"\end{tabular}"
    return "\n".join([begin, r"\toprule", table[0], r"\midrule", *table[1:], r"\bottomrule", end]) + "\n"


def _formula(row: ScoreRow, measure: str) -> str:
    text = _text(row, measure, r" \pm ")
    return text if text == DASH else f"${text}$"


def _text(row: ScoreRow, measure: str, sign: str) -> str:
    mean, deviation = row.moments(measure)
    return number(mean) if deviation != deviation else f"{number(mean)}{sign}{number(deviation)}"


def _known(tested: Sequence[Mapping[str, float]], key: str) -> list[float]:
    return [value for values in tested if not math.isnan(value := values.get(key, math.nan))]


def _label(run: FitRun, taken: Sequence[str]) -> str:
    """Names a run by what it is; by its folder where its options are not known, or another one has that name."""
    stages = run.stages
    if not run.config or not stages:
        return run.name
    method = "dense" if len(stages) == 1 else f"{run.option('pruning', 'criterion')} {percent(stages[-1].share)}"
    net = " ".join(list_words(str(run.option("model", "arch")), str(run.option("model", "encoder"))))
    label = f"{net}, {method}"
    return f"{label} ({run.name})" if label in taken else label


def _options(run: FitRun) -> str:
    """A run's options but for seeds and places, as text; its folder where they are not known."""
    if not run.config:
        return str(run.folder)
    parts = {key: dict(part) if isinstance(part, Mapping) else part for key, part in run.config.items()}
    for part, names in {"data": ("seed", "root", "cache_dir"), "trainer": ("default_root_dir", "logger")}.items():
        for name in names:
            parts.get(part, {}).pop(name, None)
    parts.pop("seed_everything", None)
    return json.dumps(parts, sort_keys=True, default=str)


def _escape(text: str) -> str:
    for sign in "&%$#_{}":
        text = text.replace(sign, f"\\{sign}")
    return text
