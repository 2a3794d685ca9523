"""Watching a step on an accelerator: everything stays on the device, and nothing waits for it."""

import pytest
import torch
from far_device import FAR, far_away, made_far
from small_run import SmallNet

from polyp_lightning.pruning import trace
from polyp_lightning.pruning.criteria import CRITERIA, build_criterion, taylor_hooks

RIDING = [name for name, made in CRITERIA.items() if made().rides_along]
SHAPE = (2, 3, 32, 32)


@pytest.mark.parametrize("name", RIDING)
def test_scored_step__reads_nothing_from_the_device(name: str) -> None:
    graph = trace(SmallNet(), SHAPE)
    criterion = build_criterion(name)
    with far_away() as transfers:
        net, image = made_far(SmallNet), torch.empty(SHAPE, device=FAR)
        criterion.attach(net, graph)
        for _ in range(3):
            # Once, the numbers of components and the empty sums go there; reading a value would be an error.
            transfers.seen.clear()
            net(image).square().mean().backward()
            criterion.keep()
        criterion.detach()
        assert transfers.seen == []
        # What a cut needs is read once.
        assert criterion.total.is_cpu
        assert transfers.seen == ["_to_copy"]


def test_contract__takes_an_accelerators_layer_in_few_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taylor_hooks, "_PIECE", 100)
    with far_away():
        x = torch.empty(2, 4, 64, 64, device=FAR)
        split = []
        monkeypatch.setattr(torch, "stack", lambda *args: split.append(args))
        assert taylor_hooks.contract(x, x, 1).shape == (2, 4)
    assert not split
