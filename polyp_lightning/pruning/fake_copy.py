"""Copies of a network that run without a number being computed or memory taken."""

import copy
import itertools
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from polyp_lightning.pruning.example import Example

# Exactly these, by name: a class derived from them may do anything, and not every network needs timm.
_DROPOUTS = frozenset(
    {
        *(f"torch.nn.modules.dropout.{name}" for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d")),
        *("timm.layers.drop.DropPath", "torchvision.ops.stochastic_depth.StochasticDepth"),
    }
)
_ATOMIC = frozenset({bool, int, float, str, type(None)})
_CONTAINERS = frozenset({dict, OrderedDict, set, list})
# Some releases of torch define one for modules, others leave it to Python.
_STATES = (object.__getstate__, nn.Module.__getstate__)


class Fakes:
    """Copies of a network without values, and the example to call them with.

    Args:
        net: the original, on any device.
        example: what it is called with.
        meta: use tensors on the ``meta`` device, which is several times faster. Otherwise fake tensors on the CPU: they
            also allow code that makes tensors on the CPU of its own.
    """

    def __init__(self, net: nn.Module, example: Example, *, meta: bool) -> None:
        self.net = net
        self.original_example = example
        self._device = "meta" if meta else "cpu"
        self._mode = nullcontext() if meta else FakeTensorMode(allow_non_fake_inputs=True)

    def copy(self) -> nn.Module:
        """Copies the network, in eval mode."""
        try:
            return self._copy({})
        except RuntimeError:
            # A module keeps a tensor with a graph; looking for one beforehand would take a tenth of a trace.
            return self._copy(detached(self.net))

    def _copy(self, memo: dict[int, object]) -> nn.Module:
        with self._mode:
            for tensor in itertools.chain(self.net.parameters(), self.net.buffers()):
                empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=self._device)
                is_parameter = isinstance(tensor, nn.Parameter)
                memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if is_parameter else empty
            _copy_modules(self.net, memo)
            return copy.deepcopy(self.net, memo).eval()

    def example(self) -> Example:
        """Copies the example; floats get the type of the network's parameters."""
        dtypes = (p.dtype for p in self.net.parameters() if p.is_floating_point())
        with self._mode:
            return self.original_example.without_values(next(dtypes, torch.get_default_dtype()), self._device)

    @contextmanager
    def running(self) -> Iterator[None]:
        """A context for calls; attention is broken down into products."""
        with self._mode, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            yield


def train(net: nn.Module, training: bool = True) -> nn.Module:
    """Sets training mode but for common dropouts: they take their sizes from what they are given and leave 0 at 0."""
    for module in net.train(training).modules():
        kind = type(module)
        module.training &= f"{kind.__module__}.{kind.__qualname__}" not in _DROPOUTS
    return net


def _copy_modules(net: nn.Module, memo: dict[int, object]) -> None:
    """Copies modules into a memo of :func:`copy.deepcopy`, without its way through pickle, most of a copy's time."""
    plain = [module for module in net.modules() if _is_plain(module)]
    twins = [object.__new__(type(module)) for module in plain]
    memo.update((id(module), twin) for module, twin in zip(plain, twins, strict=True))
    for module, twin in zip(plain, twins, strict=True):
        twin.__dict__.update((name, _value(value, memo)) for name, value in module.__getstate__().items())


def _is_plain(module: nn.Module) -> bool:
    """Whether its class leaves copying to Python and has no state but a dict."""
    kind = type(module)
    default = kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__
    # Torch's own leaves out what was compiled.
    default = default and kind.__getstate__ in _STATES and not hasattr(kind, "__deepcopy__")
    # Those of torch's own layers only add what a file of an earlier version lacks.
    restored = kind.__setstate__.__module__.startswith("torch.nn.modules.")
    return default and restored and type(module.__getstate__()) is dict  # a tuple where there are slots


def _value(value: object, memo: dict[int, object]) -> object:
    if type(value) in _ATOMIC:
        return value
    if type(value) in _CONTAINERS and not value:
        return type(value)()
    return copy.deepcopy(value, memo)


def detached(net: nn.Module) -> dict[int, object]:
    """A memo for :func:`copy.deepcopy`, which refuses tensors with a graph, such as a loss that a module keeps."""
    held = (leaf for module in net.modules() for leaf in tree_leaves(vars(module)))
    return {id(leaf): leaf.detach() for leaf in held if isinstance(leaf, Tensor) and leaf.grad_fn is not None}


def runs(net: nn.Module, example: Example) -> bool:
    """Tells whether a network runs in both modes."""
    return any(_runs(Fakes(net, example, meta=meta)) for meta in (True, False))


def _runs(fakes: Fakes) -> bool:
    try:
        fake = fakes.copy()
        with fakes.running():
            for training in (False, True):
                fakes.example().call(fake.train(training))
    except Exception:
        return False
    return True
