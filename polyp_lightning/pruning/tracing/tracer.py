"""One fake forward pass that follows channel labels through every operation.

Under :class:`~torch._subclasses.fake_tensor.FakeTensorMode` no number is computed and no memory taken; a dispatch mode
sees the real operations, whatever Python wrote them. An operation without a rule freezes what passes through it: an
unknown network is cut less, not wrongly. What no trace of one call can see, such as branches that depend on values, is
left to the check in :mod:`polyp_lightning.pruning.exactness`.
"""

import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from polyp_lightning.common.errors import PruningError
from polyp_lightning.pruning.example import Example
from polyp_lightning.pruning.labels import Atoms, Cause, Labels
from polyp_lightning.pruning.tracing.recording import Operation, Pass, Trace, numbers_of
from polyp_lightning.pruning.tracing.shapes import call
from polyp_lightning.pruning.tracing.sites import Choices, Frame, Site, SizeRecord

T = TypeVar("T")


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


Rule = Callable[["Tracer", Call], Labels | list[Labels] | None]
"""Labels of an operation's (first) result, or of each of its parts; None where the rule cannot tell, which freezes all
operands."""

RULES: dict[str, Rule] = {}
# Cost something even where nothing can be removed.
COSTLY = frozenset({"mm", "bmm", "addmm", "baddbmm", "convolution"})
# Make a width of their own.
WIDENING = frozenset({"expand", "repeat"})
# Whose outputs can be scored: their scale or filters make each channel.
LAYERS = (nn.modules.conv._ConvNd, nn.Linear, nn.modules.batchnorm._NormBase)
# Look at metadata only.
IGNORED = frozenset({"_assert_tensor_metadata", "sym_size", "sym_stride", "sym_numel", "is_same_size"})
# Scale with their (first) operand: twice the channel gives twice the result.
HOMOGENEOUS = frozenset(
    {
        *("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "permute", "transpose", "t", "clone", "alias"),
        *("detach", "_to_copy", "contiguous", "relu", "leaky_relu", "expand"),
    }
)


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations by the names of their overload packets, without a trailing underscore."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


class Tracer(TorchDispatchMode):
    """Follows labels; see :data:`RULES` for what each operation does to them.

    Args:
        net: on fake tensors.
        batch: number of items.
        choices: what was decided by trial cuts.
        trace: the record to add to; a new one if left out.
    """

    def __init__(
        self,
        net: nn.Module,
        batch: int,
        choices: Choices | None = None,
        trace: Trace | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.batch = batch
        self.trace = trace or Trace()
        self.ties = self.trace.ties
        self.trace.passes.append(Pass())
        self.current = self.trace.passes[-1]
        self.choices = choices or Choices()
        self.whole_groups = self.choices.whole_groups
        self._site: Site | None = None
        self._operation = ""
        self.ties.cause = self._cause
        self._is_read = False  # by the present operation, which its operand's layer is scored for
        self._labels: dict[int, Labels] = {}
        # Labels are found by identity: a tensor that were freed could hand its id to another.
        self._alive: list[Tensor] = []
        # Of parameters alone: the same for any number of items.
        self._fixed: set[int] = set()
        self._names: dict[int, str] = {}
        self._owners: dict[int, str] = {}
        self._running: list[Frame] = []
        for name, tensor in itertools.chain(net.named_parameters(), net.named_buffers()):
            if tensor.ndim and id(tensor) not in self._names:
                axes = self.trace.parameters.get(name) or tuple(self.ties.fresh(size) for size in tensor.shape)
                self.trace.parameters[name] = axes
                self._names[id(tensor)] = name
                self._owners.update((id(axis), name) for axis in axes)
                self.put(tensor, Labels(axes, zero=True, is_parameter=True))
                self._fixed.add(id(tensor))

    def put(self, tensor: Tensor, labels: Labels) -> None:
        """Attach labels to a tensor."""
        self._labels[id(tensor)] = labels
        self._alive.append(tensor)

    def get(self, tensor: Tensor) -> Labels:
        """Labels of a tensor; one that carries nothing removable has None in every dimension."""
        return self._labels.get(id(tensor)) or Labels((None,) * tensor.ndim)

    def items_of(self, *factors: Tensor) -> int:
        """How many items of the batch share the cost of a product: one if all its factors are made of parameters."""
        return 1 if all(id(factor) in self._fixed for factor in factors) else self.batch

    def name_of(self, tensor: Tensor) -> str | None:
        """Name of a parameter or buffer; None for anything computed."""
        return self._names.get(id(tensor))

    def owner_of(self, atoms: Atoms) -> str | None:
        """Name of the parameter of which ``atoms`` is a whole dimension, also through transposed views."""
        return self._owners.get(id(atoms))

    def watch(self, net: nn.Module) -> None:
        """Keep account of the module that is being called."""
        for name, module in net.named_modules():
            module.register_forward_pre_hook(lambda m, _, name=name: self._running.append(Frame(name, m)))
            module.register_forward_hook(self._leave)

    def _leave(self, module: nn.Module, _: object, out: object) -> None:
        # A call that ended in an error that the network caught has left its frame behind.
        frame = self._running.pop()
        while frame.module is not module:
            frame = self._running.pop()
        if isinstance(module, LAYERS) and isinstance(out, Tensor) and self.get(out).any:
            labels = self.get(out)
            self.put(out, Labels(labels.dims, labels.zero, source=frame.name))

    def _cause(self) -> Cause:
        return Cause(self._operation, self._running[-1].name if self._running else "", _calling_code())

    @property
    def running(self) -> Frame:
        """The innermost module that is being called."""
        return self._running[-1]

    def layer_of(self, weight: str | None) -> str | None:
        """Name of the layer being called if ``weight`` is its own; None where code outside of a layer uses it."""
        if weight is None or not self._running:
            return None
        name, module = self._running[-1].name, self._running[-1].module
        own = module._parameters.get("weight")
        is_layer = isinstance(module, (nn.modules.conv._ConvNd, nn.Linear, nn.GroupNorm, nn.LayerNorm))
        return name if is_layer and own is not None and self.name_of(own) == weight else None

    def site(self, operation: str, options: Sequence[T], *atoms: Atoms | None) -> T | None:
        """The option to take at this site; None to freeze ``atoms``, which is done.

        Each option is tried twice, first with the numbers that the module keeps following the cut.
        """
        site = Site(self.running.next_key(operation), self._place, 2 * len(options))
        self.trace.sites.append(site)
        choice = self.choices.at(site.key)
        self._site = site if choice % 2 == 0 else None
        if choice >= site.choices:
            self._site = None
            self._operation += " with a size that the code fixes"
            self.ties.freeze(*atoms)
            return None
        return options[choice // 2]

    @property
    def _place(self) -> tuple[int, int]:
        return len(self.trace.passes) - 1, len(self.current.operations)

    def keep_size(self, atoms: Atoms | None) -> None:
        """At the present site, let numbers of the module that equal the number of these atoms follow a cut."""
        frame = self.running
        if atoms is None or self._site is None or type(frame.module).__module__.startswith("torch.nn."):
            return
        key = self._site.key
        names = [name for name in frame.sizes_equal_to(len(atoms)) if self.choices.may_follow(key, name)]
        self._site.followers.update(names)
        self.trace.size_records.extend(SizeRecord(frame.name, name, atoms, self._site.place) for name in names)

    def score_at_output(self, operands: Sequence[Labels], atoms: Atoms) -> None:
        """Score atoms that no layer reads at a layer that makes them; where none is known they are frozen."""
        outputs = self.trace.outputs
        sources = [labels.source for labels in operands if labels.source]
        if not sources:
            self.ties.freeze(atoms)
            return
        outputs.setdefault(next((s for s in sources if s in outputs), sources[0]), []).append(atoms)
        self._is_read = True

    def freeze(self, tensors: Iterable[Tensor]) -> None:
        """Freeze every dimension of these."""
        for tensor in tensors:
            self.ties.freeze(*self.get(tensor).dims)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Run the operation on fake tensors, then label its results."""
        kwargs = kwargs or {}
        out = call(func, args, kwargs)
        if func.namespace == "prim":
            return out
        name = func.overloadpacket.__name__
        tensors = [a for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        self.current.executed.update(self._names[id(t)] for t in tensors if id(t) in self._names)
        self._operation = name
        self._keep_fixed(name, tensors, out)
        operation = Operation(name, None, numbers_of(name, args, kwargs), [])
        if name in WIDENING or any(self.get(t).any for t in tensors):
            operation.atoms = [d for t in tensors for d in self.get(t).dims if d is not None]
            operation.sizes = self._label_results(name, args, kwargs, out, tensors)
        elif name in COSTLY:
            RULES[name](self, Call(name, args, kwargs, out, out, tensors))
        if self._place in self.choices.frozen:
            self.ties.freeze(*operation.atoms, *(s for s in operation.sizes or () if not isinstance(s, int)))
        self.current.operations.append(operation)
        return out

    def _keep_fixed(self, name: str, tensors: list[Tensor], out: Any) -> None:
        if not tensors or any(id(t) not in self._fixed for t in tensors):
            return
        results = [o for o in tree_leaves(out) if isinstance(o, Tensor) and id(o) not in self._fixed]
        if name in WIDENING and results and results[0].shape[:1] == (self.batch,) != tensors[0].shape[:1]:
            return  # once for each item
        self._fixed.update(map(id, results))
        self._alive.extend(results)

    def _label_results(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any, tensors: list[Tensor]
    ) -> tuple[Atoms | int, ...] | None:
        in_place = name.endswith("_") and not name.endswith("__")
        base = name[:-1] if in_place else name
        if base in IGNORED:
            return None
        results = [o for o in tree_leaves(out) if isinstance(o, Tensor)]
        if not results:
            self._give_up(base, tensors)
            return None
        labels = self._apply(Call(base, args, kwargs, out, results[0], tensors))
        self._follow_source(base, args, tensors, labels)
        for result, label in zip(results, labels, strict=False):
            self.put(result, label)
        for result in results[len(labels) :]:
            if result.shape == results[0].shape:
                # Indices of a pool and the like: of the same channels, but never 0 when masked.
                self.put(result, Labels(labels[0].dims, zero=False))
        if in_place:
            self._overwrite(args[0], labels[0])
        return tuple(s if d is None else d for s, d in zip(results[0].shape, labels[0].dims, strict=True))

    def _apply(self, call: Call) -> list[Labels]:
        # What is written elsewhere (``out=``) may be read there under another name.
        apply = None if "out" in call.kwargs else RULES.get(call.name)
        try:
            found = apply(self, call) if apply else None
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError):
            # A form of the operation that its rule was not written for is an operation without a rule.
            found = None
        labels = [found] if isinstance(found, Labels) else found
        if not labels or len(labels[0].dims) != call.first.ndim:
            self._give_up(call.name, call.tensors)
            return [Labels((None,) * call.first.ndim)]
        return labels

    def _follow_source(self, base: str, args: tuple[Any, ...], tensors: list[Tensor], labels: list[Labels]) -> None:
        """Keep the name of the layer that a result scales with; note the layers whose outputs are used otherwise."""
        is_read, self._is_read = self._is_read, False
        first = self.get(args[0]) if args and isinstance(args[0], Tensor) else None
        scaled = base in ("mul", "div") and len(tensors) == 1 and first is not None
        if first is not None and first.source and (base in HOMOGENEOUS or scaled) and len(labels) == 1:
            labels[0] = Labels(labels[0].dims, labels[0].zero, labels[0].is_parameter, first.source)
        elif not is_read and base not in ("mm", "bmm", "baddbmm"):
            self.trace.escaped.update(s for t in tensors if (s := self.get(t).source))

    def _overwrite(self, target: Tensor, labels: Labels) -> None:
        self.put(target, labels)
        if labels.zero:
            return
        # What shares the memory must not keep its promise to be 0 when masked.
        memory = target.untyped_storage()._cdata
        for tensor in {id(t): t for t in self._alive}.values():
            if tensor.untyped_storage()._cdata == memory:
                self._labels[id(tensor)] = self.get(tensor).nonzero()

    def _give_up(self, name: str, tensors: list[Tensor]) -> None:
        self.trace.not_understood[name] += 1
        self.freeze(tensors)


def run_traced(net: nn.Module, example: Example, tracer: Tracer) -> Trace:
    """Trace one call of a (fake) net; what reaches the output is frozen."""
    tracer.watch(net)
    with tracer:
        out = example.call(net)
    results = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
    if not results:
        msg = f"the network returns a {type(out).__name__}; it has to return a tensor, or a tuple, list or dict of them"
        raise PruningError(msg)
    tracer.ties.cause = lambda: Cause("the network's output")
    tracer.freeze(results)
    return tracer.trace


_LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parent.parent))


def _calling_code() -> str:
    """File and line of the innermost code outside of PyTorch and of this package that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not run_traced.__code__:
        if not frame.f_code.co_filename.startswith(_LIBRARIES):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def freeze_what_cannot_be_cut(trace: Trace) -> None:
    """Freeze what no pass reached, what is read in one place and made in another, and what nothing can score."""
    executed = set().union(*(p.executed for p in trace.passes))
    trace.ties.cause = lambda: Cause("weights that are used both ways round or never")
    for name, axes in trace.parameters.items():
        ids = {id(a) for a in axes}
        # A weight that is tied to another layer the other way round can't be masked on one side only.
        if name not in executed or ids & trace.read & trace.made:
            trace.ties.freeze(*axes)
    if trace.borrowed:
        _freeze_widths_of_nothing(trace)
    trace.ties.cause = lambda: Cause("channels that no layer reads, of an output with other uses")
    for layer, products in trace.outputs.items():
        if layer in trace.escaped or f"{layer}.weight" not in trace.parameters:
            trace.ties.freeze(*products)


def _freeze_widths_of_nothing(trace: Trace) -> None:
    """Freeze what was widened to a width that belongs to no parameter."""
    component = trace.ties.components()
    borrowed = np.concatenate(trace.borrowed)
    owned = component[np.concatenate([*(a for axes in trace.parameters.values() for a in axes)])]
    trace.ties.freeze(borrowed[~np.isin(component[borrowed], owned)])
