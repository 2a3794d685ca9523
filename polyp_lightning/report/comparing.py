"""Is the asked method better than the others? The paired comparisons of a study, in words and as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from polyp_lightning.report.cells import SEED_METHOD, Cell
from polyp_lightning.report.document import Block, Paragraph, Table
from polyp_lightning.report.numbers import percent, signed, spread
from polyp_lightning.report.sources import Study
from polyp_lightning.study.results import IMAGES, RUNS, ImageScore, Result, read_images
from polyp_lightning.study.statistics import RESAMPLES, Comparison, comparisons

ALPHA = 0.05
"""Below it a corrected p counts as evidence."""


@dataclass(frozen=True)
class Compared:
    """All comparisons of the asked method.

    Attributes:
        rows: each with its interval and corrected p.
        left_out: runs without values of single images, which can't be paired.
    """

    rows: Sequence[Comparison]
    left_out: int

    def at(self, cell: Cell) -> list[Comparison]:
        """Those against other pruned networks in a cell's setting and at its target."""
        place = cell.setting
        wanted = (place.arch, place.encoder, place.data, place.split, place.image_size, place.test_set, cell.target)
        return [row for row in self.rows if _place(row) == wanted and row.other != "dense"]

    def blocks(self) -> list[Block]:
        """The table, and how to read it."""
        text = (
            f"{SEED_METHOD} against every other method on the same images and seeds, by the Dice of single images; "
            f"positive: {SEED_METHOD} is better. Intervals: 95 %, percentile bootstrap over images ({RESAMPLES} "
            "resamples), for these seeds. p: Wilcoxon's signed rank test over images, corrected by Holm's method for "
            "all rows here."
        )
        head = ["against", "target", "seeds", "images", "difference", "95 % interval", "p (Holm)"]
        head += [f"{SEED_METHOD}, mean ± sd", "the other"]
        groups: dict[str, list[Comparison]] = {}
        for row in self.rows:
            place = f"{row.arch} {row.encoder}, {row.data} ({row.split}) → {row.test_set}, {row.image_size}²"
            groups.setdefault(place, []).append(row)
        caption = "Mean ± standard deviation: of the runs' mean Dice, over the seeds that both have."
        tables = [Table(head, [_cells(row) for row in own], f"{place}. {caption}") for place, own in groups.items()]
        left = f" {self.left_out} results have no values of single images and are left out." if self.left_out else ""
        return [Paragraph(text + left), *tables]


def compared(studies: Sequence[Study]) -> Compared | None:
    """Compares wherever single images are known; None where nothing can be compared.

    Raises:
        DataError: two runs were not tested on the same images, or a file is damaged.
    """
    results: list[Result] = []
    images: dict[str, list[ImageScore]] = {}
    for study in studies:
        for row in study.rows:
            folder = study.folder / RUNS / row.run
            if (folder / IMAGES).is_file():
                results.append(row)
                images.setdefault(row.run, read_images(folder))
    rows = comparisons(results, images, SEED_METHOD)
    return Compared(rows, sum(len(study.rows) for study in studies) - len(results)) if rows else None


def verdict(row: Comparison) -> str:
    """One comparison in a few words: the difference and its interval."""
    pair = row.paired
    return f"{row.other} {signed(pair.difference)} [{signed(pair.low)}, {signed(pair.high)}]"


def outcome(row: Comparison) -> str:
    """Who is better, where the interval leaves out zero and the corrected p is below 0.05."""
    if row.p_holm >= ALPHA or row.paired.low <= 0 <= row.paired.high:
        return "not told apart from"
    return "better than" if row.paired.difference > 0 else "worse than"


def _place(row: Comparison) -> tuple[str, str, str, str, int, str, float]:
    return row.arch, row.encoder, row.data, row.split, row.image_size, row.test_set, row.target


def _p(value: float) -> str:
    """A p-value with three decimals.

    >>> _p(0.0004), _p(0.034)
    ('< 0.001', '0.034')
    """
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _cells(row: Comparison) -> list[str]:
    pair = row.paired
    counts = [percent(row.target), str(pair.seeds), str(pair.images)]
    found = [signed(pair.difference), f"[{signed(pair.low)}, {signed(pair.high)}]", _p(row.p_holm)]
    scores = [spread(side.mean, side.sd) for side in (row.reference, row.compared)]
    return [row.other, *counts, *found, *scores]
