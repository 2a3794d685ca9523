import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from odd_files import by_pillow, exif
from PIL import Image
from torch.utils.data import DataLoader

from polyp_lightning.callbacks.mask_writer import MaskWriter
from polyp_lightning.common.errors import DataError
from polyp_lightning.deploy.contour import CONTOUR, RIM, draw_contour

Pixels = NDArray[np.uint8]


def mask_of(index: int, size: tuple[int, int]) -> Pixels:
    mask = np.zeros(size, np.uint8)
    mask[10 : 20 + index, 15:30] = 255
    return mask


class Known(LightningModule):
    """Predicts the masks of ``mask_of``."""

    alive: int = 0
    alarms: bool = False

    def predict_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> dict[str, list[Any]]:
        masks = [torch.from_numpy(mask_of(i, size)) for i, size in zip(batch["index"], batch["size"], strict=True)]
        self.alive = max(self.alive, sum(type(o) is torch.Tensor and o.dtype == torch.uint8 for o in gc.get_objects()))
        alarms = {"frame_score": [i / 10 for i in batch["index"]], "alarm": [i > 0 for i in batch["index"]]}
        return {"mask": masks, "name": batch["name"], "path": batch["path"], **(alarms if self.alarms else {})}


def frames(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    """Writes frames of different sizes and describes them as the data module does."""
    samples = []
    for index, name in enumerate(names):
        path, size = folder / name, (50 + 7 * index, 80 - 5 * index)
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((*size, 3), (150, 60 + index, 50), np.uint8)
        if path.suffix == ".tif":
            tifffile.imwrite(path, pixels, photometric="rgb")
        else:
            Image.fromarray(pixels).save(path)
        image = torch.full((3, 32, 32), 90, dtype=torch.uint8)
        samples.append({"index": index, "image": image, "name": path.stem, "path": str(path), "size": size})
    return samples


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    batch: dict[str, Any] = {key: [s[key] for s in samples] for key in samples[0]}
    return {**batch, "image": torch.stack(batch["image"])}


def predict(samples: Any, folder: Path, **options: Any) -> Known:
    """Runs prediction over one list of samples, or over several."""
    several = samples if isinstance(samples[0], list) else [samples]
    loaders = [DataLoader(s, batch_size=2, collate_fn=collate) for s in several]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    run = Trainer(accelerator="cpu", default_root_dir=folder, callbacks=[MaskWriter(**options)], **quiet)  # type: ignore[arg-type]
    module = Known()
    run.predict(module, loaders if len(loaders) > 1 else loaders[0], return_predictions=False)
    return module


def test_mask_writer__writes_what_was_predicted_under_the_inputs_names(tmp_path: Path) -> None:
    samples = frames(tmp_path / "in", ["a.png", "b.c.jpg", "d.tif"])
    predict(samples, tmp_path, output=str(tmp_path / "out"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.png", "b.c.png", "d.png"]
    for index, (name, s) in enumerate(zip(("a", "b.c", "d"), samples, strict=True)):
        with Image.open(tmp_path / "out" / f"{name}.png") as written:
            assert written.mode == "L"
            np.testing.assert_array_equal(np.asarray(written), mask_of(index, s["size"]))


def test_mask_writer__default_folder_is_the_runs(tmp_path: Path) -> None:
    predict(frames(tmp_path / "in", ["a.png"]), tmp_path / "run")
    assert (tmp_path / "run" / "masks" / "a.png").is_file()
    assert not (tmp_path / "run" / "masks" / "overlays").exists()


def test_mask_writer__overlay_is_the_original_with_a_contour(tmp_path: Path) -> None:
    samples = frames(tmp_path / "in", ["a.png", "b.jpg", "c.tif"])
    samples[1]["path"] = ""  # a frame without a file: the network's input, enlarged
    predict(samples, tmp_path, output=str(tmp_path / "out"), overlay=True)
    for s, inside in zip(samples, ((150, 60, 50), (90, 90, 90), (150, 62, 50)), strict=True):
        with Image.open(tmp_path / "out" / "overlays" / f"{s['name']}.jpg") as written:
            pixels = np.asarray(written.convert("RGB")).astype(int)
        assert pixels.shape[:2] == s["size"]
        assert np.abs(pixels[15, 22] - inside).max() < 12
        assert np.abs(pixels[45, 60] - inside).max() < 12
        assert np.abs(pixels[15, 14] - CONTOUR).sum() < np.abs(pixels[15, 14] - inside).sum()


def test_mask_writer__overlay_of_an_image_that_its_tag_turns_is_upright(tmp_path: Path) -> None:
    (sample,) = frames(tmp_path / "in", ["a.png"])
    stored = np.zeros((80, 50, 3), np.uint8)
    stored[:, :20] = 200  # bright on the left, as stored
    by_pillow(tmp_path / "in" / "a.png", stored, exif=exif(6))  # to be turned clockwise: bright above
    predict([sample], tmp_path, output=str(tmp_path / "out"), overlay=True)
    with Image.open(tmp_path / "out" / "overlays" / "a.jpg") as written:
        pixels = np.asarray(written.convert("L"))
    assert pixels.shape == (50, 80)
    assert (pixels[:8, 40:].min() > 180, pixels[30:, 40:].max() < 20) == (True, True)


def test_mask_writer__two_inputs_of_one_name(tmp_path: Path) -> None:
    samples = frames(tmp_path / "in", ["x/a.png", "y/a.png"])
    with pytest.raises(DataError, match=r"x/a\.png and .*y/a\.png would both be written to .*a\.png"):
        predict(samples, tmp_path, output=str(tmp_path / "out"))
    with Image.open(tmp_path / "out" / "a.png") as written:
        np.testing.assert_array_equal(np.asarray(written), mask_of(0, samples[0]["size"]))


def test_mask_writer__same_input_twice_and_a_second_run_are_fine(tmp_path: Path) -> None:
    samples = frames(tmp_path / "in", ["a.png"])
    for _ in range(2):
        predict([*samples, *samples], tmp_path, output=str(tmp_path / "out"))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.png"]


def test_mask_writer__several_sets_have_folders(tmp_path: Path) -> None:
    first, second = frames(tmp_path / "one", ["a.png"]), frames(tmp_path / "two", ["a.png"])
    predict([first, second], tmp_path, output=str(tmp_path / "out"))
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in tmp_path.glob("out/*/*")) == ["0/a.png", "1/a.png"]


def test_mask_writer__says_which_images_give_an_alarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Known, "alarms", True)
    first, second = frames(tmp_path / "one", ["a.png", "b.png"]), frames(tmp_path / "two", ["a.png"])
    predict([first, second], tmp_path, output=str(tmp_path / "out"))
    written = (tmp_path / "out" / "alarms.csv").read_text()
    assert written == "mask,frame_score,alarm\n0/a.png,0.0,0\n0/b.png,0.1,1\n1/a.png,0.0,0\n"


def test_mask_writer__failed_write_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = frames(tmp_path / "in", ["a.png"])
    predict(samples, tmp_path, output=str(tmp_path / "out"))
    before = (tmp_path / "out" / "a.png").read_bytes()

    def full(self: Image.Image, path: Path, **options: Any) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="no space"):
        predict(samples, tmp_path, output=str(tmp_path / "out"))
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.png"]
    assert (tmp_path / "out" / "a.png").read_bytes() == before


def test_mask_writer__keeps_no_masks_in_memory(tmp_path: Path) -> None:
    few = predict(frames(tmp_path / "few", [f"{i}.png" for i in range(2)]), tmp_path)
    many = predict(frames(tmp_path / "many", [f"{i}.png" for i in range(8)]), tmp_path)
    held = {"few": few.alive - 2, "many": many.alive - 8}  # each frame's own image is held by its list
    assert held["many"] - held["few"] <= 6  # two batches of mask, image and view; keeping all would hold 6 × as many


def test_draw_contour__surrounds_the_mask_and_nothing_else() -> None:
    frame = np.full((60, 40, 3), 200, np.uint8)
    mask = mask_of(0, (60, 40))
    drawn = np.asarray(draw_contour(frame, mask))
    outline, rim = ((drawn == colour).all(-1) for colour in (CONTOUR, RIM))
    near, far = np.zeros((2, 60, 40), bool)
    for y, x in np.argwhere(mask > 0):
        near[y - 1 : y + 2, x - 1 : x + 2] = True
        far[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = True
    np.testing.assert_array_equal(outline, near & (mask == 0))
    np.testing.assert_array_equal(rim, far & ~near)
    assert (drawn[~outline & ~rim] == 200).all()
    assert (frame == 200).all()


def test_draw_contour__is_seen_in_grey_on_mucosa_of_its_own_lightness() -> None:
    """The outline's grey is that of the frame: without a rim nothing would be left of it."""
    grey = Image.new("RGB", (1, 1), CONTOUR).convert("L").getpixel((0, 0))
    frame = np.full((300, 300, 3), grey, np.uint8)
    mask = np.zeros((300, 300), np.uint8)
    mask[100:200, 100:200] = 255
    seen = np.asarray(draw_contour(frame, mask).convert("L")).astype(int)
    # From left to right: mucosa, the rim, the outline, the polyp.
    assert list(seen[150, [90, 95, 98, 110]]) == [grey, 0, grey, grey]


def test_draw_contour__sizes_that_differ() -> None:
    with pytest.raises(DataError, match=r"\(60, 40\) and its mask \(30, 40\)"):
        draw_contour(np.zeros((60, 40, 3), np.uint8), np.zeros((30, 40), np.uint8))
