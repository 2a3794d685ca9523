"""A network that was compiled in place (``net.compile()``), while it is scored and after a cut.

Compiled code knows nothing of hooks that are attached later: scores would be silently missing. Compiled together with
the hooks, the network breaks into many graphs, nine in place of one for the smallest. So it runs uncompiled in the
epochs that are scored. Every cut makes other shapes, and after 8 of them PyTorch would fall back to uncompiled code
with one warning: what was compiled is forgotten at a cut, and compiled again at the next unscored step.
"""

from collections.abc import Callable

import torch
from torch import nn


def uncompiled(net: nn.Module) -> Callable[[], None]:
    """Run a network and its parts as they are, until what is returned is called."""
    compiled = {module: call for module in net.modules() if (call := module._compiled_call_impl) is not None}
    for module in compiled:
        module._compiled_call_impl = None

    def restore() -> None:
        for module, call in compiled.items():
            module._compiled_call_impl = call

    return restore


def forget_compiled(net: nn.Module) -> None:
    """Let go of the compiled code of a network that was cut."""
    if any(module._compiled_call_impl is not None for module in net.modules()):
        torch.compiler.reset()
