"""Ogg Vorbis files whose bytes depend on their samples only."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import soundfile

from birdlab.data.demo.settings import SAMPLE_RATE_HZ
from birdlab.data.demo.songs import Wave

_BLOCK_S = 10
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def write_ogg(path: Path, wave: Wave, rate_hz: int = SAMPLE_RATE_HZ) -> None:
    """Write `wave` ([samples] float32 at `rate_hz`) as a Vorbis file, equal samples, equal bytes.

    libsndfile is fed blocks of 10 s, since one long write can crash it. It gives every stream a
    random serial number; that is set to 1 afterwards.
    """
    block = _BLOCK_S * rate_hz
    with soundfile.SoundFile(
        path, "w", samplerate=rate_hz, channels=1, format="OGG", subtype="VORBIS"
    ) as file:
        for start in range(0, len(wave), block):
            file.write(wave[start : start + block])
    path.write_bytes(_renumber_stream(path.read_bytes(), serial=1))


def _page_checksum(page: bytes) -> int:
    """The CRC of an Ogg page: zlib's polynomial, highest bit first, from 0, not inverted.

    Source: RFC 3533, section 6 (CRC_checksum).
    """
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _renumber_stream(data: bytes, serial: int) -> bytes:
    """The same Ogg stream with another serial number and the checksums that belong to it."""
    pages, at = [], 0
    while at < len(data):
        n_segments = data[at + 26]
        end = at + 27 + n_segments + sum(data[at + 27 : at + 27 + n_segments])
        page = bytearray(data[at:end])
        page[14:18] = struct.pack("<I", serial)
        page[22:26] = bytes(4)
        page[22:26] = struct.pack("<I", _page_checksum(bytes(page)))
        pages.append(bytes(page))
        at = end
    return b"".join(pages)
