"""The card of a promoted model: what its ONNX file says about itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from birdlab.errors import OutputsError, PredictError, first_line
from birdlab.evaluate.blends import MEAN, Blend, Floats
from birdlab.evaluate.windows import Normalise, Windowing, find_hop
from birdlab.infer.jsontext import parse_json

FORMATS = ("1", "2", "3", "4")
"""2 says more than 1: the context of a window, and what brings it to peak 1. 3 says what the
members are and how they are blended, 4 that a pass has several windows or that windows overlap. A
card is written as the first that can say it, so that who reads only older ones refuses what it
would misread."""
WEIGHTS = ("full", "fold", "averaged")
LONGEST_SAMPLES = 1_000_000_000
"""No input is longer: at 32 kHz it would be more than 8 hours."""
_OWN_KEYS = ("birdlab_format", "classes", "sample_rate_hz", "window_s")
_WINDOW_KEYS = ("context_s", "normalise", "windows_per_pass", "hop_s")
_MEMBER_KEYS = ("members", "blend")
_NORMALISE: dict[str, Normalise] = {"crop": "crop", "recording": "recording"}


@dataclass(frozen=True)
class MemberCard:
    """A member of a promoted model.

    `output` names what the graph says of it; `weight` is its weight in the blend, 0 or more;
    `classes` are the scored classes that it knows, None when it knows all of them. `run` is the
    spec id it comes from, `fold` None for one that learned from all data, `weights` one of
    `full`, `fold` and `averaged`; `clip` and `time_max` weigh its clip probability and its time
    maximum. `ms_per_window` was measured on one thread.
    """

    name: str
    backbone: str
    output: str
    weight: float
    classes: tuple[str, ...] | None = None
    run: str = ""
    fold: int | None = None
    seed: int | None = None
    weights: str = "fold"
    ms_per_window: float | None = None
    clip: float | None = None
    time_max: float | None = None


WHOLE = MemberCard("model", "", "probs", 1.0)
"""The one member of a file that does not say what it is made of."""


@dataclass(frozen=True)
class ModelCard:
    """What a model hears and says: columns in order, rate of its input, length of a window.

    `context_s`, `normalise` and `windows_per_pass` are those of its Windowing; `hop_s` is how far
    apart the windows are that it was scored on, None for one after the other; `members` and `blend`
    are how its probabilities come about. `details` holds everything else that was written
    into the file (lineage, metric, versions, licence), as text.
    """

    classes: tuple[str, ...]
    sample_rate_hz: int
    window_s: float
    details: Mapping[str, str] = field(default_factory=dict)
    context_s: float | None = None
    normalise: Normalise = "crop"
    members: tuple[MemberCard, ...] = (WHOLE,)
    blend: Blend = MEAN
    windows_per_pass: int = 1
    hop_s: float | None = None

    @property
    def windowing(self) -> Windowing:
        """How recordings are cut for the model."""
        return Windowing(
            self.window_s,
            self.sample_rate_hz,
            self.context_s,
            self.normalise,
            self.windows_per_pass,
        )

    @property
    def input_samples(self) -> int:
        """The number of samples in the model's input: a window with its context."""
        return self.windowing.input_samples

    def class_weights(self) -> Floats:
        """The weight of each member in each class, 0 where it does not know it: [M, C] float64."""
        each = np.zeros((len(self.members), len(self.classes)))
        for row, member in zip(each, self.members, strict=True):
            known = self.classes if member.classes is None else member.classes
            row[:] = member.weight * np.isin(self.classes, known)
        return each

    def shares(self, wanted: Sequence[int] | None = None) -> Floats:
        """The share of each member in each class: [M, C] float64, for `blend_members`.

        With `wanted`, numbers of members, the others have none and the shares of the wanted ones
        still sum to 1; a class that none of them knows has no share at all, so it is blended to 0.
        """
        each = self.class_weights()
        if wanted is not None:
            each[[i not in wanted for i in range(len(each))]] = 0
        total = each.sum(axis=0)
        return np.asarray(each / np.where(total > 0, total, 1), np.float64)

    def to_metadata(self) -> dict[str, str]:
        """The card as the metadata of an ONNX file."""
        more = {} if self.context_s is None else {"context_s": json.dumps(self.context_s)}
        if self.normalise != "crop":
            more["normalise"] = self.normalise
        form = FORMATS[bool(more)]
        if self.windows_per_pass > 1:
            form, more["windows_per_pass"] = FORMATS[3], str(self.windows_per_pass)
        if self.hop_s is not None:
            form, more["hop_s"] = FORMATS[3], json.dumps(self.hop_s)
        if (self.members, self.blend) != ((WHOLE,), MEAN) or form == FORMATS[3]:
            form = max(form, FORMATS[2])
            more["members"] = json.dumps([asdict(m) for m in self.members], ensure_ascii=False)
            more["blend"] = json.dumps(asdict(self.blend))
        own = (
            form,
            json.dumps(self.classes, ensure_ascii=False),
            str(self.sample_rate_hz),
            json.dumps(self.window_s),
        )
        return {**self.details, **dict(zip(_OWN_KEYS, own, strict=True)), **more}


def read_card(metadata: Mapping[str, str], where: str) -> ModelCard:
    """The card in the metadata of the ONNX file `where`; PredictError when it is none.

    A file of format 1 or 2 has one member, whose output is that of the whole model.
    """
    missing = [key for key in _OWN_KEYS if key not in metadata]
    if missing:
        raise _no_card(where, f"no {', '.join(missing)}")
    form = metadata["birdlab_format"]
    if form not in FORMATS:
        known = f"{', '.join(FORMATS[:-1])} and {FORMATS[-1]}"
        raise _no_card(where, f"format {form!r}, this birdlab reads {known}")
    classes, windowing = _read_classes(metadata, where), _read_windowing(metadata, where)
    own: tuple[str, ...] = (*_OWN_KEYS, *_WINDOW_KEYS)
    members: tuple[MemberCard, ...] = (WHOLE,)
    blend = MEAN
    if form in FORMATS[2:]:
        own = (*own, *_MEMBER_KEYS)
        members, blend = _read_members(metadata, set(classes), where)
    return ModelCard(
        classes,
        windowing.sample_rate_hz,
        windowing.window_s,
        {key: text for key, text in metadata.items() if key not in own},
        windowing.context_s,
        windowing.normalise,
        members,
        blend,
        windowing.windows_per_pass,
        _read_hop(metadata, windowing, where),
    )


def _read_hop(metadata: Mapping[str, str], windowing: Windowing, where: str) -> float | None:
    """Seconds from one window to the next; PredictError for what is no whole part of a window."""
    if "hop_s" not in metadata:
        return None
    try:
        hop_s = float(metadata["hop_s"])
        find_hop(windowing, hop_s)
    except (ValueError, OverflowError, OutputsError):
        raise _no_card(where, f"windows every {metadata['hop_s']} s") from None
    return hop_s


def _read_classes(metadata: Mapping[str, str], where: str) -> tuple[str, ...]:
    try:
        classes = parse_json(metadata["classes"])
    except ValueError as error:
        raise _no_card(where, str(error)) from None
    if not isinstance(classes, list) or not all(isinstance(c, str) and c for c in classes):
        raise _no_card(where, "classes are not a list of names")
    if not classes or len(set(classes)) < len(classes):
        raise _no_card(where, "no class, or one that comes twice")
    return tuple(classes)


def _read_windowing(metadata: Mapping[str, str], where: str) -> Windowing:
    try:
        rate = int(metadata["sample_rate_hz"])
        window_s = float(metadata["window_s"])
        context_s = float(metadata["context_s"]) if "context_s" in metadata else None
        per_pass = int(metadata.get("windows_per_pass", 1))
        heard_s = window_s if context_s is None else context_s
        n_samples, n_heard = round(window_s * rate), round(heard_s * rate)
    except (ValueError, OverflowError) as error:
        raise _no_card(where, str(error)) from None
    if rate < 1 or not 1 <= n_samples <= LONGEST_SAMPLES:
        raise _no_card(where, f"windows of {window_s} s at {rate} Hz")
    if not 1 <= per_pass <= n_heard <= LONGEST_SAMPLES or heard_s < per_pass * window_s:
        raise _no_card(where, f"{per_pass} windows of {window_s} s from {heard_s} s")
    normalise = _NORMALISE.get(metadata.get("normalise", "crop"))
    if normalise is None:
        raise _no_card(where, f"waveforms normalised per {metadata['normalise']}")
    return Windowing(window_s, rate, context_s, normalise, per_pass)


def _read_members(
    metadata: Mapping[str, str], classes: set[str], where: str
) -> tuple[tuple[MemberCard, ...], Blend]:
    """The members of a file of format 3 and their blend; PredictError when they make no sense."""
    try:
        members = tuple(_read_member(given, classes) for given in parse_json(metadata["members"]))
        blend = Blend(**parse_json(metadata["blend"]))
    except KeyError as error:
        raise _no_card(where, f"no {error.args[0]}") from None
    except (ValueError, TypeError, OverflowError, OutputsError) as error:
        raise _no_card(where, f"members or blend: {first_line(error)}") from None
    outputs = [member.output for member in members]
    if len(set(outputs)) < len(outputs) or not any(member.weight for member in members):
        raise _no_card(where, "no member with a weight, or two with one output")
    return members, blend


def _read_member(given: Any, classes: set[str]) -> MemberCard:
    """The card of a member; fields that are not known are passed over. ValueError, TypeError."""
    names = [f.name for f in fields(MemberCard)]
    member = MemberCard(**{name: given[name] for name in names if name in given})
    if not all(isinstance(text, str) for text in (member.name, member.backbone, member.output)):
        raise ValueError("a name, backbone or output is no text")
    if not (math.isfinite(member.weight) and member.weight >= 0):
        raise ValueError(f"weight {member.weight}")
    ms = member.ms_per_window
    if ms is not None and not (math.isfinite(ms) and ms >= 0):
        raise ValueError(f"{ms} ms a window")
    if member.weights not in WEIGHTS:
        raise ValueError(f"weights {member.weights!r}, not one of {', '.join(WEIGHTS)}")
    if member.classes is None:
        return member
    if not set(member.classes) <= classes:
        raise ValueError(f"member {member.name} has classes that the model does not")
    return MemberCard(**{**asdict(member), "classes": tuple(member.classes)})


def _no_card(where: str, got: str) -> PredictError:
    return PredictError(
        "the ONNX file does not say what its columns and windows are",
        where=where,
        got=got,
        expected="a file written by `birdlab promote`",
        fix="promote the run again and predict with the new file",
    )
