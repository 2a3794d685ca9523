"""From a network to its :class:`~polyp_lightning.pruning.graph.ChannelGraph`."""

import dataclasses
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.example import Example, Like
from polyp_lightning.pruning.fake_copy import Fakes, train
from polyp_lightning.pruning.graph import ChannelGraph, Removed
from polyp_lightning.pruning.labels import Atoms, Cause
from polyp_lightning.pruning.surgery import cut
from polyp_lightning.pruning.tracing import rules  # noqa: F401  registers what operations do to labels
from polyp_lightning.pruning.tracing.assembling import assemble, frozen_layers
from polyp_lightning.pruning.tracing.recording import Pass, Trace, run_recorded
from polyp_lightning.pruning.tracing.sites import Choices, Place
from polyp_lightning.pruning.tracing.tracer import Tracer, freeze_what_cannot_be_cut, run_traced

# Trial cuts before what still stands in the way is searched for group by group.
_TRIALS = 30
_SMALL = 500
# Whether they occur depends on strides, which differ once a width is 1, and on what ran before.
_INCIDENTAL = frozenset({"clone", "detach", "alias"})


def trace(net: nn.Module, example: Like) -> ChannelGraph:
    """Find which channels of a network can be removed, and what must go with them.

    One forward pass on fake tensors, and one in training mode where that does something else: nothing is computed and
    ``net`` is not touched. Sizes that are constants in the net's code (``x.view(n, 64, -1)``) cannot be seen by a
    trace; a trial cut on a fake copy finds them. Where the constant is a number that the module keeps
    (``self.num_heads``), the number will follow the cut; what other constants concern is frozen.

    Args:
        net: any module that runs; whatever it does that is not understood is frozen, never cut wrongly.
        example: what it is called with: the shape (N, C, …) of its input, a tensor, a tuple of positional or a dict of
            keyword arguments, or an :class:`~polyp_lightning.pruning.example.Example`. The size sets the MACs; which
            channels go together does not depend on it. A batch of one is repeated, since with one item a view could
            merge batch and channels unseen.

    Returns:
        The coupled channels, with their cost for one item of the batch.

    Raises:
        PruningError: the net does not run on this example.
    """
    given = Example.of(example).at_least_two().without_values(torch.get_default_dtype())
    with _own_settings():
        try:
            return _trace(Fakes(net, given, meta=True))
        except PruningError:
            return _trace(Fakes(net, given, meta=False))


@contextmanager
def _own_settings() -> Iterator[None]:
    """Pauses the garbage collector and deterministic algorithms.

    A search for cycles among the many small objects of a trace takes a fifth of its time. Deterministic algorithms
    break interpolation into indexing, which would freeze a decoder; nothing is computed here that could differ.
    """
    collects, deterministic = gc.isenabled(), torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    gc.disable()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        if collects:
            gc.enable()


def _trace(fakes: Fakes) -> ChannelGraph:
    choices, training = Choices(), True
    for _ in range(_TRIALS):
        record = _run(fakes, choices, training=training)
        graph, component = assemble(record, fakes.net, fakes.original_example)
        fault = _fault(fakes, graph, record, component)
        if fault is None and not _whole_groups_instead(choices, record, component):
            if training:
                return _with_causes(fakes, record, _with_needed_sizes(fakes, graph, record, component))
            training = True
        elif fault is not None:
            training = False  # can wait until eval mode is in order
            if not _mend(choices, record, fault):
                break
    if not training:
        record = _run(fakes, choices, training=True)
    record.ties.cause = lambda: Cause("code that does not run once it is cut")
    return _with_causes(fakes, record, _without_culprits(fakes, record))


def _with_causes(fakes: Fakes, record: Trace, graph: ChannelGraph) -> ChannelGraph:
    return dataclasses.replace(graph, frozen_layers=frozen_layers(record, fakes.net, graph))


def _run(fakes: Fakes, choices: Choices, *, training: bool) -> Trace:
    fake = _copy(fakes)
    try:
        with fakes.running():
            record = run_traced(fake, fakes.example(), Tracer(fake, fakes.original_example.batch, choices))
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        msg = f"the network's code decides by the values of tensors, which a trace cannot follow: {error}"
        raise PruningError(msg) from error
    except Exception as error:
        msg = f"the network does not run on {fakes.original_example}: {error}"
        raise PruningError(msg) from error
    if training:
        _trace_training(fakes, fake, record, choices)
    freeze_what_cannot_be_cut(record)
    return record


def _copy(fakes: Fakes) -> nn.Module:
    try:
        return fakes.copy()
    except Exception as error:
        msg = f"the network cannot be copied, which a trace needs: {error}"
        raise PruningError(msg) from error


def _trace_training(fakes: Fakes, used: nn.Module, record: Trace, choices: Choices) -> None:
    """Follow the training mode as well if it does anything that the eval mode does not."""
    with fakes.running():
        light, error = run_recorded(train(used), fakes.example())
    record.training_known = error is None
    names = [name for name, size, _ in light.operations if (name, size) != ("add_", ())]  # batch norm's counter
    if error is not None or names == [operation.name for operation in record.passes[0].operations]:
        return
    fake = train(fakes.copy())
    try:
        with fakes.running():
            run_traced(fake, fakes.example(), Tracer(fake, fakes.original_example.batch, choices, record))
    except PruningError:
        record.passes.pop()  # returns nothing that a removal could change


def _trial_cut(graph: ChannelGraph, seed: int = 0) -> Removed:
    """A different share of each group and more of its front than of its end, so that no half is as wide as another."""
    removed, rng = graph.nothing(), np.random.default_rng(seed)
    for group in graph.groups:
        count = len(group.components)
        if count < 2:
            continue
        gone = rng.random(count) < rng.uniform(0.3, 0.9) * np.linspace(1, 0.3, count)
        gone[0], gone[-1] = True, count > 2
        if gone.all():
            gone[1] = False
        removed[group.components[gone]] = True
    return removed


def _fault(fakes: Fakes, graph: ChannelGraph, record: Trace, component: Atoms) -> Place | None:
    """Where a cut network does not do as expected."""
    faults = (_trial(fakes, graph, record, component, removed) for removed in _trial_cuts(graph))
    return next((fault for fault in faults if fault is not None), None)


def _trial_cuts(graph: ChannelGraph) -> list[Removed]:
    """Small groups could be cut in balance once, but hardly thrice."""
    return [_trial_cut(graph, seed) for seed in range(3 if graph.size < _SMALL else 1)]


def _trial(fakes: Fakes, graph: ChannelGraph, record: Trace, component: Atoms, removed: Removed) -> Place | None:
    """The first operation that a cut network does not do as expected; None if all are as expected."""
    contradiction = _contradiction(record, component)
    if contradiction is not None:
        return contradiction
    fake = fakes.copy()
    try:
        with fakes.running():
            cut(fake, graph, removed)
    except Exception:
        return 0, len(record.passes[0].operations)
    gone = removed[component]
    for number, expected in enumerate(record.passes):
        with fakes.running():
            light, error = run_recorded(train(fake, number > 0), fakes.example())
        fault = _first_difference(expected, light.operations, gone)
        if fault is None and error is not None:
            fault = len(expected.operations)
        if fault is not None:
            return number, fault
    return None


def _contradiction(record: Trace, component: Atoms) -> Place | None:
    """Where a number would have to follow something else than at another site."""
    followed: dict[tuple[str, str], Atoms] = {}
    for size in record.size_records:
        components = np.sort(component[size.atoms])
        if not np.array_equal(followed.setdefault((size.module, size.attribute), components), components):
            return size.place
    return None


def _with_needed_sizes(fakes: Fakes, graph: ChannelGraph, record: Trace, component: Atoms) -> ChannelGraph:
    """Without the numbers that equal a width by chance: the code runs on a cut network if they stay as they are."""
    classes = {name: type(module).__qualname__ for name, module in fakes.net.named_modules()}
    for kind in {(classes[size.module], size.attribute) for size in graph.sizes}:
        rest = tuple(size for size in graph.sizes if (classes[size.module], size.attribute) != kind)
        fewer = dataclasses.replace(graph, sizes=rest)
        if _fault(fakes, fewer, record, component) is None:
            graph = fewer
    return graph


def _first_difference(
    expected: Pass, got: list[tuple[str, tuple[int, ...] | None, tuple[float, ...]]], gone: np.ndarray
) -> int | None:
    kept: dict[int, int] = {}

    def size(along: Atoms | int) -> int:
        if isinstance(along, int):
            return along
        if id(along) not in kept:
            kept[id(along)] = int((~gone[along]).sum())
        return kept[id(along)]

    operations = [(k, one) for k, one in enumerate(expected.operations) if one.name not in _INCIDENTAL]
    seen = [one for one in got if one[0] not in _INCIDENTAL]
    for (number, one), (name, shape, numbers) in zip(operations, seen, strict=False):
        as_expected = one.sizes is None or tuple(size(s) for s in one.sizes) == shape
        if _kind(one.name) != _kind(name) or not as_expected or one.numbers != numbers:
            return number
    if len(seen) < len(operations):
        return operations[len(seen)][0]
    return None if len(seen) == len(operations) else len(expected.operations)


def _kind(name: str) -> str:
    """Whether a view copies depends on strides as well."""
    return "view" if name in ("_unsafe_view", "reshape", "_reshape_alias") else name


def _mend(choices: Choices, record: Trace, fault: Place) -> bool:
    """Decide otherwise at the place of a fault; False if there is nothing to decide."""
    here = [site for site in record.sites if site.place == fault]
    if any(choices.move_on(site, record.sites) for site in here):
        return True
    number, index = fault
    operations = record.passes[number].operations
    scaled = index < len(operations) and bool(operations[index].numbers and operations[index].atoms)
    if not scaled or fault in choices.frozen:
        return False
    choices.frozen.add(fault)
    return True


def _whole_groups_instead(choices: Choices, record: Trace, component: Atoms) -> bool:
    """Where no position of a grouped convolution can go, its groups perhaps can: the heads of an attention."""
    stuck = {name for name, atoms in record.positions.items() if not component[atoms].any()} - choices.whole_groups
    if stuck:
        choices.start_over(choices.whole_groups | stuck)
    return bool(stuck)


def _without_culprits(fakes: Fakes, record: Trace) -> ChannelGraph:
    """Freeze the groups whose cut the code does not bear, found by halving; no number follows a cut."""
    record.size_records.clear()
    for _ in range(_TRIALS):
        graph, component = assemble(record, fakes.net, fakes.original_example)
        cuts = _trial_cuts(graph)
        faulty = [one for one in cuts if _trial(fakes, graph, record, component, one) is not None]
        if not faulty:
            return graph
        culprits = [group.components for group in graph.groups]
        while len(culprits) > 1:
            half = np.concatenate(culprits[: len(culprits) // 2])
            removed = graph.nothing()
            removed[half] = faulty[0][half]
            in_half = _trial(fakes, graph, record, component, removed) is not None
            culprits = culprits[: len(culprits) // 2] if in_half else culprits[len(culprits) // 2 :]
        if not culprits:
            break
        for atoms in record.parameters.values():
            record.ties.freeze(*(a[np.isin(component[a], culprits[0])] for a in atoms))
    msg = "the network does not run once channels of its layers are removed, for a reason the trace cannot see"
    raise PruningError(msg)
