"""Training and evaluation mode of layers."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(net: nn.Module) -> Iterator[None]:
    """Puts every layer into evaluation mode, and afterwards back into the mode it had: frozen parts stay frozen."""
    training = {layer: layer.training for layer in net.modules()}
    net.eval()
    try:
        yield
    finally:
        for layer, mode in training.items():
            layer.training = mode
