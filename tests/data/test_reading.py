from pathlib import Path

import numpy as np
import pytest
import tifffile
from odd_files import MASK, SMOOTH, by_pillow, exif, turned
from PIL import Image

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.reading import read_image, read_mask, read_pair


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


@pytest.mark.parametrize("name", ["text.png", "text.tif"])
def test_read_image__no_image_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("this is no image")
    with pytest.raises(DataError, match=f"cannot read .*{name}"):
        read_image(tmp_path / name)


def _pair(folder: Path, image: int, mask: int, mask_pixels: np.ndarray = MASK) -> tuple[Path, Path]:
    """Writes an image and its mask with these orientation tags; 0 for none."""
    tags = [{"exif": exif(number)} if number else {} for number in (image, mask)]
    return by_pillow(folder / "a.jpg", SMOOTH, **tags[0]), by_pillow(folder / "m.png", mask_pixels, **tags[1])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_read_pair__both_are_turned_by_the_same_tag(tmp_path: Path, orientation: int) -> None:
    pixels, mask = read_pair(*_pair(tmp_path, orientation, orientation))
    assert mask is not None
    assert np.array_equal(mask > 0, turned(MASK, orientation) > 0)
    assert pixels.shape[:2] == mask.shape


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_read_pair__mask_drawn_on_the_image_as_a_viewer_turns_it_by_a_quarter(tmp_path: Path, orientation: int) -> None:
    upright = np.ascontiguousarray(turned(MASK, orientation))
    pixels, mask = read_pair(*_pair(tmp_path, orientation, 0, upright))
    assert mask is not None
    assert np.array_equal(mask > 0, upright > 0)
    assert np.array_equal(pixels, read_image(tmp_path / "a.jpg"))


@pytest.mark.parametrize(("image", "mask"), [(2, 0), (3, 0), (4, 1), (6, 0), (0, 3), (3, 2), (8, 6)])
def test_read_pair__tags_that_disagree_are_refused(tmp_path: Path, image: int, mask: int) -> None:
    message = rf"orientation tag \(EXIF\) of .*a\.jpg is {image or 1} and that of its mask .*m\.png is {mask or 1}"
    with pytest.raises(DataError, match=message):
        read_pair(*_pair(tmp_path, image, mask))


def test_read_pair__square_image_turned_by_a_quarter_is_refused(tmp_path: Path) -> None:
    image = by_pillow(tmp_path / "a.jpg", SMOOTH[:, :40], exif=exif(6))
    with pytest.raises(DataError, match="orientation tag"):
        read_pair(image, by_pillow(tmp_path / "m.png", MASK[:, :40]))


def test_read_pair__sizes_that_differ(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a\.jpg is 52×40 pixels .* its mask .*m\.png is 51×40. Both must have one size"
    ):
        read_pair(*_pair(tmp_path, 0, 0, MASK[:, :51]))


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
