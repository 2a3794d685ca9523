"""Videos as recorders write them. Right values: by hand, and by the matrices of BT.601, BT.709 and BT.2020."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from odd_videos import corners, seen_corners, set_matrix, write_frames
from small_videos import read_video

from polyp_lightning.deploy.video.decoding import Frame, open_source

ONE = 1 << 16
# Red and blue above, black below; what a player shows after each of the eight ways to turn and mirror it.
TURNS = {
    "none": ((ONE, 0, 0, ONE), "rb--"),
    "right": ((0, ONE, -ONE, 0), "-r-b"),
    "half": ((-ONE, 0, 0, -ONE), "--br"),
    "left": ((0, -ONE, ONE, 0), "b-r-"),
    "left to right": ((-ONE, 0, 0, ONE), "br--"),
    "upside down": ((ONE, 0, 0, -ONE), "--rb"),
    "main diagonal": ((0, ONE, ONE, 0), "r-b-"),
    "other diagonal": ((0, -ONE, -ONE, 0), "-b-r"),
}


def read(path: Path) -> tuple[list[Frame], list[str]]:
    source = open_source(str(path))
    frames = list(source)
    return frames, source.notes


@pytest.mark.parametrize("turn", TURNS)
def test_video__is_turned_as_its_header_says(tmp_path: Path, turn: str) -> None:
    path = write_frames(tmp_path / "v.mp4", [corners(48, 64)] * 3)
    (a, b, c, d), expected = TURNS[turn]
    set_matrix(path, (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    frames, notes = read(path)
    assert [seen_corners(frame.pixels) for frame in frames] == [expected] * 3
    assert frames[0].pixels.shape == ((64, 48, 3) if b else (48, 64, 3))
    assert frames[0].pixels.flags.c_contiguous
    assert frames[0].pixels.flags.writeable
    assert notes == ([] if turn == "none" else ["turned or mirrored as the header says"])


@pytest.mark.parametrize(("degrees", "expected"), [(-90, "-r-b"), (180, "--br")])
def test_video__agrees_with_the_rotation_that_pyav_writes(tmp_path: Path, degrees: int, expected: str) -> None:
    path = write_frames(
        tmp_path / "v.mkv", [corners()] * 3, prepare=lambda stream: stream.set_display_rotation(degrees)
    )
    assert seen_corners(read(path)[0][0].pixels) == expected


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
@pytest.mark.parametrize(
    ("aspect", "shape"),
    [(Fraction(16, 15), (96, 128, 3)), (Fraction(3, 4), (128, 120, 3)), (Fraction(2), (96, 240, 3))],
)
def test_video__pixels_become_square(tmp_path: Path, suffix: str, aspect: Fraction, shape: tuple[int, ...]) -> None:
    def squeeze(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = aspect

    frames, notes = read(write_frames(tmp_path / f"v{suffix}", [corners(96, 120)] * 20, prepare=squeeze))
    assert {frame.pixels.shape for frame in frames} == {shape}
    assert seen_corners(frames[0].pixels) == "rb--"
    assert notes == [f"pixels {float(aspect):.3g} times as wide as high: made square"]


def test_video__unbelievable_pixels_are_taken_as_square_and_told(tmp_path: Path) -> None:
    def squeeze(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(5)

    frames, notes = read(write_frames(tmp_path / "v.mkv", [corners()] * 3, prepare=squeeze))
    assert frames[0].pixels.shape == (48, 64, 3)
    assert notes == ["pixels 5 times as wide as high are not believed, and taken as square"]


def woven(index: int) -> NDArray[np.uint8]:
    """Two fields of a bar that moves 4 pixels from one to the next, woven: the lower rows come first, as is written."""
    fields = []
    for number in (2 * index, 2 * index + 1):
        field = np.full((96, 128, 3), 60, np.uint8)
        field[:, 4 * number : 4 * number + 16] = 220
        fields.append(field)
    fields[1][1::2] = fields[0][1::2]
    return fields[1]


def comb(pixels: NDArray[np.uint8]) -> float:
    """How much rows differ from the mean of their neighbours."""
    rows = pixels[..., 1].astype(float)
    return float(np.abs(rows[1:-1] - (rows[:-2] + rows[2:]) / 2).mean())


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("v.mkv", "libx264", {"x264-params": "tff=1:crf=5"}),
        ("v.ts", "libx264", {"x264-params": "tff=1:crf=5"}),
        ("v.mpg", "mpeg2video", {"flags": "+ildct+ilme", "b": "8000000"}),
    ],
)
def test_video__interlaced_fields_don_t_comb(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    path = write_frames(tmp_path / name, [woven(index) for index in range(12)], codec, options=options)
    frames, notes = read(path)
    assert notes == ["interlaced: deinterlaced by FFmpeg's bwdif"]
    assert [float(frame.time) for frame in frames] == pytest.approx([index / 25 for index in range(12)], abs=1e-3)
    # 10 before. The first frame has no field before it.
    assert min(comb(frame) for frame in read_video(path)[0]) > 9
    assert max(comb(frame.pixels) for frame in frames[1:]) < 0.1
    # The bar is where the first field has it.
    assert [int(np.argmax(frame.pixels[48, :, 1] > 150)) for frame in frames[1:]] == [8 * n for n in range(1, 12)]


def test_video__progressive_frames_are_left_alone(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "v.mkv", [woven(index) for index in range(6)])
    frames, notes = read(path)
    assert notes == []
    assert np.array_equal(frames[3].pixels, read_video(path)[0][3])


SHARES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def as_rgb(planes: Sequence[float], matrix: int, full: bool) -> NDArray[np.float64]:
    """RGB of a YUV sample by the definition of its matrix: shares of red and blue in the brightness."""
    red, blue = SHARES[matrix]
    y, u, v = planes[0] if full else (planes[0] - 16) * 255 / 219, planes[1] - 128, planes[2] - 128
    u, v = (u, v) if full else (u * 255 / 224, v * 255 / 224)
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    return np.array([r, (y - red * r - blue * b) / (1 - red - blue), b])


@pytest.mark.parametrize(
    ("tag", "full", "height", "matrix"),
    [(1, 1, 96, 1), (6, 1, 96, 6), (5, 1, 720, 5), (9, 1, 96, 9), (1, 2, 96, 1), (2, 1, 96, 6), (2, 1, 720, 1)],
)
def test_video__colours_are_those_of_its_tags_or_its_size(
    tmp_path: Path, tag: int, full: int, height: int, matrix: int
) -> None:
    width, path, planes = height * 4 // 3, tmp_path / "v.mp4", (100, 90, 180)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = tag, full
        size = height * width
        data = np.repeat(np.array(planes, np.uint8), [size, size // 4, size // 4]).reshape(height * 3 // 2, width)
        frame: Any = av.VideoFrame.from_ndarray(data, format="yuv420p")
        frame.colorspace, frame.color_range = tag, full
        container.mux([*stream.encode(frame), *stream.encode()])
    (first,), _ = read(path)
    assert np.abs(first.pixels[height // 2, width // 2] - as_rgb(planes, matrix, full == 2)).max() < 3
