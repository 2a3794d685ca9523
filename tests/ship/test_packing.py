import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import packing
import pytest
import torch
from small_models import SIZE, cut, lively_net, save_checkpoint
from torch import nn

from polyp_lightning.checkpoints.file import read, write
from polyp_lightning.checkpoints.run_folder import best_checkpoint
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.files import sha256
from polyp_lightning.common.frame_rule import frame_score
from polyp_lightning.common.tables import read_rows
from polyp_lightning.data.cache import resize, resize_mask
from polyp_lightning.data.sets.phantom import draw_frame


def batches(_: Any) -> list[dict[str, torch.Tensor]]:
    """Twelve phantoms, and two of them again as if they showed no polyp."""
    found = []
    for numbers in (range(6), range(6, 12), range(2)):
        drawn = [draw_frame(0, number) for number in numbers]
        images = np.stack([resize(frame, SIZE).transpose(2, 0, 1) for frame, _ in drawn])
        masks = np.stack([resize_mask(mask, SIZE)[None] * (len(numbers) > 2) for _, mask in drawn])
        found.append({"image": torch.from_numpy(images), "mask": torch.from_numpy(masks)})
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a finished run: two stages, of which the second one ships."""
    folder = tmp_path_factory.mktemp("runs") / "small" / "checkpoints"
    folder.mkdir(parents=True)
    net = lively_net()
    save_checkpoint(net, folder / "stage0-epoch01-dice0.9000.ckpt")
    path = save_checkpoint(cut(net, 0.3), folder / "stage1-epoch03-dice0.8000.ckpt")
    stored = torch.load(path, weights_only=True)
    torch.save(stored | {"optimizer_states": [torch.ones(1000)], "callbacks": {"a": {}}}, path)
    base = folder.parent.parent / "base"
    base.mkdir()
    (base / "config.yaml").write_text("trainer:\n  max_epochs: 4\n")
    config = f"seed_everything: 7\nmodel:\n  init_from: {base}/checkpoints/last.ckpt\ntrainer:\n  max_epochs: 3\n"
    (folder.parent / "config.yaml").write_text(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "load_validation", batches)
        yield folder.parent


@pytest.fixture(scope="module")
def packed(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, packing.Packed]:
    """The folder of networks, and the row of the one that is there."""
    out = tmp_path_factory.mktemp("nets")
    return out, packing.pack(run, out)


Nets = tuple[Path, packing.Packed]


def test_pack__ships_the_last_stage_without_what_training_needs(run: Path, packed: Nets) -> None:
    out, row = packed
    given, made = run / "checkpoints" / "stage1-epoch03-dice0.8000.ckpt", out / "small.ckpt"
    stored = read(made)
    assert not {"optimizer_states", "callbacks"} & stored.keys()
    assert made.stat().st_size < 0.55 * given.stat().st_size
    assert "Not a medical device" in stored["polyp_lightning"]["card"]
    for name, value in stored["state_dict"].items():
        assert value.dtype == (torch.float16 if value.ndim > 1 else read(given)["state_dict"][name].dtype), name
    before, after = load_net(given), load_net(made)
    image = batches(None)[0]["image"]
    torch.testing.assert_close(
        *(one.net(one.network_input(image)).sigmoid() for one in (before, after)), atol=5e-3, rtol=0
    )
    assert (row.net, row.seed, row.epochs, row.averaged, row.checkpoint) == ("small", 7, 4 + 3, 1, given.name)
    assert (row.sha256, row.bytes) == (sha256(made), made.stat().st_size)
    assert read_rows(out / "nets.csv", packing.Packed) == [row]


def test_pack__the_alarm_threshold_is_the_highest_with_enough_sensitivity(packed: Nets) -> None:
    out, row = packed
    made = load_net(out / "small.ckpt")
    assert made.alarm_threshold == row.alarm_threshold
    scores, polyps, dice = [], [], []
    for batch in batches(None):
        with torch.no_grad():
            maps = made.net(made.network_input(batch["image"])).sigmoid()[:, 0].numpy()
        for map_, mask in zip(maps, batch["mask"][:, 0].numpy() != 0, strict=True):
            scores.append(frame_score(map_))
            polyps.append(bool(mask.any()))
            both = ((map_ > 0.5) & mask).sum()
            dice.append(2 * both / ((map_ > 0.5).sum() + mask.sum()) if mask.any() or (map_ > 0.5).any() else 1.0)
    found = sorted((score for score, polyp in zip(scores, polyps, strict=True) if polyp), reverse=True)
    needed = int(np.ceil(0.9 * len(found)))
    assert (row.val_polyp_frames, row.val_clean_frames) == (len(found), 14 - len(found))
    assert row.val_clean_frames >= 2
    assert row.val_found == sum(score > row.alarm_threshold for score in found) >= needed
    # Any higher one that changes something finds too few.
    assert sum(score > found[needed - 1] for score in found) < needed
    assert row.alarm_threshold < found[needed - 1]
    clean = [score for score, polyp in zip(scores, polyps, strict=True) if not polyp]
    assert row.val_false_alarms == sum(score > row.alarm_threshold for score in clean)
    assert row.val_dice_halved == pytest.approx(np.mean(dice), abs=1e-4)


def test_pack__a_second_one_keeps_the_first_ones_row(run: Path, packed: Nets, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "another")
    shutil.copytree(packed[0], tmp_path / "nets")
    other = packing.pack(tmp_path / "another", tmp_path / "nets")
    assert read_rows(tmp_path / "nets" / "nets.csv", packing.Packed) == [other, packed[1]]
    assert other.sha256 == packed[1].sha256


def test_pack__the_last_checkpoint_where_it_is_asked_for(run: Path, packed: Nets, tmp_path: Path) -> None:
    folder = tmp_path / "another"
    shutil.copytree(run, folder)
    changed = torch.load(folder / "checkpoints" / packed[1].checkpoint, weights_only=True)
    changed["state_dict"]["net.segmentation_head.0.bias"] += 1
    torch.save(changed, folder / "checkpoints" / "last.ckpt")
    row = packing.pack(folder, tmp_path / "nets", last=True)
    assert row.checkpoint == "last.ckpt"
    best, last = (read(path)["state_dict"] for path in (packed[0] / "small.ckpt", tmp_path / "nets" / "another.ckpt"))
    bias = "net.segmentation_head.0.bias"
    torch.testing.assert_close(last[bias], changed["state_dict"][bias])
    assert not torch.equal(best[bias], last[bias])


def test_pack__refuses(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LARGEST_CHANGE", -1.0)
    with pytest.raises(ConfigError, match=r"halved weights change the validation Dice by 0\.0"):
        packing.pack(run, tmp_path / "nets")
    assert not (tmp_path / "nets").exists()
    with pytest.raises(ConfigError, match="holds no checkpoint of a stage"):
        packing.pack(tmp_path, tmp_path / "nets")


def leave_run(folder: Path, net: nn.Module, start: Path | None = None) -> Path:
    """A run of a single epoch that went on from a checkpoint."""
    (folder / "checkpoints").mkdir(parents=True)
    save_checkpoint(net, folder / "checkpoints" / "stage0-epoch00-dice0.9000.ckpt")
    model = f"model:\n  init_from: {start}\n" if start else ""
    (folder / "config.yaml").write_text(f"{model}trainer:\n  max_epochs: 1\n")
    return folder


def test_average__of_a_run_and_those_before_it_with_the_same_widths(tmp_path: Path) -> None:
    net, moved = cut(lively_net(), 0.3), cut(lively_net(), 0.3)
    with torch.no_grad():
        for value in moved.state_dict().values():
            value += 4
    oldest = leave_run(tmp_path / "wide", lively_net())
    first = leave_run(tmp_path / "first", net, oldest / "checkpoints" / "last.ckpt")
    second = leave_run(tmp_path / "second", moved, first / "checkpoints" / "last.ckpt")
    assert packing.count_epochs(second) == 3
    alike = list(packing.read_alike(second, best_checkpoint(second)))
    assert len(alike) == 2
    given = net.state_dict()
    for name, value in packing.average(alike)["state_dict"].items():
        before = given[name.removeprefix("net.")].numpy()
        # Batch norm counts its batches: that of the last run stays.
        expected = before + (2 if value.is_floating_point() else 4)
        np.testing.assert_allclose(value.numpy(), expected, atol=1e-5, err_msg=name)


def test_average__of_a_run_and_the_packed_network_before_it(run: Path, packed: Nets, tmp_path: Path) -> None:
    start = packed[0] / "small.ckpt"
    after = leave_run(tmp_path / "after", load_net(run / "checkpoints" / packed[1].checkpoint).net, start)
    assert packing.count_epochs(after) == packed[1].epochs + 1
    whole, halved = packing.read_alike(after, best_checkpoint(after))
    name = next(name for name, value in halved["state_dict"].items() if value.dtype == torch.float16)
    expected = (whole["state_dict"][name].numpy() + halved["state_dict"][name].numpy().astype(np.float32)) / 2
    mean = packing.average([whole, halved])["state_dict"][name]
    np.testing.assert_allclose(mean.numpy(), expected, rtol=1e-6)
    # Another one's widths are others: it counts for the epochs alone.
    wider = leave_run(tmp_path / "wider", lively_net(), start)
    assert packing.count_epochs(wider) == packed[1].epochs + 1
    assert len(list(packing.read_alike(wider, best_checkpoint(wider)))) == 1


def test_strip__what_no_forward_pass_reads_takes_no_room(tmp_path: Path) -> None:
    encoder = "timm-tf_efficientnet_lite0"  # whose last 1×1 convolution is for a classifier
    given = save_checkpoint(lively_net("FPN", encoder), tmp_path / "given.ckpt", encoder, "FPN")
    stored = packing.strip(torch.load(given, weights_only=True), 0.5)
    write(stored, tmp_path / "stripped.ckpt")
    before, after = load_net(given), load_net(tmp_path / "stripped.ckpt")
    head = "net.encoder.conv_head.weight"
    weights = stored["state_dict"].items()
    assert {name for name, value in weights if value.untyped_storage().nbytes() < value.nbytes} == {head}
    saved = 2 * before.net.state_dict()[head.removeprefix("net.")].numel()
    halved = sum(value.numel() * value.element_size() for value in stored["state_dict"].values())
    assert (tmp_path / "stripped.ckpt").stat().st_size < halved - 0.8 * saved
    image = batches(None)[0]["image"]
    with torch.no_grad():
        expected, found = (one.net(one.network_input(image)).sigmoid() for one in (before, after))
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)
