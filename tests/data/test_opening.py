from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_files import DISC, MASK, RGB, SMOOTH, by_opencv, by_pillow, by_tifffile, change_tag, exif, turned
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.reading import read_image, read_mask

PLANES = np.moveaxis(RGB, 2, 0)
GREY = RGB[..., 0]
RGB_TIFFS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "contiguous": (RGB, {"photometric": "rgb"}),
    "strips": (RGB, {"photometric": "rgb", "rowsperstrip": 7}),
    "tiles": (RGB, {"photometric": "rgb", "tile": (16, 16)}),
    "planes": (PLANES, {"photometric": "rgb", "planarconfig": "separate"}),
    "planes in tiles": (PLANES, {"photometric": "rgb", "planarconfig": "separate", "tile": (16, 16)}),
    "planes deflated": (PLANES, {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}),
    "as ClinicDB's": (RGB, {"photometric": "minisblack", "planarconfig": "contig"}),
    "as ClinicDB's, planes": (PLANES, {"photometric": "minisblack", "planarconfig": "separate"}),
    "as ClinicDB's, deflated": (RGB, {"photometric": "minisblack", "planarconfig": "contig", "compression": "zlib"}),
    "big-endian": (RGB, {"photometric": "rgb", "byteorder": ">"}),
    "BigTIFF": (RGB, {"photometric": "rgb", "bigtiff": True}),
    "predictor": (RGB, {"photometric": "rgb", "compression": "zlib", "predictor": True}),
    "alpha": (np.dstack([RGB, MASK]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "extra samples": (np.dstack([RGB, MASK, MASK]), {"photometric": "rgb", "extrasamples": ["unspecified"] * 2}),
}


@pytest.mark.parametrize("kind", RGB_TIFFS)
def test_read_image__any_layout_of_tiff(tmp_path: Path, kind: str) -> None:
    pixels, options = RGB_TIFFS[kind]
    assert np.array_equal(read_image(by_tifffile(tmp_path / "a.tif", pixels, **options)), RGB)


@pytest.mark.parametrize("extra", ["unassalpha", "unspecified"])
def test_read_image__grey_tiff_with_another_sample(tmp_path: Path, extra: str) -> None:
    pixels = np.dstack([GREY, MASK])
    path = by_tifffile(
        tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig", extrasamples=[extra]
    )
    assert np.array_equal(read_image(path), np.dstack([GREY] * 3))


@pytest.mark.parametrize("way", ["tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "lzma", "zstd"])
def test_read_image__compressed_tiff(tmp_path: Path, way: str) -> None:
    assert np.array_equal(read_image(by_pillow(tmp_path / "a.tif", RGB, compression=way)), RGB)


def test_read_image__jpeg_in_tiff_has_the_colours_that_went_in(tmp_path: Path) -> None:
    path = by_pillow(tmp_path / "a.tif", SMOOTH, compression="jpeg", quality=95)
    assert np.abs(read_image(path).astype(int) - SMOOTH).max() <= 6


@pytest.mark.parametrize("way", ["group3", "group4", "tiff_ccitt"])
def test_read_mask__fax_compression(tmp_path: Path, way: str) -> None:
    assert np.array_equal(read_mask(by_pillow(tmp_path / "m.tif", DISC, compression=way)), DISC)


def test_read_image__missing_codec_is_named(tmp_path: Path) -> None:
    path = by_tifffile(tmp_path / "a.tif", RGB, photometric="rgb", compression="zlib")
    with pytest.raises(DataError, match=r"cannot read .*a\.tif: .*JPEG2000.*imagecodecs.*or save the file as PNG"):
        read_image(change_tag(path, 259, 34712))
    with pytest.raises(DataError, match=r"cannot read .*a\.tif: .*compression is webp"):
        read_image(change_tag(path, 259, 50001))


@pytest.mark.parametrize(
    ("suffix", "kind", "options"),
    [
        (".tif", "PNG", {}),
        (".jpg", "PNG", {}),
        (".png", "TIFF", {}),
        (".bmp", "TIFF", {"compression": "tiff_lzw"}),
        (".png", "BMP", {}),
        (".png", "WEBP", {"lossless": True}),
    ],
)
def test_read_image__content_decides_not_the_suffix(
    tmp_path: Path, suffix: str, kind: str, options: dict[str, Any]
) -> None:
    path = by_pillow(tmp_path / f"a{suffix}", RGB, format=kind, **options)
    assert np.array_equal(read_image(path), RGB)


def test_read_image__jpeg_called_png(tmp_path: Path) -> None:
    path = by_pillow(tmp_path / "a.png", SMOOTH, format="JPEG", quality=95)
    assert np.abs(read_image(path).astype(int) - SMOOTH).max() <= 6


TWELVE = GREY.astype(np.uint16) * 16
DEEP: dict[str, Callable[[Path], Path]] = {
    "grey PNG": lambda p: by_opencv(p / "a.png", TWELVE),
    "RGB PNG": lambda p: by_opencv(p / "a.png", RGB.astype(np.uint16) * 257),
    "RGBA PNG": lambda p: by_opencv(p / "a.png", np.dstack([RGB, MASK]).astype(np.uint16) * 257),
    "12 of 16 bits": lambda p: by_tifffile(p / "a.tif", RGB.astype(np.uint16) * 16, photometric="rgb"),
    "16 bits, deflated": lambda p: by_tifffile(
        p / "a.tif", RGB.astype(np.uint16) * 257, photometric="rgb", compression="zlib"
    ),
    "grey TIFF": lambda p: by_tifffile(p / "a.tif", TWELVE),
    "signed": lambda p: by_tifffile(p / "a.tif", TWELVE.astype(np.int16)),
    "32 bits": lambda p: by_tifffile(p / "a.tif", TWELVE.astype(np.uint32)),
    "floats": lambda p: by_tifffile(p / "a.tif", GREY.astype(np.float32) / 255),
}


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize("kind", DEEP)
def test_read__more_than_8_bits_are_refused(tmp_path: Path, kind: str, read: Callable[[Path], Any]) -> None:
    with pytest.raises(DataError, match=r"a\.(png|tif) holds more than 8 bits a channel.*only 8-bit images are read"):
        read(DEEP[kind](tmp_path))


def _frames(path: Path, kind: str) -> Path:
    rest = [Image.fromarray(RGB[::-1]), Image.fromarray(RGB[:, ::-1])]
    return by_pillow(path, RGB, format=kind, save_all=True, append_images=rest)


UNCLEAR: dict[str, tuple[Callable[[Path], Path], str]] = {
    "GIF": (lambda p: _frames(p / "a.png", "GIF"), "holds 3 pictures"),
    "WebP": (lambda p: _frames(p / "a.png", "WEBP"), "holds 3 pictures"),
    "animated PNG": (lambda p: _frames(p / "a.png", "PNG"), "holds 3 pictures"),
    "pages": (lambda p: _frames(p / "a.tif", "TIFF"), "holds 3 pictures"),
    "pages as ClinicDB's": (
        lambda p: by_tifffile(p / "a.tif", np.stack([RGB] * 2), photometric="minisblack", planarconfig="contig"),
        "holds 2 pictures",
    ),
    "CMYK JPEG": (lambda p: by_pillow(p / "a.jpg", Image.fromarray(RGB).convert("CMYK")), "holds CMYK pixels"),
    "CMYK TIFF": (lambda p: by_pillow(p / "a.tif", Image.fromarray(RGB).convert("CMYK")), "holds CMYK pixels"),
    "Lab": (lambda p: by_pillow(p / "a.tif", Image.fromarray(RGB).convert("LAB")), "holds LAB pixels"),
    "signed bytes": (lambda p: by_tifffile(p / "a.tif", GREY.view(np.int8)), "Only unsigned grey or RGB"),
    "no photometric": (
        lambda p: change_tag(by_tifffile(p / "a.tif", GREY, photometric="minisblack"), 262, 1, 65000),
        "not sure whether 0 is black or white",
    ),
    "tifffile's bool": (lambda p: by_tifffile(p / "a.tif", DISC), "not sure whether 0 is black or white"),
    "palette of bytes": (
        lambda p: by_tifffile(
            p / "a.tif", MASK, photometric="palette", colormap=np.tile(np.arange(256), (3, 1)).astype(np.uint16)
        ),
        "a palette of black only",
    ),
    "six samples": (
        lambda p: by_tifffile(
            p / "a.tif", np.dstack([RGB, RGB, GREY]), photometric="minisblack", planarconfig="contig"
        ),
        "holds MINISBLACK pixels",
    ),
}


@pytest.mark.parametrize("kind", UNCLEAR)
def test_read_image__what_may_mean_several_things_is_refused(tmp_path: Path, kind: str) -> None:
    make, message = UNCLEAR[kind]
    with pytest.raises(DataError, match=rf"a\.\w+ .*{message}"):
        read_image(make(tmp_path))


def test_read_image__first_of_a_camera_jpeg_with_previews(tmp_path: Path) -> None:
    preview = Image.fromarray(SMOOTH[::2, ::2])
    path = by_pillow(tmp_path / "a.jpg", SMOOTH, format="MPO", save_all=True, append_images=[preview], quality=95)
    assert np.abs(read_image(path).astype(int) - SMOOTH).max() <= 6


def test_read_image__colour_profile_is_ignored(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert np.array_equal(read_image(by_pillow(tmp_path / "a.png", RGB, icc_profile=profile)), RGB)


@pytest.mark.parametrize("kind", ["palette", "transparent palette", "alpha", "1 bit", "grey and alpha"])
def test_read_image__png_kinds(tmp_path: Path, kind: str) -> None:
    few = RGB // 128 * 255  # 8 colours
    quantised = Image.fromarray(few).quantize(8)
    path, wanted = tmp_path / "a.png", few
    if kind == "palette":
        by_pillow(path, quantised, bits=4)
    elif kind == "transparent palette":
        by_pillow(path, quantised, transparency=0)
    elif kind == "alpha":
        by_opencv(path, np.dstack([few, MASK]))
    elif kind == "1 bit":
        by_pillow(path, DISC)
        wanted = np.dstack([MASK] * 3)
    else:
        by_pillow(path, Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(MASK)]))
        wanted = np.dstack([GREY] * 3)
    assert np.array_equal(read_image(path), wanted)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", "-lzw.tif", "-clinicdb.tif"])
def test_read_image__stands_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == "-clinicdb.tif":
        tag = (274, 3, 1, orientation, True)
        by_tifffile(path, SMOOTH, photometric="minisblack", planarconfig="contig", extratags=[tag])
    else:
        by_pillow(
            path, SMOOTH, exif=exif(orientation), **{"compression": "tiff_lzw"} if "lzw" in suffix else {"quality": 95}
        )
    read, wanted = read_image(path), turned(SMOOTH, orientation)
    assert read.shape == wanted.shape
    assert np.abs(read.astype(int) - wanted).max() <= (6 if suffix == ".jpg" else 0)


def test_read_image__orientation_in_xmp(tmp_path: Path) -> None:
    text = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", text)
    assert np.array_equal(read_image(by_pillow(tmp_path / "a.png", RGB, pnginfo=info)), turned(RGB, 3))


def test_read_image__orientation_that_does_not_exist_means_upright(tmp_path: Path) -> None:
    assert np.array_equal(read_image(by_pillow(tmp_path / "a.png", RGB, exif=exif(9))), RGB)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["jpg", "png", "bmp", "tif", "lzw", "jpeg in tiff", "as ClinicDB's", "gif", "webp"])
def test_read_image__truncated_file_is_named(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "broken.tif"
    if kind == "as ClinicDB's":
        by_tifffile(path, RGB, photometric="minisblack", planarconfig="contig")
    elif kind in {"lzw", "jpeg in tiff"}:
        by_pillow(path, RGB, compression="tiff_lzw" if kind == "lzw" else "jpeg")
    else:
        by_pillow(path, RGB, format={"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=r"cannot read .*broken\.tif: .*intact copy"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_read_image__empty_file_is_called_so(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=rf"cannot read .*{name}: it is empty"):
        read_image(tmp_path / name)


def test_read_image__missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*gone\.tif: .*No such file"):
        read_image(tmp_path / "gone.tif")
