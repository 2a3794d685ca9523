"""What to do with a network that was compiled in place (``net.compile()``) while it is watched and after a cut.

Compiled code does not call hooks that are attached later: importances would be silently missing. Compiled together
with the hooks, the network breaks into many graphs, nine in place of one for the smallest. So it runs uncompiled in the
epochs that are watched. Every cut changes shapes, and after 8 of them PyTorch would fall back to uncompiled code with
one warning. So compiled code is dropped at a cut, and the next unwatched step compiles again.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch._dynamo import OptimizedModule


def run_uncompiled(net: nn.Module) -> Callable[[], None]:
    """Makes a network and its parts run uncompiled, until the returned function is called."""
    compiled = {module: call for module in net.modules() if (call := module._compiled_call_impl) is not None}
    for module in compiled:
        module._compiled_call_impl = None

    def restore() -> None:
        for module, call in compiled.items():
            module._compiled_call_impl = call

    return restore


def forget_compiled(owner: nn.Module) -> None:
    """Drops the compiled code of a network that was cut.

    Args:
        owner: the network, or the module that holds it, which may be compiled itself.
    """
    wrapped = (module for module in owner.modules() if isinstance(module, OptimizedModule))
    in_place = (module for module in owner.modules() if module._compiled_call_impl is not None)
    # Lightning compiles a module's steps.
    if any(True for _ in wrapped) or any(True for _ in in_place) or getattr(owner, "_compiler_ctx", None) is not None:
        torch.compiler.reset()
