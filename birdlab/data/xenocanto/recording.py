"""A recording as Xeno-canto describes it, with every field checked: none of it is trusted."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from birdlab.data.audiofile import SUFFIXES

RATINGS = {"A": 5, "B": 4, "C": 3, "D": 2, "E": 1}
"""Quality as a number, as the metadata of competitions gives it."""

_MAX_TEXT = 500
_MOST_BYTES_A_SECOND = {
    ".mp3": 40_000,  # 320 kbit/s, the highest rate of MPEG-1 Layer III
    **dict.fromkeys((".ogg", ".oga", ".opus"), 64_000),  # 510 kbit/s: Opus; Vorbis has 500
}
_NO_SPECIES = frozenset({"mystery", "sonus"})  # identity unknown; soundscapes


@dataclass(frozen=True)
class Recording:
    """One recording; unknown text is "", an unknown number NaN.

    `license` and `file_url` are whole addresses as given, `suffix` is that of the file name if it
    is one of SUFFIXES, `also` holds the scientific names of species in the background.
    """

    xc_id: str
    scientific_name: str
    common_name: str
    author: str
    license: str
    quality: str
    type: str
    latitude: float
    longitude: float
    duration_s: float
    date: str
    sample_rate_hz: str
    also: tuple[str, ...]
    file_url: str
    suffix: str

    @property
    def url(self) -> str:
        """The page of the recording, made from its number."""
        return f"https://xeno-canto.org/{self.xc_id}"

    @property
    def most_bytes(self) -> float:
        """The most that its file can take; NaN where length, kind or sample rate is unknown.

        At the highest bit rate of its coder, or uncompressed in stereo and 24 bits.
        """
        if self.suffix in _MOST_BYTES_A_SECOND:
            return self.duration_s * _MOST_BYTES_A_SECOND[self.suffix]
        return self.duration_s * 6 * float(self.sample_rate_hz or math.nan)

    @property
    def is_species(self) -> bool:
        """Whether it is of a known species: not a mystery, not a soundscape."""
        genus, _, epithet = self.scientific_name.partition(" ")
        return bool(epithet) and genus.casefold() not in _NO_SPECIES


def read_recording(raw: object) -> Recording | None:
    """The recording in a row of the API, or None when it has no usable number."""
    if not isinstance(raw, dict):
        return None
    xc_id = _text(raw.get("id"))
    if not re.fullmatch(r"[0-9]{1,12}", xc_id):
        return None
    also = raw.get("also")
    names = [_text(name) for name in also] if isinstance(also, list) else []
    suffix = PurePosixPath(_text(raw.get("file-name"))).suffix.lower()
    quality = _text(raw.get("q")).upper()
    return Recording(
        xc_id=xc_id,
        scientific_name=f"{_text(raw.get('gen'))} {_text(raw.get('sp'))}".strip(),
        common_name=_text(raw.get("en")),
        author=_text(raw.get("rec")),
        license=_whole_address(_text(raw.get("lic"))),
        quality=quality if quality in RATINGS else "",
        type=_text(raw.get("type")),
        latitude=_number(raw.get("lat"), 90.0),
        longitude=_number(raw.get("lon"), 180.0),
        duration_s=read_length_s(_text(raw.get("length"))),
        date=_text(raw.get("date")),
        sample_rate_hz=_digits(_text(raw.get("smp"))),
        also=tuple(name for name in names if name),
        file_url=_whole_address(_text(raw.get("file"))),
        suffix=suffix if suffix in SUFFIXES else "",
    )


def read_length_s(text: str) -> float:
    """Seconds of a length `m:ss` or `h:mm:ss`; NaN when it is neither."""
    found = re.fullmatch(r"(?:([0-9]{1,4}):)?([0-9]{1,4}):([0-9]{2})", text)
    if found is None:
        return math.nan
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def _text(value: object) -> str:
    """A value as one line of text that any file can hold; "" for what is no text or number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    try:
        plain = str(value)[: 4 * _MAX_TEXT]
    except ValueError:  # a number of thousands of digits
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split())[:_MAX_TEXT]


def _digits(text: str) -> str:
    return text if re.fullmatch(r"[0-9]{1,9}", text) else ""


def _number(value: object, largest: float) -> float:
    try:
        number = float(_text(value))
    except ValueError:
        return math.nan
    return number if abs(number) <= largest else math.nan


def _whole_address(text: str) -> str:
    return f"https:{text}" if text.startswith("//") else text
