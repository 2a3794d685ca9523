"""One fake forward pass that follows channel labels through every operation.

Under :class:`~torch._subclasses.fake_tensor.FakeTensorMode` no number is computed and no memory taken; a dispatch mode
sees the real operations, whatever Python wrote them. An operation without a rule freezes what passes through it: an
unknown network is cut less, not wrongly. What no trace of one call can see, such as branches that depend on values or
on training mode, is left to the check in :mod:`polyp_lightning.pruning.exactness`.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from polyp_lightning.errors import PruningError
from polyp_lightning.pruning.labels import Atoms, Labels, Ties


@dataclass
class Call:
    """One operation as the dispatcher saw it."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    first: Tensor
    tensors: list[Tensor]

    def argument(self, position: int, name: str, default: Any = None) -> Any:
        """A positional or keyword argument."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)


Rule = Callable[["Tracer", Call], Labels | None]
"""Labels of an operation's (first) result; None where the rule cannot tell, which freezes all operands."""

RULES: dict[str, Rule] = {}
# Results that share one set of labels, part by part.
SPLITS = frozenset({"split", "split_with_sizes", "chunk", "unbind", "unsafe_split", "unsafe_chunk"})
# Cost something even where nothing can be removed.
COSTLY = frozenset({"mm", "bmm", "addmm", "baddbmm", "convolution"})
# Look at metadata only.
IGNORED = frozenset({"_assert_tensor_metadata", "device", "sym_size", "sym_stride", "sym_numel", "is_same_size"})


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations by the names of their overload packets, without a trailing underscore."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


@dataclass
class MacRecord:
    """A cost before components are known."""

    axes: tuple[Atoms, ...]
    per_unit: float


@dataclass
class Trace:
    """What one pass has recorded; atoms are turned into components afterwards."""

    ties: Ties = field(default_factory=Ties)
    parameters: dict[str, tuple[Atoms, ...]] = field(default_factory=dict)
    executed: set[str] = field(default_factory=set)
    consumed: list[Atoms] = field(default_factory=list)
    consumers: dict[str, Atoms] = field(default_factory=dict)
    grouped: dict[str, Atoms] = field(default_factory=dict)
    macs: list[MacRecord] = field(default_factory=list)
    viewed: list[Atoms] = field(default_factory=list)
    read: set[int] = field(default_factory=set)
    made: set[int] = field(default_factory=set)
    shapes: list[tuple[str, tuple[Atoms | int, ...]]] = field(default_factory=list)
    not_understood: Counter[str] = field(default_factory=Counter)


class Tracer(TorchDispatchMode):
    """Follows labels; see :data:`RULES` for what each operation does to them."""

    def __init__(self, net: nn.Module, batch: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch = batch
        self.trace = Trace()
        self.ties = self.trace.ties
        self._labels: dict[int, Labels] = {}
        # Labels are found by identity: a tensor that were freed could hand its id to another.
        self._alive: list[Tensor] = []
        self._names: dict[int, str] = {}
        self._owners: dict[int, str] = {}
        self._running: list[tuple[str, nn.Module]] = []
        for name, tensor in itertools.chain(net.named_parameters(), net.named_buffers()):
            if tensor.ndim and id(tensor) not in self._names:
                axes = tuple(self.ties.fresh(size) for size in tensor.shape)
                self.trace.parameters[name] = axes
                self._names[id(tensor)] = name
                self._owners.update((id(axis), name) for axis in axes)
                self.put(tensor, Labels(axes, zero=True, is_parameter=True))

    def put(self, tensor: Tensor, labels: Labels) -> None:
        """Attach labels to a tensor."""
        self._labels[id(tensor)] = labels
        self._alive.append(tensor)

    def get(self, tensor: Tensor) -> Labels:
        """Labels of a tensor; one that carries nothing removable has None in every dimension."""
        return self._labels.get(id(tensor)) or Labels((None,) * tensor.ndim)

    def name_of(self, tensor: Tensor) -> str | None:
        """Name of a parameter or buffer; None for anything computed."""
        return self._names.get(id(tensor))

    def owner_of(self, atoms: Atoms) -> str | None:
        """Name of the parameter of which ``atoms`` is a whole dimension, also through transposed views."""
        return self._owners.get(id(atoms))

    def watch(self, net: nn.Module) -> None:
        """Keep account of the layer that is being called."""
        for name, module in net.named_modules():
            if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear, nn.GroupNorm)):
                module.register_forward_pre_hook(lambda m, _, name=name: self._running.append((name, m)))
                module.register_forward_hook(self._leave)

    def _leave(self, *_: object) -> None:
        self._running.pop()

    def layer_of(self, weight: str | None) -> str | None:
        """Name of the layer being called if ``weight`` is its own; None where code outside of a layer uses it."""
        if weight is None or not self._running:
            return None
        name, module = self._running[-1]
        own = module._parameters.get("weight")
        return name if own is not None and self.name_of(own) == weight else None

    def freeze(self, tensors: Iterable[Tensor]) -> None:
        """Freeze every dimension of these."""
        for tensor in tensors:
            self.ties.freeze(*self.get(tensor).dims)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Run the operation on fake tensors, then label its results."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        self.trace.executed.update(self._names[id(t)] for t in tensors if id(t) in self._names)
        if any(self.get(t).any for t in tensors):
            self._label_results(func.overloadpacket.__name__, args, kwargs, out, tensors)
        elif (name := func.overloadpacket.__name__) in COSTLY:
            RULES[name](self, Call(name, args, kwargs, out, out, tensors))
        return out

    def _label_results(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, tensors: list[Tensor]
    ) -> None:
        in_place = name.endswith("_") and not name.endswith("__")
        base = name[:-1] if in_place else name
        if base in IGNORED:
            return
        results = [o for o in tree_leaves(out) if isinstance(o, Tensor)]
        if not results:
            self._give_up(base, tensors)
            return
        first = results[0]
        apply = RULES.get(base)
        labels = apply(self, Call(base, args, kwargs, out, first, tensors)) if apply else None
        if labels is None:
            self._give_up(base, tensors)
            labels = Labels((None,) * first.ndim)
        for result in results if base in SPLITS else [first]:
            self.put(result, labels)
        if base not in SPLITS:
            # Indices of a pool and the like: of the same channels, but never 0 when masked.
            for result in (r for r in results[1:] if r.shape == first.shape):
                self.put(result, Labels(labels.dims, zero=False))
        self.trace.shapes.append(
            (base, tuple(s if d is None else d for s, d in zip(first.shape, labels.dims, strict=True)))
        )
        if in_place:
            self.put(args[0], labels)
            if not labels.zero:
                # A view's base would keep its outdated promise to be 0 when masked.
                self.ties.freeze(*labels.dims)

    def _give_up(self, name: str, tensors: list[Tensor]) -> None:
        self.trace.not_understood[name] += 1
        self.freeze(tensors)


def run_traced(net: nn.Module, inputs: tuple[Tensor, ...]) -> Trace:
    """Trace one call of a (fake) net in eval mode; what reaches the output, or is never reached, is frozen."""
    tracer = Tracer(net, inputs[0].shape[0])
    tracer.watch(net)
    with torch.no_grad(), tracer:
        out = net(*inputs)
    results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
    if not results:
        msg = f"the network returns a {type(out).__name__}; it has to return a tensor, or a tuple, list or dict of them"
        raise PruningError(msg)
    tracer.freeze(results)
    trace = tracer.trace
    for name, axes in trace.parameters.items():
        ids = {id(a) for a in axes}
        # A weight that is tied to another layer the other way round can't be masked on one side only.
        if name not in trace.executed or ids & trace.read & trace.made:
            trace.ties.freeze(*axes)
    return trace
