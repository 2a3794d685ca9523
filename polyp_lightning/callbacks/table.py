"""The Dice-against-GMACs table, as the terminal shows it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from polyp_lightning.checkpoints.stages import StageRecord


def dice_text(value: float | None) -> str:
    """A Dice score with four decimals, or a dash where there is none.

    >>> dice_text(0.87654), dice_text(None)
    ('0.8765', '–')
    """
    return "–" if value is None else f"{value:.4f}"


def count_text(count: int) -> str:
    """A parameter count in thousands or millions.

    >>> count_text(6_629_233), count_text(34_500), count_text(12)
    ('6.63 M', '34.5 k', '12')
    """
    if count >= 1_000_000:
        return f"{count / 1e6:.2f} M"
    return f"{count / 1e3:.1f} k" if count >= 1000 else str(count)


def kept_filters(record: StageRecord, dense: StageRecord) -> str:
    """Filters kept per block as ``block kept/dense``; a block left whole shows one number."""
    parts = []
    for block, full in dense.widths.items():
        kept = record.widths.get(block, 0)
        # A no-break space keeps a block and its numbers on one line.
        parts.append(f"{block}\u00a0{kept}" if kept == full else f"{block}\u00a0{kept}/{full}")
    return ", ".join(parts)


def facts_text(facts: Mapping[str, Any]) -> str:
    """What is known of the data as ``key: value`` pairs, without the cache's key, which tells a reader nothing."""
    return " · ".join(f"{key.replace('_', ' ')}: {value}" for key, value in facts.items() if "cache" not in key)


def stage_table(
    history: Sequence[StageRecord],
    image_size: int,
    title: str,
    facts: Mapping[str, Any] | None = None,
) -> Table:
    """One row per stage; below it the filters kept per block in the last stage, and the data and protocol if given.

    Args:
        history: the stages so far, the dense one first.
        image_size: side in pixels of the input for which GMACs are counted; 0 leaves it out.
        title: the line above the table.
        facts: what the DataModule says of the data (name, split, protocol, counts).

    Returns:
        A rich table that fits into 80 columns. Dice is that of the validation set: before the cut that began the stage,
        right after it, in the stage's last epoch, and the stage's best.
    """
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left", caption_justify="left")
    gmacs = f"GMACs\n@{image_size}²" if image_size else "GMACs"
    dice = ("val Dice\nbefore", "right\nafter", "end of\nstage", "best")
    for header in ("stage", "from\nepoch", gmacs, "of\ndense", "params", *dice):
        table.add_column(header, justify="right", no_wrap=True)
    for row in history:
        scores = (dice_text(v) for v in (row.score_before, row.score_after, row.score_end, row.score_best))
        table.add_row(
            str(row.stage), str(row.epoch), f"{row.gmacs:.3f}", f"{row.share:.1%}", count_text(row.params), *scores
        )
    table.caption = _caption(history, facts)
    return table


def _caption(history: Sequence[StageRecord], facts: Mapping[str, Any] | None) -> Text:
    lines = []
    if history:
        lines.append(f"Filters kept in stage {history[-1].stage}: {kept_filters(history[-1], history[0])}")
    if facts:
        lines += ["Dice: mean over images at threshold 0.5, at network resolution", facts_text(facts)]
    return Text("\n".join(lines))
