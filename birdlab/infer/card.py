"""The card of a promoted model: what its ONNX file says about itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from birdlab.errors import PredictError

FORMAT = "1"
_OWN_KEYS = ("birdlab_format", "classes", "sample_rate_hz", "window_s")


@dataclass(frozen=True)
class ModelCard:
    """What a model hears and says: columns in order, rate of its input, length of a window.

    `details` holds everything else that was written into the file (lineage, blend, versions,
    licence), as text.
    """

    classes: tuple[str, ...]
    sample_rate_hz: int
    window_s: float
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def window_samples(self) -> int:
        """The number of samples in a window."""
        return round(self.window_s * self.sample_rate_hz)

    def to_metadata(self) -> dict[str, str]:
        """The card as the metadata of an ONNX file."""
        own = (
            FORMAT,
            json.dumps(self.classes, ensure_ascii=False),
            str(self.sample_rate_hz),
            json.dumps(self.window_s),
        )
        return {**self.details, **dict(zip(_OWN_KEYS, own, strict=True))}


def read_card(metadata: Mapping[str, str], where: str) -> ModelCard:
    """The card in the metadata of the ONNX file `where`; PredictError when it is none."""
    missing = [key for key in _OWN_KEYS if key not in metadata]
    if missing:
        raise _no_card(where, f"no {', '.join(missing)}")
    if metadata["birdlab_format"] != FORMAT:
        raise _no_card(where, f"format {metadata['birdlab_format']!r}, this birdlab reads {FORMAT}")
    try:
        classes = json.loads(metadata["classes"])
        rate = int(metadata["sample_rate_hz"])
        window_s = float(metadata["window_s"])
    except ValueError as error:
        raise _no_card(where, str(error)) from None
    if not isinstance(classes, list) or not all(isinstance(c, str) and c for c in classes):
        raise _no_card(where, "classes are not a list of names")
    if not classes or len(set(classes)) < len(classes):
        raise _no_card(where, "no class, or one that comes twice")
    if rate < 1 or not math.isfinite(window_s) or round(window_s * rate) < 1:
        raise _no_card(where, f"windows of {window_s} s at {rate} Hz")
    details = {key: text for key, text in metadata.items() if key not in _OWN_KEYS}
    return ModelCard(tuple(classes), rate, window_s, details)


def _no_card(where: str, got: str) -> PredictError:
    return PredictError(
        "the ONNX file does not say what its columns and windows are",
        where=where,
        got=got,
        expected="a file written by `birdlab promote`",
        fix="promote the run again and predict with the new file",
    )
