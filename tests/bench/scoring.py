"""A training step that gathers scores against one that doesn't, of the same module in the same run: time and memory."""

import sys
from collections.abc import Iterator, Sequence

from measuring import Effort, Pairs, Row
from memory import peak
from training import BATCH, ENCODERS, SIDE, Batch, Turns, fit, random_batch, segmenter

from polyp_lightning.pruning import trace
from polyp_lightning.pruning.criteria import CRITERIA, Criterion, build_criterion
from polyp_lightning.pruning.graph import ChannelGraph
from polyp_lightning.training.module import PolypSegmenter

LIMIT = 1.05
NETS = ENCODERS | {"mobilenet_v2": "mobilenet_v2-Unet"}
RIDING = [name for name, made in CRITERIA.items() if made().rides_along]


def measure(effort: Effort) -> list[Row]:
    """For each encoder, one row of time and one of memory for each criterion that rides along with training."""
    return [row for encoder, name in NETS.items() for row in _measure(encoder, name, effort)]


def _measure(encoder: str, name: str, effort: Effort) -> list[Row]:
    module = segmenter(encoder)
    graph = trace(module.net, (2, 3, SIDE, SIDE))
    criteria = [build_criterion(criterion) for criterion in RIDING]
    times = _times(name, module, graph, criteria, effort)
    return [*times, *_memories(name, module, graph, criteria)]


def _times(
    name: str, module: PolypSegmenter, graph: ChannelGraph, criteria: Sequence[Criterion], effort: Effort
) -> list[Row]:
    batch = random_batch()
    turn = iter(range(sys.maxsize))

    def watched() -> Iterator[Batch]:
        criterion = criteria[next(turn) % len(criteria)]
        criterion.attach(module.net, graph)
        yield batch
        criterion.detach()

    def unwatched() -> Iterator[Batch]:
        yield batch

    each = Effort(effort.seconds, len(criteria) * effort.least, len(criteria) * effort.most)
    pairs = fit(module, Turns(watched, unwatched, each))
    # The first counted turn came after the warm-up's.
    first = next(turn) - len(pairs.ours)
    rows = []
    for number, criterion in enumerate(criteria):
        _check_scored(criterion, module, graph)
        mine = slice((number - first) % len(criteria), None, len(criteria))
        what = f"training step, {name}, {SIDE}², batch {BATCH}: scoring by {criterion.name}"
        rows.append(Pairs(pairs.ours[mine], pairs.reference[mine]).row(what, LIMIT))
    return rows


def _check_scored(criterion: Criterion, module: PolypSegmenter, graph: ChannelGraph) -> None:
    """A hook that never fired would cost nothing."""
    importance = criterion.importance(module.net, graph)
    if not (importance[1:] > 0).any():
        msg = f"{criterion.name} saw nothing of {module.encoder}"
        raise RuntimeError(msg)


def _memories(name: str, module: PolypSegmenter, graph: ChannelGraph, criteria: Sequence[Criterion]) -> list[Row]:
    batch = random_batch()

    def backward() -> None:
        module.loss(module(batch["image"]), batch["mask"]).backward()
        module.zero_grad()

    module.train()
    backward()
    without = peak(backward)
    rows = []
    for criterion in criteria:
        criterion.attach(module.net, graph)
        scored = peak(backward)
        criterion.detach()
        what = f"peak memory of tensors in it, {name}: scoring by {criterion.name}"
        rows.append(Row(what, [scored / without], "×", LIMIT, ours=_gigabytes(scored), reference=_gigabytes(without)))
    return rows


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.3f} GB"
