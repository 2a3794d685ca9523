from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.reading import read_image, read_mask


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_read_image__is_lossless_rgb(tmp_path: Path, suffix: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 3)).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    tifffile.imwrite(path, pixels) if suffix == ".tif" else Image.fromarray(pixels).save(path)
    assert np.array_equal(read_image(path), pixels)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_read_image__repeats_grey(tmp_path: Path, suffix: str) -> None:
    pixels = np.arange(63, dtype=np.uint8).reshape(7, 9)
    path = tmp_path / f"a{suffix}"
    tifffile.imwrite(path, pixels) if suffix == ".tif" else Image.fromarray(pixels).save(path)
    assert np.array_equal(read_image(path), np.stack([pixels] * 3, axis=2))


def test_read__ignores_exif_rotation_in_both(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to view"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "m.png")
    assert read_image(tmp_path / "a.jpg").shape[:2] == read_mask(tmp_path / "m.png").shape == (20, 30)


def test_read_mask__threshold_is_above_127(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 126, 127, 128, 254, 255]], np.uint8)).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png").tolist() == [[0, 0, 0, 0, 1, 1, 1]]


def test_read_mask__jpeg_noise_vanishes(tmp_path: Path) -> None:
    disc = np.hypot(*(np.mgrid[:40, :50] - 20)) < 11
    Image.fromarray((disc * 255).astype(np.uint8)).save(tmp_path / "m.jpg", quality=60)
    stored = np.asarray(Image.open(tmp_path / "m.jpg"))
    assert len(np.unique(stored)) > 2, "the fixture must hold noise"
    assert np.mean(read_mask(tmp_path / "m.jpg") != disc) < 0.01


def test_read_mask__bilevel_tiff(tmp_path: Path) -> None:
    mask = np.eye(16, dtype=bool)
    tifffile.imwrite(tmp_path / "m.tif", mask)
    assert np.array_equal(read_mask(tmp_path / "m.tif"), mask)


def test_read_mask__of_ones_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 4), np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png is no brighter than 1.*Masks are 255"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_read_image__truncated_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"broken{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"cannot read .*broken{suffix}"):
        read_image(path)


@pytest.mark.parametrize("name", ["text.png", "text.tif"])
def test_read_image__no_image_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("this is no image")
    with pytest.raises(DataError, match=f"cannot read .*{name}"):
        read_image(tmp_path / name)


def test_read_image__sixteen_bits_are_refused(tmp_path: Path) -> None:
    deep = np.full((8, 8), 3000, np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    tifffile.imwrite(tmp_path / "deep.tif", deep)
    for name in ("deep.png", "deep.tif"):
        with pytest.raises(DataError, match=rf"{name} holds .*only 8-bit"):
            read_image(tmp_path / name)


@pytest.mark.data
def test_read__official_tiffs_equal_the_pngs(real_data: Path) -> None:
    tiffs, pngs = real_data / "CVC-ClinicDB-tif", real_data / "CVC-ClinicDB" / "PNG"
    names = sorted(path.stem for path in (tiffs / "Original").glob("*.tif"))
    assert len(names) == 8
    for name in names:
        for kind, read in (("Original", read_image), ("Ground Truth", read_mask)):
            assert np.array_equal(read(tiffs / kind / f"{name}.tif"), read(pngs / kind / f"{name}.png"))
            raw = tifffile.imread(tiffs / kind / f"{name}.tif")
            assert np.array_equal(raw, np.asarray(Image.open(pngs / kind / f"{name}.png")))
