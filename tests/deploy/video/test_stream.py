"""Streams end to end: real videos, a real model, and runners that are slow on purpose."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from odd_videos import write_frames
from PIL import Image
from small_models import Exported
from small_videos import levels, picture, read_frames, read_video, write_video

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.deploy.bundle import Bundle, read_bundle
from polyp_lightning.deploy.video import pipeline
from polyp_lightning.deploy.video import stream as module
from polyp_lightning.deploy.video.decoding import Frame
from polyp_lightning.deploy.video.overlay import CONTOUR
from polyp_lightning.deploy.video.pipeline import StreamOptions, StreamReport, average
from polyp_lightning.deploy.video.saving import VideoWriter
from polyp_lightning.deploy.video.stream import stream


def quiet(options: StreamOptions) -> StreamReport:
    return stream(options, lambda _: None)


@pytest.fixture
def model(exported: Exported) -> Path:
    return exported("onnx")


class Bright:
    """A network that finds polyps where a frame is white, after a while."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.seen: list[NDArray[np.uint8]] = []

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(self.seconds)
        self.seen.append(frames)
        return (frames[:, None, :, :, 0] > 250).astype(np.float32)


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> Bright:
    runner = Bright()
    monkeypatch.setattr(module, "load_model", lambda *_: runner)
    return runner


@pytest.mark.parametrize("backend", [None, "openvino"])
def test_stream__segments_every_frame_of_a_file(model: Path, tmp_path: Path, backend: str | None) -> None:
    source = write_video(tmp_path / "in.mp4", 30, Fraction(30000, 1001))
    report = quiet(StreamOptions(model, str(source), output=tmp_path / "out.mp4", backend=backend))
    frames, facts = read_video(tmp_path / "out.mp4")
    assert (report.frames, report.dropped, report.broken, len(frames)) == (30, 0, 0, 30)
    assert facts["rate"] == Fraction(30000, 1001)
    assert facts["seconds"] == pytest.approx(30 * 1001 / 30000, abs=0.04)
    assert report.encoder == "libx264"
    assert len(report.network) == 30


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_stream__a_folder_of_images_becomes_a_video(model: Path, tmp_path: Path, bright: Bright, suffix: str) -> None:
    (tmp_path / "in").mkdir()
    for index in range(3):
        Image.fromarray(np.full((64, 96, 3), 255, np.uint8)).save(tmp_path / "in" / f"{index}{suffix}")
    report = quiet(StreamOptions(model, str(tmp_path / "in"), output=tmp_path / "out.mp4"))
    assert (report.frames, report.polyps, report.broken) == (3, 3, 0)
    assert len(read_video(tmp_path / "out.mp4")[0]) == 3


def test_stream__draws_the_contour_where_the_network_says(model: Path, tmp_path: Path, bright: Bright) -> None:
    source = write_video(tmp_path / "in.mp4", 5, size=(144, 192))
    report = quiet(StreamOptions(model, str(source), output=tmp_path / "out.mp4", alarm_frames=1, alarm_window=1))
    before, after = read_video(source)[0], read_video(tmp_path / "out.mp4")[0]
    assert report.polyps == 5
    changed = np.abs(after[2].astype(int) - before[2].astype(int)).sum(2) > 60
    # The white stripe is 8 pixels wide; its right border is drawn, the rest of the lower half is left alone.
    assert changed[72:, 2:12].any(1).all()
    assert not changed[72:, 16:].any()
    drawn = after[2][100, 5:10].astype(int)
    assert (np.abs(drawn - CONTOUR).sum(1) < 200).any()
    # The network sees the frame before anything is drawn on it.
    assert levels([bright.seen[3][0]]) == [2]


def test_stream__a_contour_waits_for_an_alarm_that_lasts(model: Path, tmp_path: Path, bright: Bright) -> None:
    source = write_video(tmp_path / "in.mp4", 6, size=(144, 192))
    lines: list[str] = []
    options = StreamOptions(model, str(source), output=tmp_path / "out.mp4", alarm_frames=3, alarm_window=4)
    stream(options, lines.append)
    before, after = read_video(source)[0], read_video(tmp_path / "out.mp4")[0]
    outlined = [
        bool((np.abs(b[120:, 4:12].astype(int) - a[120:, 4:12]).sum(2) > 60).any())
        for a, b in zip(before, after, strict=True)
    ]
    assert outlined == [False, False, True, True, True, True]
    # The last of 6 frames is shown at 0.2 s.
    assert "6 with a polyp, alarms that last 3 of 4 frames: 1, 300.0 a minute (of single frames 300.0)" in lines[0]


def test_stream__the_alarm_threshold_is_the_sidecars(model: Path, tmp_path: Path, bright: Bright) -> None:
    source = write_video(tmp_path / "in.mp4", 2)
    whole = read_bundle(model)
    counts = []
    for threshold in (0.99, 1.0):
        write = Bundle(whole.path, {**whole.facts, "alarm_threshold": threshold})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "read_bundle", lambda _, bundle=write: bundle)
            counts.append(quiet(StreamOptions(model, str(source))).polyps)
    assert counts == [2, 0]


def test_stream__frames_reach_the_network_resized_as_in_training(model: Path, tmp_path: Path, bright: Bright) -> None:
    from polyp_lightning.data.cache import resize

    source = write_video(tmp_path / "in.mp4", 3, size=(96, 128))
    quiet(StreamOptions(model, str(source)))
    decoded = read_video(source)[0]
    # The first call warms up.
    assert all(np.array_equal(seen[0], resize(frame, 64)) for seen, frame in zip(bright.seen[1:], decoded, strict=True))


class Paced:
    """A live source: frames come at their own pace."""

    rate, live, broken, notes = Fraction(200), True, 0, ()

    def __init__(self, count: int, seconds: float, live: bool = True) -> None:
        self.count, self.seconds, self.live = count, seconds, live
        self.closed = False

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.count):
            time.sleep(self.seconds)
            yield Frame(picture(index), index / self.rate)

    def close(self) -> None:
        self.closed = True


def test_stream__a_live_source_is_not_lagged_behind(
    model: Path, bright: Bright, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Paced(60, 0.005)
    monkeypatch.setattr(module, "open_source", lambda *_: source)
    bright.seconds = 0.02
    report = quiet(StreamOptions(model, "camera"))
    assert report.frames + report.dropped == 60
    assert 20 < report.dropped < 55
    # No slower than the source by more than the last frames.
    assert report.seconds < 60 * 0.02 * 0.75
    assert levels([bright.seen[-1][0]]) == [19]
    assert source.closed


def test_stream__overlaps_its_three_parts(model: Path, bright: Bright, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_source", lambda *_: Paced(30, 0.02, live=False))
    monkeypatch.setattr(pipeline, "find_polyp", lambda *_: time.sleep(0.02) or pipeline.Finding(False, 1.0))
    bright.seconds = 0.02
    report = quiet(StreamOptions(model, "film"))
    assert report.frames == 30
    # One after the other they would take 1.8 s.
    assert report.seconds < 1.2


class Broadcast(BaseHTTPRequestHandler):
    """Two seconds of MPEG-TS that come as slowly as they last."""

    film: Path

    def do_GET(self) -> None:
        content = self.film.read_bytes()
        self.send_response(200)
        self.end_headers()
        for part in np.array_split(np.frombuffer(content, np.uint8), 50):
            self.wfile.write(part.tobytes())
            time.sleep(0.04)

    def log_message(self, *_: object) -> None:
        pass


def test_stream__a_broadcast_over_http(model: Path, tmp_path: Path, bright: Bright) -> None:
    Broadcast.film = write_video(tmp_path / "film.ts", 50)
    with HTTPServer(("127.0.0.1", 0), Broadcast) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/live.ts"
        report = quiet(StreamOptions(model, address, output=tmp_path / "out.mp4"))
        thread.join()
    # A recording: it is waited for.
    assert (report.frames, report.dropped, report.broken) == (50, 0, 0)
    frames, _ = read_video(tmp_path / "out.mp4")
    assert levels(frames) == [index % 20 for index in range(50)]


@pytest.mark.skipif(sys.platform != "linux", reason="cores can't be chosen")
def test_stream__keeps_the_network_apart_and_gives_the_cores_back(
    model: Path, tmp_path: Path, bright: Bright, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.sched_getaffinity(0)
    own, others = {min(before)}, {max(before)}
    monkeypatch.setattr(pipeline, "divide_cores", lambda _: (own, others))
    seen: dict[str, set[int]] = {}
    network, drawing = Bright.__call__, pipeline.draw_finding
    monkeypatch.setattr(Bright, "__call__", lambda *a: seen.update(network=os.sched_getaffinity(0)) or network(*a))
    monkeypatch.setattr(
        pipeline, "draw_finding", lambda *a: seen.update(drawing=os.sched_getaffinity(0)) or drawing(*a)
    )
    quiet(StreamOptions(model, str(write_video(tmp_path / "in.mp4", 5)), output=tmp_path / "out.mp4"))
    assert seen == {"network": own, "drawing": others}
    assert os.sched_getaffinity(0) == before


def test_stream__smoothing_is_an_average_of_past_and_present(
    model: Path, tmp_path: Path, bright: Bright, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps: list[NDArray[np.float32]] = []
    real = pipeline.find_polyp
    monkeypatch.setattr(
        pipeline, "find_polyp", lambda probability, threshold: maps.append(probability) or real(probability, threshold)
    )
    monkeypatch.setattr(bright, "__class__", Alternating)
    quiet(StreamOptions(model, str(write_video(tmp_path / "in.mp4", 4)), smooth=0.75))
    # The warm-up call took the first 0: frames are 1, 0, 1, 0.
    expected = [1.0]
    for now in (0.0, 1.0, 0.0):
        expected.append(0.75 * expected[-1] + 0.25 * now)
    assert [float(one.max()) for one in maps] == pytest.approx(expected)


class Alternating(Bright):
    """Nothing and everything in turn."""

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen.append(frames)
        return np.full((1, 1, 64, 64), (len(self.seen) - 1) % 2, np.float32)


def test_average__by_hand() -> None:
    past, now = np.full((2, 2), 0.8, np.float32), np.full((2, 2), 0.2, np.float32)
    assert average(past, now, 0.25) == pytest.approx(np.full((2, 2), 0.35))


def test_stream__an_error_of_the_network_ends_it_and_keeps_what_is_written(
    model: Path, tmp_path: Path, bright: Bright, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bright, "__class__", Failing)
    source = write_video(tmp_path / "in.mp4", 30)
    with pytest.raises(RuntimeError, match="out of memory"):
        quiet(StreamOptions(model, str(source), output=tmp_path / "out.mp4"))
    assert 1 <= len(read_video(tmp_path / "out.mp4")[0]) <= 10


class Failing(Bright):
    """Works ten times."""

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        if len(self.seen) == 10:
            raise RuntimeError("out of memory")
        return super().__call__(frames)


def writing(model: Path, source: Path, target: Path) -> "subprocess.Popen[bytes]":
    """A stream in a process of its own that has begun to write."""
    command = [sys.executable, "-m", "polyp_lightning", "stream", "--model", str(model), "--source", str(source)]
    process = subprocess.Popen([*command, "--save", str(target)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size for path in target.parent.glob(f".{target.stem}.*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_stream__after_a_kill_the_next_one_says_what_was_left(model: Path, tmp_path: Path, suffix: str) -> None:
    source, target = write_video(tmp_path / "in.mp4", 4000), tmp_path / f"out{suffix}"
    process = writing(model, source, target)
    process.kill()
    process.communicate(timeout=30)
    (left,) = tmp_path.glob(".out.*")
    short, said = write_video(tmp_path / "short.mp4", 3), list[str]()
    stream(StreamOptions(model, str(short), output=target), said.append)
    assert said[0].startswith(f"{left} is of an earlier stream that was killed")
    assert len(read_video(target)[0]) == 3
    assert left.exists() == (suffix == ".mkv")
    if left.exists():
        assert len(read_frames(left)) > 0


def test_video_writer__leaves_alone_what_another_process_writes(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", Fraction(25))
    files = [tmp_path / f".out.{number}.mp4" for number in (os.getpid(), os.getppid(), "notes")]
    for path in files:
        path.touch()
    assert writer.clear_leftovers() == []
    assert all(path.exists() for path in files)


def test_stream__a_termination_finishes_the_file(model: Path, tmp_path: Path) -> None:
    source, target = write_video(tmp_path / "in.mp4", 4000), tmp_path / "out.mp4"
    process = writing(model, source, target)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143, errors
    assert 0 < len(read_video(target)[0]) < 4000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mp4", "out.mp4"]


@pytest.mark.parametrize("smooth", [-0.1, 1.0])
def test_stream__refuses_a_weight(model: Path, smooth: float) -> None:
    with pytest.raises(ConfigError, match=r"--smooth .* in \[0, 1\)"):
        quiet(StreamOptions(model, "film.mp4", smooth=smooth))


@pytest.mark.parametrize("way", ["itself", "a link", "a hard link", "a file address"])
def test_stream__refuses_to_save_onto_its_source(model: Path, tmp_path: Path, way: str) -> None:
    source = write_video(tmp_path / "in.mp4", 3)
    before, target = source.read_bytes(), tmp_path / "other.mp4"
    if way == "a link":
        target.symlink_to(source)
    elif way == "a hard link":
        target.hardlink_to(source)
    else:
        target = tmp_path / "nowhere" / ".." / "in.mp4"
        target.parent.parent.mkdir()
    name = source.as_uri() if way == "a file address" else str(source)
    with pytest.raises(ConfigError, match=r"--output .* is the --source itself, which would be lost"):
        quiet(StreamOptions(model, name, output=target, overwrite=True))
    assert source.read_bytes() == before


def test_stream__a_turned_and_squeezed_video_is_segmented_and_saved_upright(
    model: Path, tmp_path: Path, bright: Bright
) -> None:
    def squeeze(video: Any) -> None:
        video.codec_context.sample_aspect_ratio = Fraction(2)
        video.set_display_rotation(-90)

    # White on its left: turned by 90 degrees to the right, above.
    frame = np.full((96, 64, 3), 60, np.uint8)
    frame[:, :16] = 255
    source = write_frames(tmp_path / "in.mov", [frame] * 3, prepare=squeeze)
    report = quiet(StreamOptions(model, str(source), output=tmp_path / "out.mp4"))
    frames, facts = read_video(tmp_path / "out.mp4")
    assert facts["size"] == (128, 96)
    saved, seen = frames[1].astype(int), bright.seen[2][0].astype(int)
    assert saved[24, 8:-8].min() > 230
    assert saved[64:, :, 0].max() < 80
    # The network has seen the upper quarter in white: 16 of 64 rows.
    assert seen[:15].min() > 230
    assert seen[17:].max() < 80
    assert report.notes == ["pixels 2 times as wide as high: made square", "turned or mirrored as the header says"]


def test_stream__without_a_frame_is_an_error(model: Path, bright: Bright, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_source", lambda *_: Paced(0, 0.0))
    with pytest.raises(DataError, match=r"no frame of --source camera could be decoded \(0 broken\)"):
        quiet(StreamOptions(model, "camera"))


def test_check_window__names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.cv2, "getBuildInformation", lambda: "  GUI:                           NONE\n")
    with pytest.raises(ConfigError, match="pip uninstall opencv-python-headless && pip install opencv-python"):
        module.check_window()
    monkeypatch.setattr(module.cv2, "getBuildInformation", lambda: "  GUI:                           QT5\n")
    module.check_window()


def test_stream__shows_frames_until_q_is_pressed(
    model: Path, tmp_path: Path, bright: Bright, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[NDArray[np.uint8]] = []
    monkeypatch.setattr(module, "check_window", lambda: None)
    monkeypatch.setattr(pipeline.cv2, "imshow", lambda _, picture: shown.append(picture))
    monkeypatch.setattr(pipeline.cv2, "waitKey", lambda _: ord("q") if len(shown) == 3 else -1)
    quiet(StreamOptions(model, str(write_video(tmp_path / "in.mp4", 20)), show=True))
    assert len(shown) == 3


def test_stream__results_masks_and_threshold(model: Path, tmp_path: Path, bright: Bright) -> None:
    source = write_video(tmp_path / "in.mp4", 3, size=(48, 64))
    table, masks = tmp_path / "frames.csv", tmp_path / "masks"
    said: list[str] = []
    report = stream(StreamOptions(model, str(source), results=table, masks=masks, threshold=0.3), said.append)
    assert report.polyps == 3
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    assert [row[1:3] for row in rows] == [["0.0", "1"], ["0.04", "1"], ["0.08", "1"]]
    for row, path in zip(rows, sorted(masks.iterdir()), strict=True):
        mask = np.asarray(Image.open(path)) > 0
        # The white stripe is 8 pixels wide.
        assert mask[:, :6].all()
        assert not mask[:, 10:].any()
        assert int(row[4]) == mask.sum()
        assert row[5].split()[:2] == ["0", "0"]
    assert f"wrote {table}" in said


@pytest.mark.parametrize(("least", "polyps"), [(100, 3), (1000, 0)])
def test_stream__specks_are_left_out(least: int, polyps: int, model: Path, tmp_path: Path, bright: Bright) -> None:
    source = write_video(tmp_path / "in.mp4", 3, size=(48, 64))
    assert quiet(StreamOptions(model, str(source), min_area=least)).polyps == polyps


@pytest.mark.parametrize(
    ("options", "message"),
    [({"threshold": 1.5}, "threshold 1.5 is no probability"), ({"min_area": -1}, "--min_area -1 is a number")],
)
def test_stream__impossible_options(options: dict[str, Any], message: str, model: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        quiet(StreamOptions(model, "nowhere", **options))
