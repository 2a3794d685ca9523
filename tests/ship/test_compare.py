import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import compare
import numpy as np
import pytest
import torch
from small_models import SIZE, lively_net, save_checkpoint
from test_packing import batches
from torch import Tensor

from polyp_lightning.checkpoints.file import read
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.common.errors import ConfigError


def loop_dice(prediction: Tensor, mask: Tensor) -> float:
    both = sum(bool(p and m) for p, m in zip(prediction.ravel(), mask.ravel(), strict=True))
    total = int(prediction.sum()) + int(mask.sum())
    return 2 * both / total if total else 1.0


def test_turn__gives_the_eight_symmetries_of_the_square() -> None:
    image = torch.arange(9).reshape(1, 3, 3)
    turned = [compare.turn(image, orientation) for orientation in range(8)]
    assert torch.equal(turned[0], image)
    assert len({tuple(one.ravel().tolist()) for one in turned}) == 8
    # The centre stays, and so does the distance of any two pixels.
    for one in turned:
        assert one[0, 1, 1] == 4
        assert {int(one[0, y, x]) for y in (0, 2) for x in (0, 2)} == {0, 2, 6, 8}


def test_turned_dice__equals_a_loop(tmp_path: Path) -> None:
    path = save_checkpoint(lively_net(), tmp_path / "net.ckpt")
    frames = batches(None)[:1]
    found = compare.turned_dice(read(path), frames)
    assert found.shape == (8, 6)
    net, image, mask = load_net(path), frames[0]["image"], frames[0]["mask"]
    for orientation in range(8):
        for frame in range(6):
            picture, truth = image[frame].numpy(), mask[frame, 0].numpy()
            turned = np.stack([np.rot90(one, orientation % 4) for one in picture])
            truth = np.rot90(truth, orientation % 4)
            if orientation >= 4:
                turned, truth = turned[..., ::-1], truth[..., ::-1]
            with torch.no_grad():
                logits = net.net(net.network_input(torch.from_numpy(turned.copy())[None]))
            expected = loop_dice(logits[0, 0].sigmoid() > 0.5, torch.from_numpy(truth.copy()) != 0)
            assert found[orientation, frame] == pytest.approx(expected, abs=1e-3)


def test_main__prints_each_network_beside_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = save_checkpoint(lively_net(), tmp_path / "one.ckpt")
    ids = [("kvasir", str(i)) for i in range(6)] + [("clinicdb", str(i)) for i in range(8)]
    fake = SimpleNamespace(dataset=SimpleNamespace(val=ids), val_dataloader=lambda: batches(None))
    asked: list[Any] = []
    monkeypatch.setattr(compare, "load_data", lambda data: asked.append(data["image_size"]) or fake)
    monkeypatch.setattr(sys, "argv", ["compare.py", str(one), f"{one}+{one}"])
    compare.main()
    first, second = capsys.readouterr().out.splitlines()
    assert asked == [SIZE]
    assert second.startswith(f"{one}+{one}: as they are 0.")
    # The mean of a network and itself is that network.
    assert second.removeprefix(f"{one}+") == first
    assert first.endswith("to the first +0.000 [+0.000, +0.000]")
    # The two last frames show no polyp, nor do three of the drawn ones: they do not count.
    shown = np.concatenate([[bool(mask.any()) for mask in batch["mask"]] for batch in batches(None)])
    assert shown.sum() == 9
    dice = compare.turned_dice(read(one), batches(None))
    kvasir, clinicdb = (dice[:, part][:, shown[part]].mean() for part in (slice(6), slice(6, 14)))
    assert f"as they are {dice[0, shown].mean():.3f}, in eight orientations {dice[:, shown].mean():.3f} " in first
    assert f"(kvasir {kvasir:.3f}, clinicdb {clinicdb:.3f})" in first


def test_find_checkpoint__refuses_what_is_neither_file_nor_network() -> None:
    assert compare.find_checkpoint("fast").name == "fast.ckpt"
    with pytest.raises(ConfigError, match=r"compare\.py quick is neither a file nor a network"):
        compare.find_checkpoint("quick")
