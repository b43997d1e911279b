"""Audio files as libsndfile opens them: headers, blocks of mono frames, and files that are cut off.

Every fault of a file is an AudioError with the file and the reason in words.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from birdlab.errors import AudioError

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3"})
"""File names that count as audio when a folder is listed; decoding looks at content only."""

_BLOCK_FRAMES = 1 << 16
_SLACK_FRAMES = {
    "MPEG_LAYER_III": 1152,  # players disagree on the padding frames of an encoder
    "VORBIS": 2048,  # FFmpeg may state an end within the last block that no decoder reaches
}
_OGG_PAGE_BYTES = 65_307
_USUAL_PAGE_BYTES = 8_192
_OGG_LAST_PAGE = 0x04
_NO_END = 1 << 62
_STREAMED_BYTES = 0x7FFFFF00  # a WAV written to a pipe declares the largest size there is

Float32 = npt.NDArray[np.float32]


@contextmanager
def open_audio(path: Path) -> Iterator[Any]:
    """The open SoundFile of `path`; AudioError in words when there is none."""
    try:
        info = path.stat()
        if stat.S_ISDIR(info.st_mode):
            raise bad_audio(path, "this is a folder, not a recording")
        if not stat.S_ISREG(info.st_mode):
            raise bad_audio(path, "this is not a regular file")
        if info.st_size == 0:
            raise bad_audio(path, "the file has zero bytes")
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise bad_audio(path, "the file is not audio that can be read", _reason(error)) from None
    except FileNotFoundError:
        raise bad_audio(path, "there is no such file") from None
    except (OSError, TypeError, ValueError) as error:
        raise bad_audio(path, "the file cannot be opened", str(error)) from None
    with file:
        yield file


def read_duration_s(path: Path) -> float:
    """The length in seconds that the header of `path` states; nothing is decoded.

    Raises AudioError for a file that cannot be opened as audio.
    """
    with open_audio(path) as file:
        return float(file.frames / file.samplerate)


def read_whole(path: Path, file: Any) -> Iterator[Float32]:
    """The mono blocks of a file up to its end; AudioError when that comes too early."""
    _check_end(path, file)
    n_frames = 0
    for block in read_mono(path, file):
        n_frames += block.shape[0]
        yield block
    slack = _SLACK_FRAMES.get(file.subtype, 0)
    if n_frames + slack < file.frames or n_frames == 0:
        got = f"{n_frames} of {file.frames} frames"
        what = "the file is cut off" if file.frames else "the file has no frames"
        raise bad_audio(path, what, got)


def read_mono(path: Path, file: Any, n_frames: int | None = None) -> Iterator[Float32]:
    """The file's own blocks from where it stands, channels averaged; at most `n_frames`.

    Raises AudioError for a block that cannot be decoded.
    """
    # After each read of a seekable file soundfile seeks to where it is already. In an MP3 that
    # drops the bits the next frame borrows from the last one, and spoils its start.
    file.seekable = lambda: False
    left = _NO_END if n_frames is None else n_frames
    while left > 0:
        try:
            block = file.read(min(left, _BLOCK_FRAMES), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            what = "the file is damaged or cut off"
            raise bad_audio(path, what, _reason(error)) from None
        if not block.shape[0]:
            return
        left -= block.shape[0]
        yield block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)


def _check_end(path: Path, file: Any) -> None:
    """AudioError when the container says that the file once was longer.

    libsndfile takes the length of a cut WAV or Ogg from what is left, without a word.
    """
    if file.format == "OGG":
        with path.open("rb") as raw:
            size = raw.seek(0, 2)
            tail = b""
            for n_bytes in (_USUAL_PAGE_BYTES, _OGG_PAGE_BYTES):
                raw.seek(max(0, size - n_bytes))
                tail = raw.read()
                if b"OggS" in tail:
                    break
        page = tail[max(0, tail.rfind(b"OggS")) :]
        n_segments = page[26] if len(page) > 26 else 0
        n_bytes = 27 + n_segments + sum(page[27 : 27 + n_segments])
        if len(page) < 27 or len(page) < n_bytes or not page[5] & _OGG_LAST_PAGE:
            raise bad_audio(path, "the file is cut off", "an Ogg stream without its last page")
    elif file.format.startswith("WAV"):
        sizes = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
        if sizes and int(sizes[2]) < int(sizes[1]) < _STREAMED_BYTES:
            raise bad_audio(path, "the file is cut off", f"{sizes[2]} of {sizes[1]} bytes of audio")


def bad_audio(path: Path, what: str, got: str | None = None) -> AudioError:
    """The error of a file that cannot be used as a recording."""
    return AudioError(
        what,
        where=str(path),
        got=got,
        fix="replace or remove the file, or set `data.on_bad_file: skip`",
    )


def _reason(error: Any) -> str:
    return str(error.error_string).strip() or f"libsndfile error {error.code}"
