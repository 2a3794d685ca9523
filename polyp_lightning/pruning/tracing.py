"""From a network to its :class:`~polyp_lightning.pruning.graph.ChannelGraph`."""

import copy
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from polyp_lightning.errors import PruningError
from polyp_lightning.pruning import rules  # noqa: F401  registers what operations do to labels
from polyp_lightning.pruning.assembling import assemble
from polyp_lightning.pruning.graph import ChannelGraph, Removed
from polyp_lightning.pruning.labels import Atoms
from polyp_lightning.pruning.recording import Pass, Trace, run_recorded
from polyp_lightning.pruning.sites import Choices, Place
from polyp_lightning.pruning.surgery import cut
from polyp_lightning.pruning.tracer import Tracer, freeze_what_cannot_be_cut, run_traced

INEXACT = frozenset({"layer_norm"})
# Trial cuts before what still stands in the way is searched for group by group.
_TRIALS = 30


def trace(net: nn.Module, input_shape: Sequence[int], *, inexact: Sequence[str] = ()) -> ChannelGraph:
    """Find which channels of a network can be removed, and what must go with them.

    One forward pass on fake tensors, and one in training mode where that does something else: nothing is computed and
    ``net`` is not touched. Sizes that are constants in the net's code (``x.view(n, 64, -1)``) cannot be seen by a
    trace; a trial cut on a fake copy finds them. Where the constant is a number that the module keeps
    (``self.num_heads``), the number will follow the cut; what other constants concern is frozen.

    Args:
        net: any module that runs; whatever it does that is not understood is frozen, never cut wrongly.
        input_shape: (N, C, H, W) with N ≥ 2 (with one image a view could merge batch and channels unseen). The size
            sets the MACs; which channels go together does not depend on it.
        inexact: ``layer_norm`` lets channels leave layer norms. Mean and variance are then taken over fewer channels,
            so that the result is *not* that of masking: the graph says so, and so does the check of exactness.

    Returns:
        The coupled channels, with their cost for one image.

    Raises:
        PruningError: the net does not run on this shape.
    """
    if len(input_shape) < 2 or input_shape[0] < 2:
        msg = f"input_shape is {tuple(input_shape)}; give (N, C, H, W) with N of at least 2"
        raise PruningError(msg)
    if not set(inexact) <= INEXACT:
        msg = f"inexact is {tuple(inexact)}; allowed: {', '.join(sorted(INEXACT))}"
        raise PruningError(msg)
    choices = Choices()
    for _ in range(_TRIALS):
        record = _run(net, input_shape, choices, frozenset(inexact))
        graph, component = assemble(record, net, input_shape)
        fault = _trial(net, graph, record, component, _trial_cut(graph))
        if fault is None:
            if not _whole_groups_instead(choices, record, component):
                return graph
            continue
        if not _mend(choices, record, fault):
            break
    return _without_culprits(net, record, input_shape)


def fake_mode() -> FakeTensorMode:
    """A mode in which nothing is computed."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def fake_copy(net: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """A copy in eval mode whose parameters and buffers are fake CPU tensors, whatever the device of the original."""
    memo: dict[int, object] = {}
    with mode:
        for tensor in itertools.chain(net.parameters(), net.buffers()):
            fake = torch.empty(tensor.shape, dtype=tensor.dtype)
            is_parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(fake, requires_grad=False) if is_parameter else fake
        return copy.deepcopy(net, memo).eval()


def example(net: nn.Module, shape: Sequence[int]) -> Tensor:
    """An input of the parameters' type."""
    dtypes = (p.dtype for p in net.parameters() if p.is_floating_point())
    return torch.empty(tuple(shape), dtype=next(dtypes, torch.get_default_dtype()))


def _run(net: nn.Module, shape: Sequence[int], choices: Choices, inexact: frozenset[str]) -> Trace:
    mode = fake_mode()
    fake = _copied(net, mode)
    try:
        with mode, sdpa_kernel(SDPBackend.MATH):
            record = run_traced(fake, (example(fake, shape),), Tracer(fake, shape[0], choices, inexact=inexact))
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        msg = f"the network's code decides by the values of tensors, which a trace cannot follow: {error}"
        raise PruningError(msg) from error
    except Exception as error:
        msg = f"the network does not run on an input of shape {tuple(shape)}: {error}"
        raise PruningError(msg) from error
    _trace_training(net, fake, record, shape, choices, inexact)
    freeze_what_cannot_be_cut(record)
    return record


def _copied(net: nn.Module, mode: FakeTensorMode) -> nn.Module:
    try:
        return fake_copy(net, mode)
    except Exception as error:
        msg = f"the network cannot be copied, which a trace needs: {error}"
        raise PruningError(msg) from error


def _trace_training(
    net: nn.Module, used: nn.Module, record: Trace, shape: Sequence[int], choices: Choices, inexact: frozenset[str]
) -> None:
    """Follow the training mode as well if it does anything that the eval mode does not."""
    with fake_mode_of(used), sdpa_kernel(SDPBackend.MATH):
        light, error = run_recorded(used.train(), (example(used, shape),))
    record.training_known = error is None
    names = [name for name, size, _ in light.operations if (name, size) != ("add_", ())]  # batch norm's counter
    if error is not None or names == [operation.name for operation in record.passes[0].operations]:
        return
    mode = fake_mode()
    fake = fake_copy(net, mode).train()
    try:
        with mode, sdpa_kernel(SDPBackend.MATH):
            run_traced(fake, (example(fake, shape),), Tracer(fake, shape[0], choices, record, inexact))
    except PruningError:
        record.passes.pop()


def fake_mode_of(net: nn.Module) -> FakeTensorMode:
    """The mode that a fake copy's tensors belong to."""
    tensors = itertools.chain(net.parameters(), net.buffers())
    return next((t.fake_mode for t in tensors if hasattr(t, "fake_mode")), None) or fake_mode()


def _trial_cut(graph: ChannelGraph) -> Removed:
    """A different share of each group, from its first component on, so that no half is as wide as the other."""
    removed, rng = graph.nothing(), np.random.default_rng(0)
    for group in graph.groups:
        most = len(group.components) - 1
        removed[group.components[: min(most, max(1, int(len(group.components) * rng.uniform(0.15, 0.65))))]] = True
    return removed


def _trial(net: nn.Module, graph: ChannelGraph, record: Trace, component: Atoms, removed: Removed) -> Place | None:
    """The first operation that a cut network does not do as expected; None if all are as expected."""
    mode = fake_mode()
    fake = fake_copy(net, mode)
    with torch.no_grad(), mode:
        try:
            cut(fake, graph, removed)
        except Exception:
            return 0, len(record.passes[0].operations)
    for number, expected in enumerate(record.passes):
        with mode, sdpa_kernel(SDPBackend.MATH):
            light, error = run_recorded(fake.train(number > 0), (example(fake, graph.input_shape),))
        fault = _first_difference(expected, light.operations, removed[component])
        if fault is None and error is not None:
            fault = len(light.operations)
        if fault is not None:
            return number, fault
    return None


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

    operations = [(k, one) for k, one in enumerate(expected.operations) if one.name != "clone"]
    seen = [one for one in got if one[0] != "clone"]
    for (number, one), (name, shape, numbers) in zip(operations, seen, strict=False):
        as_expected = one.sizes is None or tuple(size(s) for s in one.sizes) == shape
        if _kind(one.name) != _kind(name) or not as_expected or one.numbers != numbers:
            return number
    if len(seen) < len(operations):
        return operations[len(seen)][0]
    return None if len(seen) == len(operations) else len(expected.operations)


def _kind(name: str) -> str:
    """Whether a view copies depends on strides, which differ once a width is 1; so does, above, a clone."""
    return "view" if name in ("_unsafe_view", "reshape", "_reshape_alias") else name


def _mend(choices: Choices, record: Trace, fault: Place) -> bool:
    """Decide otherwise at the place of a fault; False if there is nothing to decide."""
    here = [site for site in record.sites if site.place == fault]
    if any(choices.move_on(site, record.sites) for site in here):
        return True
    number, index = fault
    operations = record.passes[number].operations
    carries = index < len(operations) and bool(operations[index].atoms)
    if not carries or fault in choices.frozen:
        return False
    choices.frozen.add(fault)
    return True


def _whole_groups_instead(choices: Choices, record: Trace, component: Atoms) -> bool:
    """Where no position of a grouped convolution can go, its groups perhaps can: the heads of an attention."""
    stuck = {name for name, atoms in record.positions.items() if not component[atoms].any()} - choices.whole_groups
    if stuck:
        choices.start_over(choices.whole_groups | stuck)
    return bool(stuck)


def _without_culprits(net: nn.Module, record: Trace, shape: Sequence[int]) -> ChannelGraph:
    """Freeze the groups whose cut the code does not bear, found by halving."""
    for _ in range(_TRIALS):
        graph, component = assemble(record, net, shape)
        culprits = [group.components for group in graph.groups]
        whole = _trial_cut(graph)
        if _trial(net, graph, record, component, whole) is None:
            return graph
        while len(culprits) > 1:
            half = culprits[: len(culprits) // 2]
            removed = graph.nothing()
            removed[np.concatenate(half)] = whole[np.concatenate(half)]
            faulty = _trial(net, graph, record, component, removed) is not None
            culprits = half if faulty else culprits[len(half) :]
        if not culprits:
            break
        for atoms in record.parameters.values():
            record.ties.freeze(*(a[np.isin(component[a], culprits[0])] for a in atoms))
    msg = "the network does not run once channels of its layers are removed, for a reason the trace cannot see"
    raise PruningError(msg)
