"""The tables of a difference as text, and what is said of one of its recordings."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from birdlab.study.verdict_words import p_text
from birdlab.study.why import Why
from birdlab.study.why_hearing import HeardTwice


def species_words(why: Why) -> pd.DataFrame:
    """The species as a table to show, those that gain most first and those that lose most last."""
    table = why.species.sort_values("share", ascending=False, kind="stable")
    known = table["q"].notna()
    shown = {
        "species": table["code"],
        "recordings": table["support"],
        why.base: table["ap_a"].map("{:.4f}".format),
        why.arm: table["ap_b"].map("{:.4f}".format),
        "adds": table["share"].map("{:+.4f}".format),
    }
    if table["by_chance"].notna().any():
        shown["by chance (SD)"] = table["by_chance"].map(_number)
    if known.any():
        tested = zip(table["pooled"], table["low"], table["high"], known, strict=True)
        shown["folds as one, 95 %"] = [
            f"{pooled:+.3f} ({low:+.3f} to {high:+.3f})" if ok else ""
            for pooled, low, high, ok in tested
        ]
        shown["q"] = [p_text(q) if q == q else "" for q in table["q"]]
    return pd.DataFrame(shown)


def recordings_words(why: Why) -> pd.DataFrame:
    """The recordings as a table to show, in their order."""
    table = why.recordings
    shown = {
        "recording": table["recording"],
        "species": table["primary"],
        "fold": table["fold"],
        "moves": table["influence"].map("{:+.4f}".format),
        "adds": table["share"].map("{:+.4f}".format),
        f"p, {why.base}": table["prob_a"].map("{:.3f}".format),
        f"p, {why.arm}": table["prob_b"].map("{:.3f}".format),
        "also moves": table["moved"],
    }
    if table["by_chance"].notna().any():
        shown["by chance (SD)"] = table["by_chance"].map(_number)
    if (table["suspect"] != "").any():
        shown["label suspect"] = table["suspect"]
    return pd.DataFrame(shown)


def recording_sentences(
    row: Mapping[Hashable, Any], heard: HeardTwice | None, why: Why
) -> list[str]:
    """What is known of one recording: what it moves, its labels, who made it, doubts."""
    own = row["primary"]
    said = [
        f"Without it the difference would be {why.split.delta - row['influence']:+.4f} "
        f"({row['influence']:+.4f} is its influence). Fold {row['fold']}.",
    ]
    if own:
        said.append(
            f"{own}, its own species, gets {row['prob_a']:.3f} from {why.base} and "
            f"{row['prob_b']:.3f} from {why.arm}: the highest window, the mean over seeds."
        )
    if heard is not None:
        others = [code for code in heard.labels[1:] if code]
        said += [f"Other labels: {', '.join(others)}."] if others else []
        if heard.sound is not None and heard.sound.credit:
            said.append(f"Recorded by {heard.sound.credit}.")
        said += heard.notes
    if row["suspect"]:
        said.append(f"A label suspect: {row['suspect']}.")
    return said


def _number(value: float) -> str:
    return "" if value != value else f"{value:.4f}"
