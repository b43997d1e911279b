"""Clips before and after each augmentation in numbers: a row a look, a row a step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from birdlab.clipshow import READ, ClipShow


def list_numbers(show: ClipShow) -> pd.DataFrame:
    """A row for each look: clip, recording, step, changed, numbers, what was drawn, labels."""
    rows = [
        {
            "clip": i + 1,
            "recording": clip.recording,
            "step": look.step,
            "changed": look.changed,
            "rms_db": look.sound.rms_db,
            "peak": look.sound.peak,
            "centroid_hz": look.sound.centroid_hz,
            "drawn": look.drawn if look.changed else "",
            "labels": label_words(look.labels),
        }
        for i, clip in enumerate(show.clips)
        for look in clip.looks
    ]
    return pd.DataFrame(rows)


def label_words(labels: Mapping[str, float]) -> str:
    """Labels in words: `amerob, houspa 0.3, gnwtea left out of the loss`."""
    return ", ".join(
        code
        + ("" if value == 1 else f" {value:.3g}" if value == value else " left out of the loss")
        for code, value in labels.items()
    )


def summarise_steps(numbers: pd.DataFrame) -> pd.DataFrame:
    """Of each step: clips changed, and the mean change of level, peak and centroid over those.

    `numbers` as list_numbers gives them. A change from or to silence has no level; it is left out.
    """
    columns = {"rms_db": "level, dB", "peak": "peak", "centroid_hz": "centroid, Hz"}
    digits = dict(zip(columns, (2, 3, 0), strict=True))
    values = numbers[["clip", *columns]].replace([np.inf, -np.inf], np.nan)
    change = values.groupby("clip").diff()
    rows = []
    for step in dict.fromkeys(numbers["step"][numbers["step"] != READ]):
        of_step = numbers["step"] == step
        hit = of_step & numbers["changed"]
        mean = change[hit].mean()
        words = {word: _signed(mean[name], digits[name]) for name, word in columns.items()}
        rows.append({"step": step, "clips changed": f"{hit.sum()} of {of_step.sum()}", **words})
    return pd.DataFrame(rows)


def _signed(value: float, digits: int) -> str:
    rounded = round(value, digits) + 0.0  # no minus before a zero
    return "" if np.isnan(value) else f"{rounded:+,.{digits}f}" if rounded else "0"
