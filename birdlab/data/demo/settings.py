"""What one demo competition is made of, and the random draws that follow from it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from birdlab.errors import SpecError

SAMPLE_RATE_HZ = 32_000
WINDOW_S = 5

Part = Literal["competition", "environment", "soundscapes", "unlabelled", "phones", "mislabelled"]
"""What of the demo's world is made: the competition, or a data set that goes with it (`parts`)."""


@dataclass(frozen=True)
class DemoSettings:
    """Everything the demo competition follows from: equal settings, equal files.

    Sizes: `n_species`, `n_recordings` (long-tailed down to `rarest`), `n_recordists`,
    `n_backgrounds`, `n_soundscapes` (a third public, a quarter unlabelled, the rest private),
    `soundscape_s` (a multiple of 5), `recording_s` and `background_s` (shortest and longest).

    Difficulty: `song_snr_db` is the level of a song sung 10 m away over the noise between 1 and
    12 kHz, and falls by 6 dB with each doubling of the distance (`recording_m`, `soundscape_m`:
    nearest and farthest bird). `individuality` scales how far birds of one species differ,
    `likeness` (0 to 1) how close the look-alike pairs are, `recordist_spread` how far noise,
    equaliser and clipping of recordists differ. A species has about `count ** recordist_power`
    recordists: the fewer, the more a random split lets a network recognise the recordist.
    """

    seed: int = 0
    n_species: int = 12
    n_recordings: int = 252
    rarest: int = 2
    n_recordists: int = 24
    n_backgrounds: int = 14
    n_soundscapes: int = 24
    soundscape_s: int = 60
    recording_s: tuple[float, float] = (1.0, 30.0)
    background_s: tuple[float, float] = (20.0, 30.0)
    song_snr_db: float = 16.0
    recording_m: tuple[float, float] = (6.0, 45.0)
    soundscape_m: tuple[float, float] = (10.0, 70.0)
    individuality: float = 1.0
    likeness: float = 0.6
    recordist_spread: float = 1.0
    recordist_power: float = 0.55
    secondary_share: float = 0.25
    unknown_author_share: float = 0.06

    def __post_init__(self) -> None:
        for field, lowest in _LOWEST.items():
            if getattr(self, field) < lowest:
                raise SpecError(
                    f"{field} of the demo competition is too small",
                    where=f"DemoSettings.{field}",
                    got=getattr(self, field),
                    expected=f"at least {lowest}",
                )
        for field in ("recording_s", "background_s", "recording_m", "soundscape_m"):
            low, high = getattr(self, field)
            if not 0.5 <= low <= high:
                raise SpecError(
                    f"{field} of the demo competition is no range",
                    where=f"DemoSettings.{field}",
                    got=(low, high),
                    expected="(low, high) with 0.5 <= low <= high",
                )
        if self.n_recordings < self.n_species * self.rarest:
            raise SpecError(
                "too few recordings for the species of the demo competition",
                where="DemoSettings.n_recordings",
                got=self.n_recordings,
                expected=f"at least n_species * rarest = {self.n_species * self.rarest}",
            )
        if self.soundscape_s % WINDOW_S:
            raise SpecError(
                "a soundscape of the demo competition holds whole windows",
                where="DemoSettings.soundscape_s",
                got=self.soundscape_s,
                expected=f"a multiple of {WINDOW_S}",
            )

    def as_json(self) -> dict[str, object]:
        """The settings as JSON values, field by field."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}


_LOWEST = {
    "seed": 0,
    "n_species": 2,
    "rarest": 1,
    "n_recordists": 2,
    "n_backgrounds": 0,
    "n_soundscapes": 3,
    "soundscape_s": WINDOW_S,
}


def build_generator(seed: int, *names: object) -> np.random.Generator:
    """The random generator of one named thing of the competition, such as a file.

    Two names give unrelated draws, so no file depends on the order or the process in which
    the others are made.
    """
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, dtype="<u4").tolist()])
