"""What to do with a network that was compiled in place (``net.compile()``) while it is watched and after a cut.

Compiled code does not call hooks that are attached later: importances would be silently missing. Compiled together
with the hooks, the network breaks into many graphs, nine in place of one for the smallest. So it runs uncompiled in the
epochs that are watched. Every cut changes shapes, and after 8 of them PyTorch would fall back to uncompiled code with
one warning. So compiled code is dropped at a cut, and the next unwatched step compiles again.
"""

from collections.abc import Callable

import torch
from torch import nn


def run_uncompiled(net: nn.Module) -> Callable[[], None]:
    """Makes a network and its parts run uncompiled, until the returned function is called."""
    compiled = {module: call for module in net.modules() if (call := module._compiled_call_impl) is not None}
    for module in compiled:
        module._compiled_call_impl = None

    def restore() -> None:
        for module, call in compiled.items():
            module._compiled_call_impl = call

    return restore


def forget_compiled(net: nn.Module) -> None:
    """Drops the compiled code of a network that was cut."""
    if any(module._compiled_call_impl is not None for module in net.modules()):
        torch.compiler.reset()
