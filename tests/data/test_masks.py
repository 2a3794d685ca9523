from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_files import DISC, HEIGHT, MASK, WIDTH, by_opencv, by_pillow, by_tifffile
from PIL import Image

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.data.masks import parse_colours
from polyp_lightning.data.reading import read_mask

RED, GREEN, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0)
LEFT = DISC & (np.arange(WIDTH) < 30)  # one half of the disc, of another colour
RIGHT = DISC & ~LEFT
EDGE = DISC & (np.arange(WIDTH) < 22)
ZERO = np.zeros_like(MASK)
FULL = ZERO + 255


def painted(left: tuple[int, ...], right: tuple[int, ...], ground: tuple[int, ...] = BLACK) -> np.ndarray:
    pixels = np.empty((HEIGHT, WIDTH, len(left)), np.uint8)
    pixels[:] = ground
    pixels[LEFT], pixels[RIGHT] = left, right
    return pixels


def palette(colours: list[tuple[int, ...]]) -> Image.Image:
    """The index image 0 outside, 1 on the left half, 2 on the right one."""
    picture = Image.fromarray((LEFT + 2 * RIGHT).astype(np.uint8), "P")
    picture.putpalette([value for colour in colours for value in colour])
    return picture


def table(*colours: tuple[int, ...]) -> np.ndarray:
    """A TIFF's palette, whose values go to 65535."""
    found = np.zeros((3, 256), np.uint16)
    found[:, : len(colours)] = np.array(colours).T * 257
    return found


NEOPOLYP = painted(RED, GREEN)
INDEX = (LEFT + 2 * RIGHT).astype(np.uint8)
GREY_TIFF: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig"}
SHAPES: dict[str, Callable[[Path], Path]] = {
    "red and green PNG": lambda p: by_opencv(p / "m.png", NEOPOLYP),
    "red and green TIFF": lambda p: by_tifffile(p / "m.tif", NEOPOLYP, photometric="rgb"),
    "red and green BMP": lambda p: by_opencv(p / "m.bmp", NEOPOLYP),
    "blue and dark red": lambda p: by_opencv(p / "m.png", painted((0, 0, 255), (128, 0, 0))),
    "palette PNG": lambda p: by_pillow(p / "m.png", palette([BLACK, RED, GREEN])),
    "palette GIF": lambda p: by_pillow(p / "m.png", palette([BLACK, RED, GREEN]), format="GIF"),
    "palette TIFF": lambda p: by_tifffile(
        p / "m.tif", INDEX, photometric="palette", colormap=table(BLACK, RED, GREEN)
    ),
    "palette of 2 bits": lambda p: by_pillow(
        p / "m.png", palette([BLACK, WHITE, WHITE]), bits=2
    ),
    "grey": lambda p: by_opencv(p / "m.png", MASK),
    "1-bit PNG": lambda p: by_pillow(p / "m.png", DISC),
    "1-bit BMP": lambda p: by_pillow(p / "m.bmp", DISC),
    "1-bit TIFF": lambda p: by_tifffile(p / "m.tif", DISC, photometric="minisblack"),
    "white is zero": lambda p: by_tifffile(p / "m.tif", 255 - MASK, photometric="miniswhite"),
    "white is zero, 1 bit": lambda p: by_tifffile(p / "m.tif", ~DISC, photometric="miniswhite", software="x"),
    "white is zero, big-endian, deflated": lambda p: by_tifffile(
        p / "m.tif", 255 - MASK, photometric="miniswhite", byteorder=">", compression="zlib"
    ),
    "planes": lambda p: by_tifffile(
        p / "m.tif", np.stack([MASK, ZERO, ZERO]), photometric="rgb", planarconfig="separate"
    ),
    "grey TIFF with alpha": lambda p: by_tifffile(
        p / "m.tif", np.dstack([MASK, FULL]), **GREY_TIFF, extrasamples=["unassalpha"]
    ),
    "grey TIFF with a sample": lambda p: by_tifffile(p / "m.tif", np.dstack([MASK, FULL]), **GREY_TIFF),
    "grey TIFF, shape in alpha": lambda p: by_tifffile(
        p / "m.tif", np.dstack([FULL, MASK]), **GREY_TIFF, extrasamples=["unassalpha"]
    ),
    "shape in alpha, white": lambda p: by_opencv(p / "m.png", np.dstack([FULL, FULL, FULL, MASK])),
    "shape in alpha, black": lambda p: by_opencv(p / "m.png", np.dstack([ZERO, ZERO, ZERO, MASK])),
    "shape in alpha, TIFF": lambda p: by_tifffile(
        p / "m.tif", np.dstack([FULL, FULL, FULL, MASK]), photometric="rgb", extrasamples=["unassalpha"]
    ),
    "opaque everywhere": lambda p: by_opencv(p / "m.png", painted((*RED, 255), (*GREEN, 255), (*BLACK, 255))),
    "transparent everywhere": lambda p: by_opencv(p / "m.png", painted((*RED, 0), (*GREEN, 0), (*BLACK, 0))),
    "on transparent white": lambda p: by_opencv(p / "m.png", painted((*RED, 255), (*GREEN, 255), (*WHITE, 0))),
    "on transparent grey": lambda p: by_opencv(p / "m.png", painted((*RED, 255), (*GREEN, 255), (90, 90, 90, 0))),
    "black is transparent (tRNS)": lambda p: by_pillow(p / "m.png", MASK, transparency=0),
    "palette with tRNS": lambda p: by_pillow(p / "m.png", palette([WHITE, RED, GREEN]), transparency=0),
}  # fmt: skip


@pytest.mark.parametrize("kind", SHAPES)
def test_read_mask__finds_the_shape_whatever_stores_it(tmp_path: Path, kind: str) -> None:
    found = read_mask(SHAPES[kind](tmp_path))
    assert found.dtype == np.uint8
    assert np.array_equal(found, DISC)


EMPTY: dict[str, Callable[[Path], Path]] = {
    "black": lambda p: by_opencv(p / "m.png", ZERO),
    "black and opaque": lambda p: by_opencv(p / "m.png", np.dstack([ZERO, ZERO, ZERO, FULL])),
    "white and transparent": lambda p: by_opencv(p / "m.png", np.dstack([FULL, FULL, FULL, ZERO])),
    "white is zero": lambda p: by_tifffile(p / "m.tif", FULL, photometric="miniswhite"),
    "black JPEG": lambda p: by_pillow(p / "m.jpg", ZERO),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_read_mask__without_polyp(tmp_path: Path, kind: str) -> None:
    assert not read_mask(EMPTY[kind](tmp_path)).any()


def test_read_mask__threshold_is_above_127_of_the_brightest_channel(tmp_path: Path) -> None:
    steps = np.array([[0, 1, 126, 127, 128, 254, 255]], np.uint8)
    wanted = [[0, 0, 0, 0, 1, 1, 1]]
    assert read_mask(by_opencv(tmp_path / "m.png", steps)).tolist() == wanted
    assert read_mask(by_opencv(tmp_path / "blue.png", np.dstack([steps * 0, steps * 0, steps]))).tolist() == wanted
    assert read_mask(by_opencv(tmp_path / "alpha.png", np.dstack([steps * 0 + 255] * 3 + [steps]))).tolist() == wanted


@pytest.mark.parametrize("quality", [20, 60, 95])
@pytest.mark.parametrize("pixels", [MASK, NEOPOLYP], ids=["grey", "red and green"])
def test_read_mask__jpeg_noise_vanishes(tmp_path: Path, pixels: np.ndarray, quality: int) -> None:
    large = np.kron(pixels, np.ones((6, 6, 1) if pixels.ndim == 3 else (6, 6), np.uint8))
    path = by_pillow(tmp_path / "m.jpg", large, quality=quality)
    stored, shape = np.asarray(Image.open(path)), np.kron(DISC, np.ones((6, 6))) > 0
    assert len(np.unique(stored[~shape])) > 2, "there must be noise in the background"
    assert np.mean(read_mask(path) != shape) < 0.005
    # The same noise, kept by a lossless format, means the same.
    assert np.array_equal(read_mask(by_pillow(tmp_path / "m.png", stored)), read_mask(path))


def test_read_mask__soft_edges_are_halved(tmp_path: Path) -> None:
    large = np.kron(DISC, np.ones((4, 4))) * 255
    soft = large.reshape(HEIGHT * 2, 2, WIDTH * 2, 2).mean((1, 3))
    soft = (soft + np.roll(soft, 1, 0) + np.roll(soft, 1, 1) + np.roll(soft, (1, 1), (0, 1))) / 4
    assert set(np.unique(soft)) == {0, 63.75, 127.5, 191.25, 255}
    assert np.array_equal(read_mask(by_opencv(tmp_path / "m.png", soft.round().astype(np.uint8))), soft > 127)


DARK: dict[str, tuple[np.ndarray, str]] = {
    "ones": (DISC.astype(np.uint8), r"no brighter than 1, .*Masks are 255.*--data\.mask_colours='#010101'"),
    "labels": (INDEX, r"no brighter than 2, .*'#020202'"),
    "label beside 255": (np.where(EDGE, 255, DISC).astype(np.uint8), r"areas of a .*'#010101'"),
    "dark grey": (np.where(LEFT, 255, RIGHT * 100).astype(np.uint8), r"areas of a colour .*'#646464'"),
    "dark red": (painted((64, 0, 0), WHITE), r"areas of a colour that is neither black .* 127.*'#400000'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DARK)
def test_read_mask__areas_too_dark_to_count_are_refused(tmp_path: Path, kind: str) -> None:
    pixels, message = DARK[kind]
    with pytest.raises(DataError, match=rf"m\.png .*{message}"):
        read_mask(by_opencv(tmp_path / "m.png", pixels))


def test_read_mask__polyp_that_is_transparent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not black in the mask .*m\.png is transparent.*without alpha"):
        read_mask(by_pillow(tmp_path / "m.png", MASK, transparency=255))


def test_read_mask__shape_in_a_sample_without_a_name_is_refused(tmp_path: Path) -> None:
    path = by_tifffile(tmp_path / "m.tif", np.dstack([FULL, MASK]), **GREY_TIFF)
    with pytest.raises(DataError, match=r"m\.tif is of one colour, with another sample"):
        read_mask(path)


def read(path: Path, colours: str) -> np.ndarray:
    return read_mask(path, parse_colours(colours))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
@pytest.mark.parametrize(
    ("colours", "wanted"),
    [
        ("any", DISC), ("red", LEFT), ("#00ff00", RIGHT), ("green", RIGHT), ("red, lime", DISC), ("blue", 0 * DISC),
        ("white", 0 * DISC), ("black", ~DISC), ("yellow", 0 * DISC),
    ],
)  # fmt: skip
def test_read_mask__colours_that_count(tmp_path: Path, suffix: str, colours: str, wanted: np.ndarray) -> None:
    assert np.array_equal(read(by_pillow(tmp_path / f"m{suffix}", NEOPOLYP), colours), wanted)


def test_read_mask__colours_survive_jpeg(tmp_path: Path) -> None:
    path = by_pillow(tmp_path / "m.jpg", np.kron(NEOPOLYP, np.ones((6, 6, 1), np.uint8)), quality=75)
    for colours, shape in (("red", LEFT), ("lime", RIGHT)):
        assert np.mean(read(path, colours) != np.kron(shape, np.ones((6, 6)))) < 0.01


def test_read_mask__labels_that_count(tmp_path: Path) -> None:
    path = by_opencv(tmp_path / "m.png", INDEX)
    assert np.array_equal(read(path, "#010101"), LEFT)
    assert np.array_equal(read(path, "#020202"), RIGHT)
    assert np.array_equal(read(path, "#010101,#020202"), DISC)
    assert np.array_equal(read(by_opencv(tmp_path / "m.png", painted((64, 0, 0), WHITE)), "#400000"), LEFT)


def test_read_mask__labels_in_a_lossy_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be met exactly, but the mask .*m\.jpg is a JPEG"):
        read(by_pillow(tmp_path / "m.jpg", INDEX), "#010101")


def test_read_mask__colours_of_transparent_pixels_do_not_count(tmp_path: Path) -> None:
    path = by_opencv(tmp_path / "m.png", painted((*RED, 255), (*RED, 0), (*WHITE, 0)))
    assert np.array_equal(read(path, "red"), LEFT)


@pytest.mark.parametrize("text", ["", "reed", "red,", "#12", "1"])
def test_parse_colours__no_colour(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"--data\.mask_colours={text} holds no colour.*any: all"):
        parse_colours(text)


@pytest.mark.data
@pytest.mark.parametrize(
    ("folder", "count"), [("Kvasir-SEG/masks", 1000), ("CVC-ClinicDB/PNG/Ground Truth", 612), ("PolypGen/masks", 1254)]
)
def test_read_mask__published_masks_mean_what_lies_above_half(real_data: Path, folder: str, count: int) -> None:
    paths = list((real_data / folder).iterdir())
    assert len(paths) == count
    for path in paths:
        assert np.array_equal(read_mask(path), np.asarray(Image.open(path).convert("L")) > 127), path
