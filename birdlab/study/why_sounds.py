"""Sound and image of a recording that two runs heard, as a page without a server holds them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from birdlab.data.audio import Waveform
from birdlab.errors import AudioError, DataError
from birdlab.study.png import png_uri
from birdlab.study.sounds import Sounds, decode_short, embed_around
from birdlab.study.spectrogram import Spectrogram, draw_spectrogram
from birdlab.study.why_hearing import HeardTwice

SOUND_BYTES = 400_000
"""A file up to this size is in the page as it is, of a larger one 20 s are."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """A recording in a page: image and sound as data URIs, "" where there is none.

    spectrogram: what the image shows, None without; from_s to image_s: the part of the file that it
    covers; start_s, seconds: where in the file the sound begins, and how long it is; said: in words
    what of the sound is there, or why nothing is.
    """

    spectrogram: Spectrogram | None
    image: str
    from_s: float
    image_s: float
    audio: str
    start_s: float
    seconds: float
    said: str

    @property
    def n_bytes(self) -> int:
        """What image and sound add to a page."""
        return len(self.image) + len(self.audio)


def embed_heard(heard: HeardTwice, sounds: Sounds, most_bytes: int = SOUND_BYTES) -> Embedded:
    """Image and sound of a recording; in words why there is none where its audio is gone.

    The image covers what the windows cover. Of a file of more than `most_bytes`, or one that
    browsers do not play, the sound is the 20 s around the window in which the runs differ most.
    """
    if heard.sound is None:
        return _silent(
            heard, "No data set of the lab names this file, so there is nothing to play."
        )
    try:
        sound = sounds.require(heard.sound.dataset, heard.sound.kind, heard.sound.file)
        wave = decode_short(sound.path)
        audio, start_s, seconds = embed_around(sound.path, wave, heard.focus_s, most_bytes)
    except (AudioError, DataError) as error:
        return _silent(heard, f"Nothing to play: {error.what}.")
    shown = cut_wave(wave, heard.begin_s, heard.end_s)
    image = draw_spectrogram(shown)
    whole = seconds >= len(wave.samples) / wave.sample_rate_hz - 0.01
    part = "" if whole else f"Seconds {start_s:.0f} to {start_s + seconds:.0f} are in this page."
    image_s = heard.begin_s + len(shown.samples) / shown.sample_rate_hz
    png = png_uri(np.flipud(image.levels))
    return Embedded(image, png, heard.begin_s, image_s, audio, start_s, seconds, part)


def cut_wave(wave: Waveform, begin_s: float, end_s: float) -> Waveform:
    """What of a recording lies between two seconds; all of it where nothing does."""
    first, last = (max(0, round(s * wave.sample_rate_hz)) for s in (begin_s, end_s))
    part = wave.samples[first:last]
    return Waveform(part, wave.scale, wave.sample_rate_hz) if len(part) else wave


def _silent(heard: HeardTwice, why: str) -> Embedded:
    return Embedded(None, "", heard.begin_s, heard.begin_s, "", 0.0, 0.0, why)
