"""Live streams on this machine, whose frames show when they were made."""

import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from numpy.typing import NDArray
from odd_videos import Broadcast, free_port, milliseconds, read_stamp
from small_models import Exported
from small_videos import levels, write_video

from polyp_lightning.deploy.video import opening, pipeline
from polyp_lightning.deploy.video import stream as module
from polyp_lightning.deploy.video.decoding import open_source
from polyp_lightning.deploy.video.opening import Opening
from polyp_lightning.deploy.video.pipeline import StreamOptions
from polyp_lightning.deploy.video.stream import stream


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "PATIENCE", 1.5)


def slow(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A network that takes longer than a frame lasts."""
    time.sleep(0.06)
    return np.zeros((1, 1, 64, 64), np.float32)


@pytest.mark.slow
def test_stream__tells_how_old_live_frames_are(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_model", lambda *_: slow)
    true: list[int] = []
    lines: list[str] = []

    def draw(pixels: NDArray[np.uint8], _: object, text: list[str]) -> None:
        true.append((milliseconds() - read_stamp(pixels)) & 0xFFFFFFFF)
        lines.append(text[0])

    monkeypatch.setattr(pipeline, "draw_finding", draw)
    model, sender = exported("onnx"), Broadcast(free_port(), 6.0)
    sender.start()
    report = stream(StreamOptions(model, sender.address, output=tmp_path / "out.mp4"), lambda _: None)
    # What has piled up while the stream was opened, and what is left when the sender is silent, is old.
    ages, shown = np.array(report.ages[:-3]), np.array(true[-len(report.ages) : -3])
    assert len(ages) > 20
    assert np.median(np.abs(ages - shown)) < 10
    assert abs(np.median(ages) - np.median(shown)) < 10
    # A frame, until the next one shows that it is whole; the network; a frame that waited for it.
    assert 100 <= np.median(shown) < 200
    assert report.dropped > 20
    p50, p99 = np.percentile(report.ages, [50, 99])
    assert f"age from capture to drawn p50 {p50:.0f} ms, p99 {p99:.0f} ms" in str(report)
    assert " ms, age p50 " in lines[-1]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2.5, 13.0])
def test_video__a_sender_that_pauses_is_waited_for(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(opening, "PATIENCE", seconds + 2)
    sender = Broadcast(free_port(), 4.0, pause=(3.0, seconds))
    sender.start()
    source = open_source(sender.address, say=lambda _: None)
    frames = list(source)
    stamps = [read_stamp(frame.pixels) for frame in frames]
    # The last second came after the pause, without one frame missing.
    after = [stamp for stamp in stamps if stamp - stamps[0] > 1000 * (seconds + 1)]
    assert 24 <= len(after) <= 26
    assert source.broken == 0
    assert f"the source stood still for {seconds:.0f}"[:-1] in source.notes[0]
    assert source.notes[-1] == f"the source has ended: nothing came for {seconds + 2:g} s"
    # The recording's clock stood as long as the stream did.
    gap = max(float(later.time - frame.time) for frame, later in pairwise(frames))
    assert gap == pytest.approx(seconds, abs=0.2)


class Twice(BaseHTTPRequestHandler):
    """A stream over HTTP that breaks off after its first half; for a while nobody can connect."""

    parts: list[bytes]
    asked: list[float]

    def do_GET(self) -> None:
        self.asked.append(time.monotonic())
        turn = len(self.asked)
        self.send_response(503 if turn == 2 or turn > 3 else 200)
        self.end_headers()
        self.wfile.write({1: self.parts[0], 3: self.parts[1]}.get(turn, b""))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def twice(tmp_path: Path) -> Iterator[str]:
    Twice.parts = [write_video(tmp_path / f"{name}.ts", count).read_bytes() for name, count in (("a", 40), ("b", 60))]
    Twice.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Twice) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:secret@127.0.0.1:{server.server_port}/live?key=secret"
        server.shutdown()


def test_video__a_live_source_that_breaks_off_is_opened_again(twice: str) -> None:
    said: list[str] = []
    source = open_source(twice, live=True, say=said.append)
    frames = list(source)
    assert levels([frame.pixels for frame in frames]) == [i % 20 for i in range(40)] + [i % 20 for i in range(60)]
    assert np.diff([float(frame.time) for frame in frames]).min() > 0
    assert len(said) == 2
    assert all("stands still: waiting 1.5 s for it (Ctrl-C ends)" in line and "secret" not in line for line in said)
    assert "it was lost and opened again (1×)" in source.notes
    assert source.notes[-1] == "the source has ended: nothing came for 1.5 s"


def test_opening__live_sources_keep_no_frames_back() -> None:
    rtsp, udp, camera = (Opening(name, live=True) for name in ("rtsp://h/s", "udp://h:1", "camera:1"))
    assert rtsp._options == {"rtsp_transport": "tcp", "fflags": "nobuffer+noparse+nofillin"}
    assert udp._options["fflags"] == "noparse+nofillin"
    # Not tried on a camera: its frames carry the system's time.
    assert (camera._address, camera._options) == ("/dev/video1", {"timestamps": "abs"})
    assert camera.offset == pytest.approx(time.monotonic() - time.time(), abs=0.1)


def test_video__a_live_decoder_has_no_thread_for_each_frame(tmp_path: Path) -> None:
    source = open_source(str(write_video(tmp_path / "v.ts", 5)), live=True, threads=2)
    decoder = source._stream.codec_context  # type: ignore[union-attr]
    assert decoder.thread_type.name == "SLICE"
    assert decoder.flags & (1 << 19)
    source.close()
