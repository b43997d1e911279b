"""Images of levels as PNG, small enough to lie in a page by the dozen."""

from __future__ import annotations

import base64
import struct
import zlib
from functools import cache

import numpy as np
import numpy.typing as npt
from plotly.colors import sample_colorscale, unlabel_rgb


def png_uri(levels: npt.NDArray[np.uint8], scale: str = "Viridis") -> str:
    """A data URI of an image of levels [rows, columns], 0..255, in the colours of a Plotly scale.

    The first row is drawn at the top. Source: RFC 2083, colour type 3 (indexed).
    """
    height, width = levels.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), levels], axis=1)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", _palette(scale)),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, body) for kind, body in parts)
    return "data:image/png;base64," + base64.b64encode(data).decode()


@cache
def _palette(scale: str) -> bytes:
    colours = sample_colorscale(scale, [i / 255 for i in range(256)])
    return bytes(round(value) for colour in colours for value in unlabel_rgb(colour))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
