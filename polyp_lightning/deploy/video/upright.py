"""From a decoder's frames to pictures as players show them: whole, upright, with square pixels, in true colours."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polyp_lightning.deploy.extras import need

_HD_HEIGHT, _HD_WIDTH = 577, 1280
_MOST_ASPECT = 4
_UNKNOWN, _BT709, _BT601 = 2, 1, 6
# FFmpeg's numbers of the matrices (AVCOL_SPC_*) that its scaler knows, and the scaler's own (SWS_CS_*).
_MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}


class Colours(NamedTuple):
    """What the numbers of a YUV picture mean, by FFmpeg's own numbers (AVCOL_SPC_*, AVCOL_PRI_*, AVCOL_TRC_*)."""

    matrix: int
    primaries: int
    transfer: int

    @property
    def scaler(self) -> int:
        """The scaler's number of the matrix (SWS_CS_*)."""
        return _MATRICES[self.matrix]


def complete_colours(
    height: int, width: int, matrix: int = _UNKNOWN, primaries: int = _UNKNOWN, transfer: int = _UNKNOWN
) -> Colours:
    """Fills in what a video does not say, as players do: BT.709 for HD, BT.601 for smaller pictures.

    >>> complete_colours(1080, 1920), complete_colours(576, 720, 5, 5)
    (Colours(matrix=1, primaries=1, transfer=1), Colours(matrix=5, primaries=5, transfer=6))
    """
    usual = _BT709 if height >= _HD_HEIGHT or width >= _HD_WIDTH else _BT601
    return Colours(
        matrix if matrix in _MATRICES else usual,
        usual if primaries in (0, _UNKNOWN) else primaries,
        usual if transfer in (0, _UNKNOWN) else transfer,
    )


class Converter:
    """Makes RGB pictures of decoded frames.

    Attributes:
        notes: what had to be done to them, or could not be.
    """

    def __init__(self) -> None:
        self.notes: set[str] = set()
        self._scaler = need("av").video.reformatter.VideoReformatter()

    def convert(self, frame: Any, stream: Any) -> tuple[NDArray[np.uint8], Colours]:
        """Returns a frame's RGB pixels, uint8 (H, W, 3), upright and square, and what its colours were.

        The header's rotation is carried out to the nearest quarter turn, mirrors included.
        """
        decoder = stream.codec_context
        colours = complete_colours(
            frame.height, frame.width, frame.colorspace, decoder.color_primaries, decoder.color_trc
        )
        width, height = self._square(frame.width, frame.height, stream.sample_aspect_ratio)
        picture = self._scaler.reformat(
            frame, width, height, format="rgb24", src_colorspace=colours.scaler, threads=1
        ).to_ndarray()
        matrix = frame.side_data.get("DISPLAYMATRIX")
        if matrix is not None:
            picture = self._turn(picture, np.frombuffer(bytes(matrix), np.int32).reshape(3, 3))
        return picture, colours

    def _square(self, width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
        """Returns the size with square pixels; the side that is too short grows."""
        if not aspect or aspect == 1:
            return width, height
        if not 1 / Fraction(_MOST_ASPECT) <= aspect <= _MOST_ASPECT:
            self.notes.add(f"pixels {float(aspect):g} times as wide as high are not believed, and taken as square")
            return width, height
        self.notes.add(f"pixels {float(aspect):.3g} times as wide as high: made square")
        return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))

    def _turn(self, picture: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Applies a display matrix: x' = ax + cy, y' = bx + dy, where the picture is turned by quarters."""
        (a, b), (c, d) = matrix[:2, :2].tolist()
        across = abs(b) > abs(a)
        right, down = (c, b) if across else (a, d)
        if not across and right >= 0 and down >= 0:
            return picture
        self.notes.add("turned or mirrored as the header says")
        if min(abs(a), abs(b)) > max(abs(a), abs(b)) / 50:
            self.notes.add("the header's rotation is no quarter turn: turned to the nearest")
        picture = picture.swapaxes(0, 1) if across else picture
        return np.ascontiguousarray(picture[:: -1 if down < 0 else 1, :: -1 if right < 0 else 1])


class Deinterlacer:
    """Puts frames through FFmpeg's bwdif from the first interlaced one on; progressive ones pass as they are.

    Every frame comes out as one frame; from then on one frame is held back.

    Attributes:
        used: whether there was one.
    """

    def __init__(self) -> None:
        self.used = False
        self._graph: Any = None
        self._shape: tuple[int, int, str] | None = None

    def push(self, frame: Any) -> Iterator[Any]:
        """Takes a frame and yields those that are ready."""
        shape = (frame.width, frame.height, frame.format.name)
        if self._graph is not None and shape != self._shape:
            yield from self.flush()
        if self._graph is None:
            if not frame.interlaced_frame:
                yield frame
                return
            self._begin(frame, shape)
        self._graph.vpush(frame)
        yield from self._pull()

    def flush(self) -> Iterator[Any]:
        """Yields what is held back."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._pull()
            self._graph = None

    def _begin(self, frame: Any, shape: tuple[int, int, str]) -> None:
        self.used, self._shape = True, shape
        graph = need("av").filter.Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
        graph.configure()
        self._graph = graph

    def _pull(self) -> Iterator[Any]:
        av = need("av")
        while True:
            try:
                yield self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
