"""The audio of a lab's data sets, found by data set and file name and by nothing else."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import soundfile

from birdlab.data.audio import Waveform, decode, to_float
from birdlab.data.audiofile import open_audio, read_duration_s
from birdlab.data.catalog import Dataset
from birdlab.data.paths import refuse_leaving
from birdlab.data.sources import load_source
from birdlab.errors import AudioError, DataError, LabError
from birdlab.lab import Lab

Kind = Literal["recording", "soundscape"]

PLAYED = {
    ("OGG", "VORBIS"): "audio/ogg",
    ("OGG", "OPUS"): "audio/ogg",
    ("MP3", "MPEG_LAYER_III"): "audio/mpeg",
    ("WAV", "PCM_16"): "audio/wav",
    ("FLAC", "PCM_16"): "audio/flac",
    ("FLAC", "PCM_24"): "audio/flac",
}
"""What browsers play as it is, by format and subtype as libsndfile names them."""
RATE_HZ = 32_000
MOST_S = 3600.0
"""Longer files are neither drawn nor rewritten for a browser."""
EMBEDDED_BYTES = 600_000
"""The most of one sound that a page without a server holds, before base64."""
EMBEDDED_S = 20.0
"""How much of a longer sound it holds."""


@dataclass(frozen=True)
class SoundFile:
    """A file of a data set with what its table says of it; text that is not known is ""."""

    dataset: str
    kind: Kind
    file: str
    path: Path
    primary_label: str = ""
    common_name: str = ""
    author: str = ""
    license: str = ""

    @property
    def credit(self) -> str:
        """Who recorded it and under which licence, as far as the table says."""
        return ", ".join(filter(None, (self.author, self.license)))


class Sounds:
    """The audio files of a lab, by data set, kind and name as the tables of the data sets give it.

    Tables are read once. Nothing is generated: a data set without a folder has no files. Safe to
    use from several threads.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._lock = threading.Lock()
        self._tables: dict[str, Dataset | None] = {}

    def dataset(self, name: str) -> Dataset | None:
        """The data set of that name; None where its folder or its tables cannot be read."""
        with self._lock:
            if name not in self._tables:
                try:
                    root = self.lab.dataset_root(name)
                    self._tables[name] = load_source(
                        self.lab.source(name), name, root, self.lab.root, on_bad_file="skip"
                    )
                except (LabError, DataError):
                    self._tables[name] = None
            return self._tables[name]

    def find(self, file: str, kind: Kind, datasets: Iterable[str]) -> SoundFile | None:
        """The file in the first of the data sets whose table names it; None in no table."""
        for name in datasets:
            found = self.dataset(name)
            if found is None:
                continue
            if kind == "soundscape":
                row = _row(found.soundscapes, "filename", file)
                if row is not None:
                    return SoundFile(name, kind, file, Path(row["path"]))
            else:
                row = _row(found.recordings, "recording", file)
                if row is not None:
                    columns = ("primary_label", "common_name", "author", "license")
                    said = (str(row[column]) for column in columns)
                    return SoundFile(name, kind, file, Path(row["path"]), *said)
        return None

    def require(self, dataset: str, kind: str, file: str) -> SoundFile:
        """A file that may be served: one that the table of the data set names, in its folder.

        Raises DataError for anything else: an unknown data set or kind, a name that the table
        has not, one that has left its folder since, and a file that is gone.
        """
        found = None
        if kind in ("recording", "soundscape"):
            found = self.find(file, "recording" if kind == "recording" else "soundscape", [dataset])
        if found is None:
            raise DataError(
                "there is no such sound",
                got=f"{dataset}: {file}",
                expected="a file that the table of the data set names",
            )
        folder = str(found.path).removesuffix(file)
        refuse_leaving([file], Path(folder))
        if not found.path.is_file():
            raise AudioError(
                "the audio file is not there",
                where=f"{dataset}: {file}",
                fix="put it back into the folder of the data set",
            )
        return found


def mime_of(path: Path) -> str:
    """The media type of a file that browsers play as it is; "" for one that they may not.

    Raises AudioError for a file that is no audio.
    """
    with open_audio(path) as file:
        return PLAYED.get((file.format, file.subtype), "")


def play_as_wav(path: Path) -> bytes:
    """The file as a mono WAV of 16 bits at 32 kHz, for browsers that do not know its format.

    Raises AudioError for one that cannot be decoded or is longer than an hour.
    """
    wave = decode_short(path)
    return _encode(wave, len(wave.samples), "WAV", "PCM_16")


def decode_short(path: Path) -> Waveform:
    """The waveform of a file of at most an hour, at 32 kHz; AudioError for a longer one."""
    seconds = read_duration_s(path)
    if seconds > MOST_S:
        raise AudioError(
            "the file is too long to be shown",
            where=path.name,
            got=f"{seconds:.0f} s",
            expected=f"at most {MOST_S:.0f} s",
        )
    return decode(path, RATE_HZ)


def embed_sound(path: Path) -> tuple[str, float]:
    """A sound as a data URI of at most 0.8 MB, and how many seconds of it that holds.

    A file that browsers play and that is small enough goes in as it is, of any other the first
    20 s as Ogg Vorbis. Raises AudioError for one that cannot be decoded.
    """
    media = mime_of(path)
    if media and path.stat().st_size <= EMBEDDED_BYTES:
        return _uri(media, path.read_bytes()), read_duration_s(path)
    wave = decode_short(path)
    n = min(len(wave.samples), round(EMBEDDED_S * RATE_HZ))
    data = _encode(wave, n, "OGG", "VORBIS")
    if len(data) > EMBEDDED_BYTES:
        raise AudioError(
            "the sound is too large for a page",
            where=path.name,
            got=len(data),
            expected=f"{EMBEDDED_BYTES} bytes or fewer",
        )
    return _uri("audio/ogg", data), n / RATE_HZ


def embed_around(
    path: Path, wave: Waveform, at_s: float, most_bytes: int = EMBEDDED_BYTES
) -> tuple[str, float, float]:
    """A sound as a data URI, the second of the file at which it begins, and how many it holds.

    A file that browsers play goes in as it is where it has at most `most_bytes`; of any other the
    20 s around `at_s`, brought to a peak of 0.9. wave: its waveform. Raises AudioError for a file
    that is no audio.
    """
    media = mime_of(path)
    rate = wave.sample_rate_hz
    if media and path.stat().st_size <= most_bytes:
        return _uri(media, path.read_bytes()), 0.0, len(wave.samples) / rate
    n = min(len(wave.samples), round(EMBEDDED_S * rate))
    first = min(max(0, round((at_s - EMBEDDED_S / 2) * rate)), len(wave.samples) - n)
    part = Waveform(wave.samples[first : first + n], wave.scale, rate)
    return embed_part(part.to_float(), rate), first / rate, n / rate


def embed_part(samples: npt.NDArray[np.float32], sample_rate_hz: int) -> str:
    """A piece of sound as a data URI of Ogg Vorbis, brought to a peak of 0.9; silence stays."""
    peak = float(np.abs(samples).max(initial=0))
    held = io.BytesIO()
    with soundfile.SoundFile(held, "w", sample_rate_hz, 1, "VORBIS", format="OGG") as file:
        for part in _pieces(samples * (0.9 / peak if peak else 1.0), sample_rate_hz):
            file.write(part)
    return _uri("audio/ogg", held.getvalue())


def _pieces(samples: npt.NDArray[np.float32], n: int) -> Iterator[npt.NDArray[np.float32]]:
    """Parts of n samples: one large block would overflow the stack of the Vorbis encoder."""
    for start in range(0, len(samples), n):
        yield samples[start : start + n]


def _encode(wave: Waveform, n: int, form: str, subtype: str) -> bytes:
    """The first `n` samples in another format, at their own level; beyond full scale is cut."""
    held = io.BytesIO()
    with soundfile.SoundFile(held, "w", RATE_HZ, 1, subtype, format=form) as file:
        # One large block would overflow the stack of the Vorbis encoder.
        for start in range(0, n, RATE_HZ):
            part = to_float(wave.samples[start : min(start + RATE_HZ, n)], wave.scale)
            file.write(part.clip(-1, 1))
    return held.getvalue()


def _uri(media: str, data: bytes) -> str:
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


def _row(table: pd.DataFrame, column: str, name: str) -> pd.Series | None:
    found = table[table[column] == name]
    return None if found.empty else found.iloc[0]
