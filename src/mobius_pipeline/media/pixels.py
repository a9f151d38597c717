"""Convert decoded frames to upright RGB: matrix, range, bit depth, pixel aspect, rotation, alpha and HDR."""

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from av.filter import Graph
from av.video.reformatter import Colorspace, ColorTrc, Interpolation, VideoReformatter

from mobius_pipeline.media.errors import MediaError
from mobius_pipeline.media.frames import Colour, Pixels, composed
from mobius_pipeline.media.video_stream import Crop

_UNSPECIFIED = 2  # matrix coefficients in ISO/IEC 23091-2
_HDR = {ColorTrc.SMPTE2084: "smpte2084", ColorTrc.ARIB_STD_B67: "arib-std-b67"}


class Upright:
    """Converts the frames of one stream to upright RGB with square pixels.

    Attributes:
        width: Displayed width in px.
        height: Displayed height in px.
    """

    def __init__(
        self,
        first: Any,
        pixel_aspect: Fraction | None,
        background: Colour,
        crop: Crop = Crop(),  # noqa: B008
    ) -> None:
        """Compute the geometry that all frames share.

        Args:
            first: A decoded frame of the stream.
            pixel_aspect: Width of a pixel divided by its height.
            background: RGB, 0 to 255, that transparent pixels are composed on.
            crop: Stored pixels that are not shown.

        Raises:
            MediaError: If the whole frame is cropped, or its rotation is not a multiple of 90 degrees.
        """
        self._stored = first.width, first.height
        self._square = max(1, round(first.width * (pixel_aspect or 1)))
        left, right = (round(side * self._square / first.width) for side in (crop.left, crop.right))
        self._rows = slice(crop.top, first.height - crop.bottom)
        self._columns = slice(left, self._square - right)
        self._scaling = _scaling(first, self._square)
        self._matrix = _display_matrix(first)
        self._background = background
        self._reformatter = VideoReformatter()
        self._tone_map: ToneMap | None = None
        self._is_hdr = first.color_trc in _HDR
        turned = self._matrix is not None and self._matrix[0, 0] == 0
        sides = (max(0, self._columns.stop - left), max(0, self._rows.stop - crop.top))
        if 0 in sides:
            raise MediaError(f"its container crops all of a frame of {first.width} x {first.height} px")
        self.width, self.height = reversed(sides) if turned else sides

    def check(self, frame: Any) -> None:
        """Raise a MediaError if `frame` does not have the size of the first one."""
        if (frame.width, frame.height) != self._stored:
            raise MediaError(
                f"a frame of {frame.width} x {frame.height} px among ones of "
                f"{self._stored[0]} x {self._stored[1]}: scale it to one size first"
            )

    def rgb(self, frame: Any) -> Pixels:
        """Return the upright pixels, uint8 (height, width, 3)."""
        if self._is_hdr:
            self._tone_map = self._tone_map or ToneMap(frame)  # created on demand: its table takes seconds
            frame = self._tone_map(frame)
        has_alpha = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
        pixels = self._converted(frame, "rgba" if has_alpha else "rgb24")[self._rows, self._columns]
        return _turned(composed(pixels, self._background) if has_alpha else pixels, self._matrix)

    def _converted(self, frame: Any, form: str) -> Pixels:
        shown = self._reformatter.reformat(
            frame,
            width=self._square,
            format=form,
            src_colorspace=_matrix_of(frame),
            interpolation=self._scaling,
            threads=1,
        )
        return np.asarray(shown.to_ndarray(), np.uint8)


def _scaling(first: Any, width: int) -> int | None:
    """Return swscale's flags: its fast default is off by up to two levels for more than 8 bits."""
    is_deep = any(part.bits > 8 for part in first.format.components)
    if is_deep or width != first.width:
        return Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    return None


def _matrix_of(frame: Any) -> int | None:
    """Return BT.709 for HD frames without a stored matrix, as players do; else None (stored or BT.601)."""
    is_hd = frame.width >= 1280 or frame.height > 576
    return Colorspace.ITU709 if frame.colorspace == _UNSPECIFIED and is_hd else None


def _display_matrix(frame: Any) -> Any:
    """Return the file's rotation or mirroring as a 2 x 2 matrix with entries -1, 0, 1; None if there is none.

    Row vector times matrix, x to the right, y down (ISO/IEC 14496-12, 6.2.2).
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    matrix = np.frombuffer(data, np.int32).reshape(3, 3)[:2, :2]
    signs = np.sign(matrix)
    if np.abs(signs).sum() != 2 or not np.linalg.det(signs):
        raise MediaError("its rotation is not a multiple of 90 degrees: turn it upright first")
    return signs


def _turned(pixels: Pixels, matrix: Any) -> Pixels:
    if matrix is None:
        return pixels
    if matrix[0, 0] == 0:
        pixels, matrix = pixels.swapaxes(0, 1), matrix[::-1]
    return np.ascontiguousarray(pixels[:: matrix[1, 1], :: matrix[0, 0]])


class ToneMap:
    """Maps frames of HDR video (PQ or HLG) to BT.709 with FFmpeg's `scale` filter.

    The filter compresses luminance and gamut perceptually (`intent=perceptual`), from the peak of the
    mastering display if the file stores it, else from that of the transfer function.
    """

    def __init__(self, first: Any) -> None:
        """Configure the filter for frames of the format of `first`."""
        self._graph = _graph(
            first,
            Fraction(1, 1000),
            (
                "scale",
                f"in_transfer={_HDR[first.color_trc]}:in_primaries=bt2020:in_color_matrix=bt2020nc"
                ":out_transfer=bt709:out_primaries=bt709:out_range=pc:intent=perceptual",
            ),
            ("format", "pix_fmts=rgb24"),
        )

    def __call__(self, frame: Any) -> Any:
        """Return the frame as rgb24."""
        self._graph.vpush(frame)
        return self._graph.vpull()


def deinterlaced(
    frames: Iterator[tuple[float, float, Any]], time_base: Fraction
) -> Iterator[tuple[float, float, Any]]:
    """Deinterlace frames, (start, duration, frame) each: one progressive frame for each, at the same times.

    FFmpeg's bwdif filter also reads the frames before and after.
    """
    graph, times = None, deque[tuple[float, float]]()
    for start, duration, frame in frames:
        graph = graph or _graph(frame, time_base, ("bwdif", "mode=send_frame:deint=interlaced"))
        times.append((start, duration))
        graph.vpush(frame)
        yield from _pulled(graph, times)
    if graph:
        graph.vpush(None)
        yield from _pulled(graph, times)
    assert not times, "bwdif returns one frame for each"


def _pulled(graph: Graph, times: deque[tuple[float, float]]) -> Iterator[tuple[float, float, Any]]:
    while True:
        try:
            frame = graph.vpull()
        except (BlockingIOError, EOFError):
            return
        yield (*times.popleft(), frame)


def _graph(first: Any, time_base: Fraction, *steps: tuple[str, str]) -> Graph:
    graph = Graph()
    graph.threads = 1
    source = graph.add(
        "buffer",
        f"video_size={first.width}x{first.height}:pix_fmt={first.format.name}:time_base={time_base}"
        f":colorspace={int(first.colorspace)}:range={int(first.color_range)}",
    )
    graph.link_nodes(source, *(graph.add(*step) for step in steps), graph.add("buffersink")).configure()
    return graph
