"""Which of the recordings found are fetched, and why the others are not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from birdlab.data.xenocanto.recording import RATINGS, Recording
from birdlab.data.xenocanto.species import SpeciesList
from birdlab.errors import SpecError


@dataclass(frozen=True)
class Filters:
    """What a recording must have; the empty value of each lets everything pass.

    `qualities` are letters, A the best; lengths are in seconds, both ends included; `licenses`
    are parts of the licence's address of which one has to occur.
    """

    qualities: tuple[str, ...] = ()
    min_length_s: float = 0.0
    max_length_s: float = math.inf
    licenses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unknown = sorted(set(self.qualities) - set(RATINGS))
        if unknown:
            raise SpecError(
                "unknown quality", got=", ".join(unknown), expected=f"some of {', '.join(RATINGS)}"
            )
        if not 0 <= self.min_length_s <= self.max_length_s:
            raise SpecError(
                "the lengths leave no recording",
                got=f"{self.min_length_s:g} to {self.max_length_s:g} s",
                expected="0 <= shortest <= longest",
            )

    def refuse(self, recording: Recording) -> str:
        """Why a recording does not pass, or ""."""
        if self.qualities and recording.quality not in self.qualities:
            return f"quality is none of {', '.join(self.qualities)}"
        length_s = recording.duration_s
        if math.isnan(length_s) and (self.min_length_s > 0 or self.max_length_s < math.inf):
            return "length is unknown"
        if length_s < self.min_length_s:
            return f"shorter than {self.min_length_s:g} s"
        if length_s > self.max_length_s:
            return f"longer than {self.max_length_s:g} s"
        address = recording.license.lower()
        if self.licenses and not any(part.lower() in address for part in self.licenses):
            return f"licence has none of {', '.join(self.licenses)}"
        return ""


@dataclass(frozen=True)
class Wanted:
    """A recording to fetch, its label, and the labels of the species in its background."""

    recording: Recording
    label: str
    secondary_labels: tuple[str, ...]


@dataclass(frozen=True)
class Skip:
    """A recording that is not fetched; `label` is "" where it has none."""

    xc_id: str
    label: str
    reason: str
    scientific_name: str = ""
    detail: str = ""


@dataclass
class Selection:
    """The recordings to fetch, those left out, and how many were found per label.

    `dropped_names` counts the background species that have no label.
    """

    wanted: list[Wanted] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    dropped_names: Counter[str] = field(default_factory=Counter)

    @property
    def reasons(self) -> dict[str, int]:
        """How many recordings each reason left out, the most first."""
        return dict(Counter(skip.reason for skip in self.skipped).most_common())


def select_recordings(
    recordings: Iterable[Recording],
    species: SpeciesList,
    filters: Filters,
    foreign: Callable[[str], str],
    known: Mapping[str, str] | None = None,
) -> Selection:
    """The recordings of the listed species that pass, each once, in the order given.

    `foreign` gives "" for an address that may be asked, else how to show it; `known` maps the
    numbers of recordings that a data set has already to its name. A recording without a licence
    is left out.
    """
    chosen = Selection()
    seen: set[str] = set()
    for recording in recordings:
        label = species.label_of(recording.scientific_name) if recording.is_species else None
        reason = detail = ""
        if recording.xc_id in seen:
            reason = "found by an earlier query too"
        elif label is None:
            reason = "not a species of the list" if recording.is_species else "not of one species"
        elif not recording.license:
            reason = "no licence is given"
        elif not recording.file_url:
            reason = "no file is offered"
        elif detail := foreign(recording.file_url):
            reason = "the file is not on a host of Xeno-canto"
        elif known and recording.xc_id in known:
            reason = f"{known[recording.xc_id]} has it already"
        else:
            reason = filters.refuse(recording)
        if label is not None and recording.xc_id not in seen:
            chosen.found[label] += 1
        seen.add(recording.xc_id)
        if reason or label is None:
            name = recording.scientific_name
            chosen.skipped.append(Skip(recording.xc_id, label or "", reason, name, detail))
        else:
            secondary = _secondary_labels(recording, label, species, chosen.dropped_names)
            chosen.wanted.append(Wanted(recording, label, secondary))
    return chosen


def _secondary_labels(
    recording: Recording, label: str, species: SpeciesList, dropped: Counter[str]
) -> tuple[str, ...]:
    """The labels of the background species, each once; those without a label are counted."""
    labels: dict[str, None] = {}
    for name in recording.also:
        other = species.label_of(name)
        if other is None:
            dropped[name] += 1
        elif other != label:
            labels[other] = None
    return tuple(labels)
