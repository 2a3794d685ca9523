"""Compares the asked method with the others: the paired comparisons of a study, in words and as a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from polyp_lightning.report.cells import SEED_METHOD, collect_cells
from polyp_lightning.report.document import Block, Paragraph, Table
from polyp_lightning.report.inputs import Study
from polyp_lightning.report.numbers import DASH, p_value, percent, signed, spread
from polyp_lightning.study.replicates import DENSE, Replicates
from polyp_lightning.study.results import ImageScore
from polyp_lightning.study.statistics import RESAMPLES, Comparison, compare_methods

ALPHA = 0.05
"""Below it a corrected p counts as evidence."""

BETTER, WORSE, TIED = "better than", "worse than", "not told apart from"
UNTESTED = "not judged (one common seed) against"
"""What a comparison comes to."""


@dataclass(frozen=True)
class Comparisons:
    """All comparisons of the asked method, and how many runs have no values of single images to pair."""

    rows: Sequence[Comparison]
    left_out: int

    def at(self, cell: Replicates) -> list[Comparison]:
        """Returns those of a cell against other networks of its target: not against the dense one."""
        own = (cell.setting, cell.target, cell.epochs)
        rows = [row for row in self.rows if row.compared.method != DENSE]
        return [row for row in rows if (row.reference.setting, row.reference.target, row.reference.epochs) == own]

    def blocks(self) -> list[Block]:
        """The table, and how to read it."""
        text = (
            f"{SEED_METHOD} against every other method on the same images and on the seeds that both have, by the Dice "
            f"of single images; positive: {SEED_METHOD} is better. Intervals: 95 %, percentile bootstrap over images "
            f"({RESAMPLES} resamples). p: Wilcoxon's signed rank test over images, corrected by Holm's method for all "
            "rows here. Both speak of other images, for these seeds; what other seeds would change shows under 'by "
            "seed'. Better and worse are said only where all of at least two seeds agree. One seed is not tested."
        )
        head = ["against", "target", "seeds", "images", "difference", "95 % interval", "p (Holm)", "by seed"]
        head += [f"{SEED_METHOD}, mean ± sd", "the other"]
        groups: dict[str, list[Comparison]] = {}
        for row in self.rows:
            groups.setdefault(str(row.reference.setting), []).append(row)
        caption = "Mean ± standard deviation: of the runs' mean Dice, over the seeds that both have."
        tables = [Table(head, [_cells(row) for row in own], f"{place}. {caption}") for place, own in groups.items()]
        left = f" {self.left_out} results have no values of single images and are left out." if self.left_out else ""
        return [Paragraph(text + left), *tables]


def compare_studies(studies: Sequence[Study]) -> Comparisons | None:
    """Compares wherever single images are known; None where nothing can be compared.

    Raises:
        DataError: two runs were not tested on the same images, or a file is damaged.
    """
    cells, images = read_scored_cells(studies)
    rows = compare_methods(cells, images, SEED_METHOD)
    left_out = sum(len(study.rows) for study in studies) - sum(len(cell.rows) for cell in cells)
    return Comparisons(rows, left_out) if rows else None


def read_scored_cells(studies: Sequence[Study]) -> tuple[list[Replicates], dict[str, list[ImageScore]]]:
    """Reads the results of which values of single images are known, and these by run."""
    results = [row for study in studies for row in study.rows if row.run in study.images]
    # Of a run that two studies hold, the first one's.
    images = {run: scores for study in reversed(studies) for run, scores in study.images.items()}
    return collect_cells(results), images


def describe(row: Comparison) -> str:
    """Describes a comparison in a few words: the difference and, where there are several seeds, its interval."""
    pair = row.paired
    return f"{row.compared.method} {signed(pair.difference)}{'' if math.isnan(pair.p) else f' {_interval(row)}'}"


def classify(row: Comparison) -> str:
    """Tells who is better: somebody only if the interval leaves out zero, p is below 0.05 and all seeds agree."""
    pair = row.paired
    if math.isnan(pair.p):
        return UNTESTED
    if row.p_holm >= ALPHA or pair.low <= 0 <= pair.high or not pair.agree:
        return TIED
    return BETTER if pair.difference > 0 else WORSE


def _interval(row: Comparison) -> str:
    return DASH if math.isnan(row.paired.low) else f"[{signed(row.paired.low)}, {signed(row.paired.high)}]"


def _cells(row: Comparison) -> list[str]:
    pair = row.paired
    counts = [percent(row.reference.target), str(len(pair.by_seed)), str(pair.images)]
    found = [signed(pair.difference), _interval(row), p_value(row.p_holm), " ".join(map(signed, pair.by_seed))]
    scores = [spread(side.mean("dice"), side.deviation("dice")) for side in (row.reference, row.compared)]
    return [row.compared.method, *counts, *found, *scores]
