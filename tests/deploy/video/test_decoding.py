"""Frames out of real files."""

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_videos import levels, picture, write_video

from polyp_lightning.deploy.video.decoding import open_source


def all_levels(name: Path) -> tuple[list[int], int]:
    source = open_source(str(name))
    try:
        return levels([shot.pixels for shot in source]), source.broken
    finally:
        source.close()


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001)])
def test_video__yields_every_frame_at_its_time(tmp_path: Path, rate: Fraction) -> None:
    source = open_source(str(write_video(tmp_path / "v.mp4", 30, rate)))
    shots = list(source)
    assert levels([shot.pixels for shot in shots]) == [index % 20 for index in range(30)]
    assert [float(shot.time) for shot in shots] == pytest.approx([index / float(rate) for index in range(30)], abs=1e-3)
    assert float(source.rate) == pytest.approx(float(rate), rel=1e-3)
    assert (source.live, source.broken) == (False, 0)


def test_video__pixels_are_rgb(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "v.mp4", 2)))
    shot = next(iter(source))
    assert np.abs(shot.pixels.astype(int) - picture(0)).max() < 12
    assert shot.pixels.dtype == np.uint8


def test_video__broken_packets_are_counted_and_passed_over(tmp_path: Path) -> None:
    # MJPEG: every frame stands alone, so that a damaged one spoils no other.
    path = write_video(tmp_path / "v.avi", 20, codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data) - 3) if data[i : i + 3] == b"\xff\xd8\xff"]
    assert len(starts) >= 20
    for start, following in itertools.pairwise(starts[5:9]):
        # Frames are smaller where one core encodes; the next one's header stays.
        size = min(600, following - start - 16)
        data[start : start + size] = bytes(size)
    path.write_bytes(data)
    found, broken = all_levels(path)
    assert broken == 3
    assert [number for number in range(20) if number not in (5, 6, 7)] == found


def test_video__cut_short_ends_early_and_says_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", 40, options={"movflags": "+faststart"})
    path.write_bytes(path.read_bytes()[:-400])
    found, broken = all_levels(path)
    assert 0 < len(found) < 40
    assert broken > 0
    assert found == [index % 20 for index in range(len(found))]


def test_folder__yields_images_in_order_and_counts_broken_ones(tmp_path: Path) -> None:
    for index in range(5):
        Image.fromarray(picture(index)).save(tmp_path / f"{index}.png")
    (tmp_path / "2.png").write_bytes(b"no image")
    source = open_source(str(tmp_path))
    shots = list(source)
    assert levels([shot.pixels for shot in shots]) == [0, 1, 3, 4]
    assert [shot.time for shot in shots] == [Fraction(index, 25) for index in (0, 1, 3, 4)]
    assert source.broken == 1


def test_folder__frames_are_in_natural_order_and_what_is_passed_over_is_named(tmp_path: Path) -> None:
    for index in range(12):
        Image.fromarray(picture(index)).save(tmp_path / f"frame {index}.png")
    (tmp_path / "._frame 3.png").write_bytes(b"what macOS keeps beside a file")
    with pytest.warns(UserWarning, match=r"passed over \._frame 3\.png\."):
        found, broken = all_levels(tmp_path)
    assert (found, broken) == (list(range(12)), 0)
