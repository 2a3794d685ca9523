"""A training step that gathers TaylorFO scores against one that doesn't, of the same module in the same run."""

from collections.abc import Iterator

from measuring import Effort, Row
from training import BATCH, ENCODERS, SIDE, Batch, Turns, fit, random_batch, segmenter

from polyp_lightning.pruning import trace
from polyp_lightning.pruning.criteria import TaylorFO

LIMIT = 1.05


def measure(effort: Effort) -> list[Row]:
    """One row for each encoder."""
    return [_measure(encoder, name, effort) for encoder, name in ENCODERS.items()]


def _measure(encoder: str, name: str, effort: Effort) -> Row:
    module, batch = segmenter(encoder), random_batch()
    graph = trace(module.net, (2, 3, SIDE, SIDE))
    criterion = TaylorFO()

    def watched() -> Iterator[Batch]:
        criterion.attach(module.net, graph)
        yield batch
        criterion.detach()

    def unwatched() -> Iterator[Batch]:
        yield batch

    pairs = fit(module, Turns(watched, unwatched, effort))
    # A hook that never fired would cost nothing.
    if criterion.count < len(pairs.ours) * BATCH or not (criterion.importance(module.net, graph) > 0).any():
        msg = f"{name} was not scored: {criterion.count} images in {len(pairs.ours)} steps of {BATCH}"
        raise RuntimeError(msg)
    return pairs.row(f"training step, {name}, {SIDE}², batch {BATCH}: with TaylorFO against without", LIMIT)
