"""The study's question, and its answer in three lines."""

from collections.abc import Sequence
from dataclasses import dataclass

from polyp_lightning.report.cells import SEED_METHOD, find_target, group_by_setting
from polyp_lightning.report.comparing import ALPHA, BETTER, TIED, UNTESTED, WORSE, Comparisons, classify, describe
from polyp_lightning.report.numbers import number, percent, signed, spread
from polyp_lightning.study.replicates import DENSE, Replicates, keep_common_seeds

QUESTION = (
    "Filters are removed while the network trains, those of the least TaylorFO score with normalised gradients first. "
    "Does that keep more Dice than removing filters by another criterion, or than training the smaller network from "
    "scratch, at equal MACs and equal epochs?"
)

TARGET = 0.25
"""The share of MACs at which the question is put, where it was run."""


@dataclass(frozen=True)
class Question:
    """The cells that answer the question: dense, pruned by the method asked about, all others at the same target."""

    dense: Replicates
    pruned: Replicates
    others: tuple[Replicates, ...]


def find_question(found: Sequence[Replicates]) -> Question | None:
    """Finds the cells of the setting with most runs that has both sides; None where no setting has.

    The target is the one nearest to :data:`TARGET`.
    """
    for group in group_by_setting(found).values():
        dense, pruned = find_target(group, DENSE, 1.0), find_target(group, SEED_METHOD, TARGET)
        if dense and pruned:
            others = [cell for cell in group if cell.target == pruned.target and cell not in (pruned, dense)]
            return Question(dense, pruned, tuple(others))
    return None


def answer(question: Question | None, comparisons: Comparisons | None, found: Sequence[Replicates]) -> list[str]:
    """Answers in three lines: what it costs in Dice, how it compares, and what it saves in time."""
    if question is None:
        runs = sum(len(cell.rows) for cell in found)
        return [f"Not answered yet: {runs} results, but no dense network beside one pruned by {SEED_METHOD}."]
    return [_cost(question), _contest(question, comparisons), _time(question)]


def _cost(question: Question) -> str:
    dense, pruned = question.dense, question.pruned
    return (
        f"{pruned.setting}: test Dice {spread(dense.mean('dice'), dense.deviation('dice'))} dense at "
        f"{number(dense.mean('gmacs'))} GMACs (n = {len(dense.rows)}), "
        f"{spread(pruned.mean('dice'), pruned.deviation('dice'))} with {percent(pruned.target)} of the MACs, "
        f"{number(pruned.mean('gmacs'))} GMACs (n = {len(pruned.rows)}): {_gap(pruned, dense)}."
    )


def _gap(one: Replicates, other: Replicates) -> str:
    """Returns the difference of Dice on the seeds that both have."""
    ours, theirs = keep_common_seeds(one, other)
    if not ours.rows:
        return "no common seed"
    seeds = f"seed{'s' * (len(ours.rows) > 1)} {', '.join(map(str, ours.seeds))}"
    return f"{signed(ours.mean('dice') - theirs.mean('dice'))} ({seeds})"


def _contest(question: Question, comparisons: Comparisons | None) -> str:
    if not question.others:
        return f"At {percent(question.pruned.target)} there is nothing to compare with: no other method was run."
    rows = comparisons.at(question.pruned) if comparisons else []
    if not rows:
        gaps = [f"{cell.method} {_gap(question.pruned, cell)}" for cell in question.others]
        return f"{SEED_METHOD} at {percent(question.pruned.target)}, no intervals: against {', against '.join(gaps)}."
    outcomes: dict[str, list[str]] = {BETTER: [], WORSE: [], TIED: [], UNTESTED: []}
    for row in rows:
        outcomes[classify(row)].append(describe(row))
    said = "; ".join(f"{how} {' · '.join(others)}" for how, others in outcomes.items() if others)
    rule = f" Better and worse: corrected p below {ALPHA}, and the same sign under every seed."
    tested = any(outcomes[how] for how in (BETTER, WORSE, TIED))
    with_interval = ", difference of Dice with 95 % interval" if tested else ", difference of Dice"
    target = percent(question.pruned.target)
    return f"At {target} of the MACs{with_interval}: {SEED_METHOD} is {said}.{rule if tested else ''}{_start(question)}"


def _start(question: Question) -> str:
    """Names the networks that started from random weights beside a pretrained one."""
    pretrained = any(row.encoder_weights for row in question.pruned.rows)
    bare = [cell.method for cell in question.others if not any(row.encoder_weights for row in cell.rows)]
    if not (pretrained and bare):
        return ""
    names = " · ".join(bare)
    return f" {names}: from random weights, {SEED_METHOD} from a pretrained encoder; that gap is not pruning's alone."


def _time(question: Question) -> str:
    dense, pruned = question.dense, question.pruned
    ways = {(row.machine, row.ms_backend, row.threads) for cell in (dense, pruned) for row in cell.rows}
    before, after = dense.mean("ms"), pruned.mean("ms")
    fewer = f"{number(dense.mean('gmacs') / pruned.mean('gmacs'), 2)} times fewer MACs"
    if len(ways) != 1 or not (before > 0 and after > 0):
        return f"{fewer}; time was not measured on one machine in one way."
    ((machine, backend, threads),) = ways
    return (
        f"{fewer}, {number(before / after, 2)} times faster: {spread(before, dense.deviation('ms'), 1)} → "
        f"{spread(after, pruned.deviation('ms'), 1)} ms per image ({machine}, {backend}, "
        f"{threads} thread{'s' * (threads != 1)}, batch 1)."
    )
