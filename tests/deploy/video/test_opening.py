"""What a source's name means, and videos that are not simply one file from its beginning to its end."""

from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import av
import numpy as np
import pytest
from odd_videos import write_frames
from small_videos import levels, picture, write_video

from polyp_lightning.cli.verbs import main
from polyp_lightning.common.errors import DataError
from polyp_lightning.deploy.video.decoding import Frame, Video, open_source
from polyp_lightning.deploy.video.opening import Opening, is_live


def read(name: object) -> tuple[list[Frame], Any]:
    source = open_source(str(name))
    return list(source), source


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of the folder ``tmp_path`` on a web server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_recording__every_frame_arrives_by_http_and_file(tmp_path: Path, served: str, suffix: str) -> None:
    path = write_video(tmp_path / f"a film{suffix}", 100)
    for name in (f"{served}/a%20film{suffix}", path.as_uri(), f"file:{path}", f"file://localhost{path}"):
        frames, source = read(name)
        assert levels([frame.pixels for frame in frames]) == [index % 20 for index in range(100)], name
        assert (source.live, source.broken, source.notes) == (False, 0, [])


@pytest.mark.parametrize(
    ("name", "live"),
    [
        *((name, True) for name in ("camera", "camera:1", "rtsp://h/s", "rtsps://h/s", "rtmp://h/s", "udp://@:1", "srt://h:1")),
        *((name, False) for name in ("film.mp4", "http://h/live.ts", "https://h/a.m3u8", "file:///a.mp4", "cameras/")),
    ],
)  # fmt: skip
def test_is_live__is_a_guess_by_the_name(name: str, live: bool) -> None:
    assert is_live(name) is live


@pytest.mark.parametrize("live", [True, False])
def test_open_source__live_is_an_option(tmp_path: Path, live: bool) -> None:
    source = open_source(str(write_video(tmp_path / "v.ts", 20)), live=live)
    # A recording that is played as if it were live ends nevertheless.
    assert (source.live, len(list(source))) == (live, 20)


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_recording__two_in_one_file_follow_one_another(tmp_path: Path, suffix: str) -> None:
    codec, options = ("libx264", {}) if suffix == ".ts" else ("mpeg2video", {"b": "3000000"})
    parts = [
        write_frames(tmp_path / f"{part}{suffix}", [picture(i) for i in range(50)], codec, options=options)
        for part in "ab"
    ]
    joined = tmp_path / f"joined{suffix}"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    frames, source = read(joined)
    assert levels([frame.pixels for frame in frames]) == [index % 20 for index in range(50)] * 2
    assert [float(frame.time) for frame in frames] == pytest.approx([index / 25 for index in range(100)], abs=1e-3)
    assert source.broken == 0
    assert source.notes == ["its time stamps jump (1×): joined without a gap"]


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
def test_recording__an_hour_s_jump_is_closed(tmp_path: Path, suffix: str) -> None:
    times = [index / 25 + 3600 * (index >= 50) for index in range(100)]
    frames, source = read(write_frames(tmp_path / f"v{suffix}", [picture(i) for i in range(100)], times=times))
    assert levels([frame.pixels for frame in frames]) == [index % 20 for index in range(100)]
    assert [float(frame.time) for frame in frames] == pytest.approx([index / 25 for index in range(100)], abs=2e-3)
    assert source.rate == 25


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".nut"])
@pytest.mark.parametrize("marked", [True, False])
def test_recording__a_cover_picture_is_not_the_video(tmp_path: Path, suffix: str, marked: bool) -> None:
    path = tmp_path / f"v{suffix}"
    with av.open(str(path), "w") as container:
        cover: Any = container.add_stream("mjpeg", rate=25)
        video: Any = container.add_stream("libx264", rate=25)
        for stream, height, pixels in ((cover, 64, "yuvj420p"), (video, 48, "yuv420p")):
            stream.height, stream.width, stream.pix_fmt = height, 64, pixels
        if marked:
            cover.disposition = av.stream.Disposition.attached_pic
        white = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 255, np.uint8), format="rgb24")
        container.mux([*cover.encode(white), *cover.encode()])
        for index in range(30):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        container.mux(video.encode())
    frames, _ = read(path)
    assert levels([frame.pixels for frame in frames]) == [index % 20 for index in range(30)]


def test_recording__a_server_that_hangs_up_is_told(tmp_path: Path) -> None:
    content = write_video(tmp_path / "v.ts", 100).read_bytes()

    class Half(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2])

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Half) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        frames, source = read(f"http://127.0.0.1:{server.server_port}/v.ts")
        server.shutdown()
    assert 20 < len(frames) < 80
    assert source.notes == ["reading ended early: Input/output error"]


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://doctor:s3cr@t@127.0.0.1:1/live",
        "http://doctor:s3cr@t@127.0.0.1:1/live?token=s3cr@t",
        "srt://127.0.0.1:1?passphrase=s3cr@t-phrase",
        "nonsense://doctor:s3cr@t@host/",
    ],
)
def test_passwords__are_printed_nowhere(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str], exported: Any
) -> None:
    with pytest.raises(DataError) as error:
        Video(Opening(address, live=True), 1)
    assert "s3cr" not in str(error.value)
    assert "can't be opened" in str(error.value)
    for arguments in (["--source", address], ["--surce", address], ["--source", address, address]):
        assert main(["stream", "--model", str(exported("onnx")), *arguments]) == 2
    said = "".join(capsys.readouterr())
    assert said.count("error:") == 3
    assert "s3cr" not in said
