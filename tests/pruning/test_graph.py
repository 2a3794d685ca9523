"""A graph on the screen."""

import re

import pytest
import segmentation_models_pytorch as smp
from torch import nn

from polyp_lightning import pruning


@pytest.mark.parametrize("arch", [smp.Unet, smp.Segformer])
def test_repr__fits_a_screen_and_counts_what_there_is(arch: type[nn.Module]) -> None:
    net = arch("resnet18" if arch is smp.Unet else "mit_b0", encoder_weights=None)
    graph = pruning.trace(net, (2, 3, 64, 64))
    text = repr(graph)
    lines = text.splitlines()
    assert str(graph) == text
    assert len(lines) <= 16
    assert max(map(len, lines)) <= 80
    (shown,) = re.findall(r"parameters in use: ([\d,]+), ([\d.]+)% of them frozen", text)
    weights = dict(net.named_parameters())
    used = {name for name in weights if name in graph.executed}
    assert int(shown[0].replace(",", "")) == sum(weights[name].numel() for name in used)
    assert float(shown[1]) == pytest.approx(100 * graph.frozen_share(frozenset(used)), abs=0.05)
    (gmacs,) = re.findall(r"GMACs of an image: ([\d.]+)", text)
    assert float(gmacs) == pytest.approx(graph.total_macs() / 1e9, rel=5e-3)
    largest = max((name for name in used if weights[name].ndim > 1), key=lambda name: weights[name].numel())
    assert f"{weights[largest].numel():,}  {largest}" in text
    assert (f"{graph.why_frozen()[0].layer}" in text) if graph.frozen_layers else ("filters that stay" not in text)
