"""Written videos, read back."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from small_videos import levels, picture, read_video

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.deploy.video import saving
from polyp_lightning.deploy.video.saving import VideoWriter
from polyp_lightning.deploy.video.upright import Colours


def write(path: Path, count: int, rate: Fraction, size: tuple[int, int] = (48, 64)) -> VideoWriter:
    with VideoWriter(path, rate) as writer:
        for index in range(count):
            writer.write(picture(index, *size), index / rate)
    return writer


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30000, 1001), Fraction(60)])
def test_video_writer__keeps_count_rate_and_duration(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    target = tmp_path / f"out{suffix}"
    writer = write(target, 30, rate)
    frames, facts = read_video(target)
    assert writer.encoder == "libx264"
    assert levels(frames) == [index % 20 for index in range(30)]
    assert float(facts["rate"]) == pytest.approx(float(rate), rel=1e-3)
    assert facts["seconds"] == pytest.approx(30 / float(rate), abs=1.1 / float(rate))
    assert (facts["codec"], facts["format"]) == ("h264", "yuv420p")
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_video_writer__falls_back_to_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "_ENCODERS", (("not-built-in", {}), *saving._ENCODERS[-1:]))
    writer = write(tmp_path / "old.mp4", 30, Fraction(30000, 1001))
    frames, facts = read_video(tmp_path / "old.mp4")
    assert (writer.encoder, facts["codec"], facts["format"]) == ("mpeg4", "mpeg4", "yuv420p")
    assert levels(frames) == [index % 20 for index in range(30)]
    assert facts["rate"] == Fraction(30000, 1001)


def test_video_writer__odd_sides_become_even(tmp_path: Path) -> None:
    write(tmp_path / "odd.mp4", 3, Fraction(25), size=(47, 63))
    frames, facts = read_video(tmp_path / "odd.mp4")
    assert facts["size"] == (48, 64)
    assert levels(frames) == [0, 1, 2]


def test_video_writer__a_gap_in_time_stays_a_gap(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "gap.mp4", Fraction(25)) as writer:
        for index in [0, 1, 2, 50, 51]:
            writer.write(picture(index), Fraction(index, 25))
    frames, facts = read_video(tmp_path / "gap.mp4")
    assert len(frames) == 5
    assert facts["seconds"] == pytest.approx(52 / 25, abs=0.05)


def test_video_writer__times_that_stand_still_or_run_back_are_written(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "still.mp4", Fraction(25)) as writer:
        for time in (0, 0, 2, 1, 3):
            writer.write(picture(time), Fraction(time, 25))
    assert len(read_video(tmp_path / "still.mp4")[0]) == 5


def test_video_writer__another_size_is_resized(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "sizes.mp4", Fraction(25)) as writer:
        writer.write(picture(0), Fraction(0))
        writer.write(picture(1, 96, 96), Fraction(1, 25))
    frames, _ = read_video(tmp_path / "sizes.mp4")
    assert levels(frames) == [0, 1]


def test_video_writer__an_error_leaves_a_playable_file(tmp_path: Path) -> None:
    def fail() -> None:
        with VideoWriter(tmp_path / "cut.mp4", Fraction(25)) as writer:
            for index in range(10):
                writer.write(picture(index), Fraction(index, 25))
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail()
    assert len(read_video(tmp_path / "cut.mp4")[0]) == 10
    assert len(list(tmp_path.iterdir())) == 1


def test_video_writer__without_a_frame_leaves_nothing(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "none.mp4", Fraction(25)):
        pass
    assert list(tmp_path.iterdir()) == []


def test_video_writer__a_failed_end_keeps_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "old.mp4"
    write(target, 3, Fraction(25))
    before = target.read_bytes()
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"), VideoWriter(target, Fraction(25), overwrite=True) as writer:
        writer.write(picture(5), Fraction(0))
    assert target.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_video_writer__colours_survive(tmp_path: Path) -> None:
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:] = (180, 60, 40)
    with VideoWriter(tmp_path / "red.mp4", Fraction(25)) as writer:
        writer.write(frame, Fraction(0))
    decoded = read_video(tmp_path / "red.mp4")[0][0]
    assert np.abs(decoded.astype(int) - frame.astype(int)).max() <= 4


@pytest.mark.parametrize(
    ("name", "message"),
    [("film.xyz", r"one of \.mp4"), ("film", r"one of \.mp4"), ("there.mp4", "exists already.*--overwrite")],
)
def test_video_writer__refuses(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "there.mp4").write_bytes(b"x")
    with pytest.raises(ConfigError, match=message):
        VideoWriter(tmp_path / name, Fraction(25))
    assert (tmp_path / "there.mp4").read_bytes() == b"x"


def test_video_writer__says_where_it_can_not_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(ConfigError, match=r"can't be written"),
        VideoWriter(tmp_path / "file" / "out.mp4", Fraction(25)) as writer,
    ):
        writer.write(picture(0), Fraction(0))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize(
    ("size", "tags", "shares"),
    [((720, 1280), (1, 1, 1), (0.2126, 0.0722)), ((576, 720), (6, 6, 6), (0.299, 0.114))],
)
def test_video_writer__colours_are_those_of_the_tags(
    tmp_path: Path, suffix: str, size: tuple[int, int], tags: tuple[int, ...], shares: tuple[float, float]
) -> None:
    colour = np.array([180, 60, 40])
    with VideoWriter(tmp_path / f"v{suffix}", Fraction(25)) as writer:
        writer.write(np.tile(colour.astype(np.uint8), (*size, 1)), Fraction(0))
    with av.open(str(tmp_path / f"v{suffix}")) as container:
        context: Any = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == tags
        assert context.color_range == 1
        planes = next(container.decode(video=0)).to_ndarray().ravel()
    # By the definition: brightness from the shares of red and blue, differences from it.
    red, blue = shares
    y = red * colour[0] + (1 - red - blue) * colour[1] + blue * colour[2]
    area = size[0] * size[1]
    assert planes[area // 2] == pytest.approx(16 + y * 219 / 255, abs=1.5)
    assert planes[area + area // 8] == pytest.approx(128 + (colour[2] - y) / (2 - 2 * blue) * 224 / 255, abs=1.5)
    assert planes[area + area * 3 // 8] == pytest.approx(128 + (colour[0] - y) / (2 - 2 * red) * 224 / 255, abs=1.5)


def test_video_writer__keeps_the_colours_of_the_source(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "v.mp4", Fraction(25)) as writer:
        writer.write(picture(0), Fraction(0), Colours(9, 9, 16))
    with av.open(str(tmp_path / "v.mp4")) as container:
        context: Any = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (9, 9, 16)
