"""A training step that gathers TaylorFO scores against one that doesn't, of the same module in the same run."""

from collections.abc import Iterator

from measuring import Effort, Row
from training import BATCH, ENCODERS, SIDE, Batch, Turns, fit, random_batch, segmenter

from polyp_lightning.pruning import trace
from polyp_lightning.pruning.criteria import TaylorFO
from polyp_lightning.pruning.scores import ConsumerScores

LIMIT = 1.05


def measure(effort: Effort) -> list[Row]:
    """One row for each encoder."""
    return [_measure(encoder, name, effort) for encoder, name in ENCODERS.items()]


def _measure(encoder: str, name: str, effort: Effort) -> Row:
    module, batch = segmenter(encoder), random_batch()
    graph = trace(module.net, (2, 3, SIDE, SIDE))
    criterion = TaylorFO(graph.size)
    scores = ConsumerScores(module.net, graph, criterion.update)

    def watched() -> Iterator[Batch]:
        with scores:
            yield batch

    def unwatched() -> Iterator[Batch]:
        yield batch

    pairs = fit(module, Turns(watched, unwatched, effort))
    # A hook that never fired would cost nothing.
    if criterion.images < len(pairs.ours) * BATCH or not (criterion.importance() > 0).any():
        msg = f"{name} was not scored: {criterion.images} images in {len(pairs.ours)} steps of {BATCH}"
        raise RuntimeError(msg)
    return pairs.row(f"training step, {name}, {SIDE}², batch {BATCH}: with TaylorFO against without", LIMIT)
