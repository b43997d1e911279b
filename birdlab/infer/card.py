"""The card of a promoted model: what its ONNX file says about itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from birdlab.errors import PredictError
from birdlab.evaluate.windows import Normalise, Windowing

FORMATS = ("1", "2")
"""2 says more: the context of a window, and what brings it to peak 1. A file that needs neither
is written as 1."""
_OWN_KEYS = ("birdlab_format", "classes", "sample_rate_hz", "window_s")
_WINDOW_KEYS = ("context_s", "normalise")
_NORMALISE: dict[str, Normalise] = {"crop": "crop", "recording": "recording"}


@dataclass(frozen=True)
class ModelCard:
    """What a model hears and says: columns in order, rate of its input, length of a window.

    `details` holds everything else that was written into the file (lineage, blend, versions,
    licence), as text; `context_s` and `normalise` are those of its Windowing.
    """

    classes: tuple[str, ...]
    sample_rate_hz: int
    window_s: float
    details: Mapping[str, str] = field(default_factory=dict)
    context_s: float | None = None
    normalise: Normalise = "crop"

    @property
    def windowing(self) -> Windowing:
        """How recordings are cut for the model."""
        return Windowing(self.window_s, self.sample_rate_hz, self.context_s, self.normalise)

    @property
    def input_samples(self) -> int:
        """The number of samples in the model's input: a window with its context."""
        return self.windowing.input_samples

    def to_metadata(self) -> dict[str, str]:
        """The card as the metadata of an ONNX file."""
        around = {} if self.context_s is None else {"context_s": json.dumps(self.context_s)}
        if self.normalise != "crop":
            around["normalise"] = self.normalise
        own = (
            FORMATS[bool(around)],
            json.dumps(self.classes, ensure_ascii=False),
            str(self.sample_rate_hz),
            json.dumps(self.window_s),
        )
        return {**self.details, **dict(zip(_OWN_KEYS, own, strict=True)), **around}


def read_card(metadata: Mapping[str, str], where: str) -> ModelCard:
    """The card in the metadata of the ONNX file `where`; PredictError when it is none."""
    missing = [key for key in _OWN_KEYS if key not in metadata]
    if missing:
        raise _no_card(where, f"no {', '.join(missing)}")
    if metadata["birdlab_format"] not in FORMATS:
        known = " and ".join(FORMATS)
        raise _no_card(where, f"format {metadata['birdlab_format']!r}, this birdlab reads {known}")
    try:
        classes = json.loads(metadata["classes"])
        rate = int(metadata["sample_rate_hz"])
        window_s = float(metadata["window_s"])
        context_s = float(metadata["context_s"]) if "context_s" in metadata else None
    except ValueError as error:
        raise _no_card(where, str(error)) from None
    if not isinstance(classes, list) or not all(isinstance(c, str) and c for c in classes):
        raise _no_card(where, "classes are not a list of names")
    if not classes or len(set(classes)) < len(classes):
        raise _no_card(where, "no class, or one that comes twice")
    if rate < 1 or not math.isfinite(window_s) or round(window_s * rate) < 1:
        raise _no_card(where, f"windows of {window_s} s at {rate} Hz")
    if context_s is not None and not (math.isfinite(context_s) and context_s >= window_s):
        raise _no_card(where, f"windows of {window_s} s from {context_s} s")
    normalise = _NORMALISE.get(metadata.get("normalise", "crop"))
    if normalise is None:
        raise _no_card(where, f"waveforms normalised per {metadata['normalise']}")
    own = (*_OWN_KEYS, *_WINDOW_KEYS)
    details = {key: text for key, text in metadata.items() if key not in own}
    return ModelCard(tuple(classes), rate, window_s, details, context_s, normalise)


def _no_card(where: str, got: str) -> PredictError:
    return PredictError(
        "the ONNX file does not say what its columns and windows are",
        where=where,
        got=got,
        expected="a file written by `birdlab promote`",
        fix="promote the run again and predict with the new file",
    )
