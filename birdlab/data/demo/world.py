"""The plan of a demo competition: its species, its recordists, and what each file will hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from birdlab.data.demo.places import KINDS, Place, draw_place
from birdlab.data.demo.settings import SAMPLE_RATE_HZ, DemoSettings, build_generator
from birdlab.data.demo.songs import (
    FAMILIES,
    Grammar,
    Random,
    Voice,
    draw_grammar,
    draw_lookalike,
    draw_voice,
)

_LOOKS = (
    "Glass Amber Hollow Lantern Northern Velvet Ashen Quiet Copper Misty Tidal Ember "
    "Painted Ivory Thistle Marble Dusky Saffron Pewter Willow Cobalt Russet Juniper Opal"
)
_BIRDS = "Warbler Thrush Finch Bunting Wren Tanager Pipit Lark Vireo Tit Owlet Crake"
_GENERA = "Vitrornis Cantula Sonaria Melodus Trillia Sibilus Fringaria Acustes"
_EPITHETS = "borealis minor sonans rivalis montana umbrina vagans placida arguta"
_FIRST = "Ada Bruno Carla Diego Elin Femi Greta Hugo Ines Jonas Kira Luis Mara Nils Olga Pavel"
_LAST = "Abel Brandt Costa Duarte Eriksen Falk Gruber Hale Ito Jansen Keller Lund Moreau Novak"


@dataclass(frozen=True)
class Species:
    """An invented species; `code` is its label, in the manner of eBird."""

    code: str
    scientific_name: str
    common_name: str
    grammar: Grammar


@dataclass(frozen=True)
class RecordingPlan:
    """A recording to be made: `recordist` made it, `author` is the name given (may be empty).

    `rate_hz` is the sample rate of its file.
    """

    filename: str
    primary: str
    background: tuple[str, ...]
    recordist: str
    author: str
    duration_s: float
    rate_hz: int = SAMPLE_RATE_HZ


@dataclass(frozen=True)
class BackgroundPlan:
    """A recording without birds; `kind` says what is heard: a kind of place or an event."""

    filename: str
    kind: str
    duration_s: float
    of: Literal["place", "event"] = "place"


@dataclass(frozen=True)
class SoundscapePlan:
    """A soundscape to be made at one of the sites, where `species` sing."""

    filename: str
    split: str
    site: str
    species: tuple[str, ...]
    duration_s: float


@dataclass(frozen=True)
class World:
    """All that is decided before a sample is made. Species are in sorted code order."""

    species: tuple[Species, ...]
    recordings: tuple[RecordingPlan, ...]
    backgrounds: tuple[BackgroundPlan, ...]
    soundscapes: tuple[SoundscapePlan, ...]
    lookalikes: tuple[tuple[str, str], ...]

    @property
    def codes(self) -> tuple[str, ...]:
        """The labels in column order."""
        return tuple(species.code for species in self.species)

    def grammar_of(self, code: str) -> Grammar:
        """The song grammar of a label."""
        return self.species[self.codes.index(code)].grammar


def count_long_tail(n_species: int, n_recordings: int, rarest: int) -> list[int]:
    """Recordings per species, most frequent first: each has a fixed factor more than the next.

    The last has `rarest`; the factor is the one for which the counts add up to `n_recordings`
    (rounding is settled on the most frequent one).
    """
    low, high = 1.0, float(n_recordings)
    for _ in range(100):
        middle = (low + high) / 2
        total = rarest * sum(middle**k for k in range(n_species))
        low, high = (middle, high) if total < n_recordings else (low, middle)
    counts = [max(rarest, int(rarest * low**k)) for k in reversed(range(n_species))]
    counts[0] += n_recordings - sum(counts)
    return counts


def draw_species(settings: DemoSettings) -> tuple[list[Species], list[tuple[str, str]]]:
    """The species, most frequent first, and the pairs among them that sound alike."""
    rng = build_generator(settings.seed, "species")
    n, n_pairs = settings.n_species, min(3, settings.n_species // 2)
    families = list(FAMILIES)
    rng.shuffle(families)
    bases = [draw_grammar(rng, families[i % len(families)]) for i in range(n - n_pairs)]
    paired, single = [], bases[n_pairs:]
    for base in bases[:n_pairs]:
        paired += [base, draw_lookalike(rng, base, settings.likeness)]
    named: list[Species] = []
    for grammar in [*paired, *single]:
        named.append(_draw_name(rng, {s.code for s in named}, grammar))
    pairs = [(named[2 * i].code, named[2 * i + 1].code) for i in range(n_pairs)]
    places = [(i + 0.5) / len(paired) for i in range(len(paired))]
    places += [(i + 0.5) / len(single) for i in range(len(single))]
    return [named[i] for i in np.argsort(places, kind="stable")], pairs


def _draw_name(rng: Random, taken: set[str], grammar: Grammar) -> Species:
    look, kind = str(rng.choice(_LOOKS.split())), str(rng.choice(_BIRDS.split()))
    number = 1
    while (code := f"{look[:3]}{kind[:3]}{number}".lower()) in taken:
        number += 1
    genus, epithet = str(rng.choice(_GENERA.split())), str(rng.choice(_EPITHETS.split()))
    return Species(code, f"{genus} {epithet}", f"{look} {kind}", grammar)


def _draw_recordists(rng: Random, n: int) -> list[str]:
    names = [f"{first} {last}" for first in _FIRST.split() for last in _LAST.split()]
    names += [f"Recordist {i}" for i in range(max(0, n - len(names)))]
    return [names[i] for i in rng.choice(len(names), size=n, replace=False)]


def plan_recordings(
    settings: DemoSettings, species: list[Species], rng: Random
) -> list[RecordingPlan]:
    """Who records which species and for how long; `species` come most frequent first."""
    n = settings.n_recordings
    counts = count_long_tail(settings.n_species, n, settings.rarest)
    recordists = _draw_recordists(rng, settings.n_recordists)
    low, high = settings.recording_s
    quantiles = ((np.arange(n) + 0.5) / n) ** 0.6
    durations = rng.permutation(np.round(low * (high / low) ** quantiles, 2))
    numbers = 100_000 + rng.choice(max(900, 9 * n), size=n, replace=False)
    plans: list[RecordingPlan] = []
    for bird, count in zip(species, counts, strict=True):
        n_mine = min(count, len(recordists), max(2, round(count**settings.recordist_power)))
        mine = [recordists[i] for i in rng.choice(len(recordists), n_mine, replace=False)]
        weights = rng.dirichlet(np.full(n_mine, 2.0))
        who = mine + [mine[i] for i in rng.choice(n_mine, size=count - n_mine, p=weights)]
        for recordist in who:
            k = len(plans)
            others = [s.code for s in species if s.code != bird.code]
            n_others = int(rng.random() < settings.secondary_share) * int(rng.integers(1, 3))
            heard = rng.choice(others, size=min(n_others, len(others)), replace=False)
            hidden = rng.random() < settings.unknown_author_share
            plans.append(
                RecordingPlan(
                    f"{bird.code}/DM{numbers[k]}.ogg",
                    bird.code,
                    tuple(map(str, heard)),
                    recordist,
                    "" if hidden else recordist,
                    float(durations[k]),
                )
            )
    return sorted(plans, key=lambda plan: (plan.primary, plan.filename))


def split_sizes(n_soundscapes: int) -> dict[str, int]:
    """How many soundscapes are public (a third), private and unlabelled (a quarter)."""
    public, unlabelled = max(1, n_soundscapes // 3), max(1, n_soundscapes // 4)
    private = n_soundscapes - public - unlabelled
    return {"public": public, "private": private, "unlabelled": unlabelled}


def plan_soundscapes(
    settings: DemoSettings, codes: Sequence[str], sizes: Mapping[str, int], rng: Random
) -> list[SoundscapePlan]:
    """So many soundscapes of each split.

    Species are dealt like cards, so that each split has all of them.
    """
    plans = []
    number = 1000
    for split, n in sizes.items():
        deck: list[str] = []
        for _ in range(n):
            size = min(len(codes), int(rng.integers(3, 6)))
            while len(set(deck)) < size:
                deck += [str(code) for code in rng.permutation(codes)]
            chosen = list(dict.fromkeys(deck))[:size]
            for code in chosen:
                deck.remove(code)
            number += int(rng.integers(1, 20))
            plans.append(
                SoundscapePlan(
                    f"demo_{number}.ogg",
                    split,
                    f"site-{rng.integers(max(2, settings.n_soundscapes // 4))}",
                    tuple(chosen),
                    float(settings.soundscape_s),
                )
            )
    return plans


@lru_cache(maxsize=4)
def build_world(settings: DemoSettings) -> World:
    """The whole plan of a competition; equal settings give an equal plan in every process."""
    by_frequency, pairs = draw_species(settings)
    rng = build_generator(settings.seed, "backgrounds")
    low, high = settings.background_s
    backgrounds = tuple(
        BackgroundPlan(
            f"{KINDS[i % len(KINDS)]}_{i:02d}.ogg",
            KINDS[i % len(KINDS)],
            round(float(rng.uniform(low, high)), 2),
        )
        for i in range(settings.n_backgrounds)
    )
    return World(
        tuple(sorted(by_frequency, key=lambda species: species.code)),
        tuple(
            plan_recordings(settings, by_frequency, build_generator(settings.seed, "recordings"))
        ),
        backgrounds,
        tuple(
            plan_soundscapes(
                settings,
                [species.code for species in by_frequency],
                split_sizes(settings.n_soundscapes),
                build_generator(settings.seed, "soundscapes"),
            )
        ),
        tuple(pairs),
    )


def build_recordist(settings: DemoSettings, name: str) -> Place:
    """The usual place and the device of a recordist or of a soundscape site."""
    return draw_place(build_generator(settings.seed, "place", name), settings.recordist_spread)


def build_voice(settings: DemoSettings, code: str, whose: str) -> Voice:
    """The voice of the one bird of a species that a recordist (or a part of a site) hears."""
    rng = build_generator(settings.seed, "voice", whose, code)
    return draw_voice(rng, build_world(settings).grammar_of(code), settings.individuality)
