"""A training step on an accelerator launches its backward pass without waiting for the loss."""

import pytest
import torch
from far_device import FAR, far_away, made_far
from small_run import SmallNet, replace_nets

from polyp_lightning.common.errors import TrainingError
from polyp_lightning.training.module import PolypSegmenter

NAMES = ["first", "second"]


def batch(device: str = "cpu") -> dict[str, object]:
    image = torch.zeros(2, 3, 64, 64, dtype=torch.uint8, device=device)
    return {"image": image, "mask": image[:, :1], "name": NAMES}


@pytest.mark.filterwarnings("ignore:.*self.trainer. reference is not registered")
def test_training_step__reads_no_value_before_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_nets(lambda *_: SmallNet(), monkeypatch)
    module = PolypSegmenter(image_size=64)
    with far_away() as transfers:
        module.net = made_far(SmallNet)
        module.mean, module.std = torch.empty(2, 1, 3, 1, 1, device=FAR)
        # The answer of the check alone travels, and nobody waits for it yet; a value that were read would be an error.
        module.training_step(batch(FAR), 0).backward()
        assert transfers.seen == ["_to_copy"]


@pytest.mark.filterwarnings("ignore:.*self.trainer. reference is not registered")
def test_loss__that_is_not_finite_ends_the_run_after_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_nets(lambda *_: SmallNet(), monkeypatch)
    module = PolypSegmenter(image_size=64)
    for broken in (False, True, False):
        module.loss = lambda logits, _, broken=broken: logits.sum() * (torch.nan if broken else 1.0)  # type: ignore
        module.training_step(batch(), 0).backward()
        if broken:
            with pytest.raises(TrainingError, match="loss is nan for the batch of first, second"):
                module.on_after_backward()
        else:
            module.on_after_backward()
