"""How much evidence runs rest on, and where they ran, from their records alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from birdlab.durations import in_time
from birdlab.words import count_words

Record = Mapping[str, Any]


def evidence_sentences(runs: Sequence[Record], stopped: Sequence[Record] = ()) -> tuple[str, ...]:
    """Folds, seeds, recordings, classes, floor and time of training of scored runs, in words.

    What differs from run to run is given from the least to the most, and it is said where runs
    were scored on different rows or classes. The cells of runs that were stopped count as time
    of training. Nothing for no run.
    """
    if not runs:
        return ()
    evaluations = [run["evaluation"] for run in runs]
    counts = [
        _span([len(e["folds"]) for e in evaluations], "fold"),
        _span([len(e["seeds"]) for e in evaluations], "seed"),
        _span([e["n_rows"] for e in evaluations], "recording"),
        _span([e["n_classes"] for e in evaluations], "class", "es"),
    ]
    counts = [text for text in counts if not text.startswith("0 ")]  # lines of a ledger have none
    floors = [run["scores"].get("cv/floor") for run in runs]
    known = [float(f) for f in floors if f is not None]
    said = [f"Each arm: {', '.join(counts)}." if len(runs) > 1 else f"{', '.join(counts)}."]
    if known:
        low, high = min(known), max(known)
        span = f"{low:.4f}" if f"{low:.4f}" == f"{high:.4f}" else f"{low:.4f} to {high:.4f}"
        said.append(f"A constant predictor scores {span}.")
    if len({(e["rows_hash"], e["classes_hash"]) for e in evaluations}) > 1:
        said.append(
            "The runs were scored on different recordings or classes: differences between them "
            "are not those of the recipes alone."
        )
    cells = {
        cell["cell_id"]: cell.get("seconds") for run in (*runs, *stopped) for cell in run["cells"]
    }
    seconds = [float(s) for s in cells.values() if s is not None]
    if seconds:
        said.append(f"{count_words(len(cells), 'cell')}, {in_time(sum(seconds))} of training.")
    return tuple(said)


def environment_table(runs: Sequence[Record]) -> pd.DataFrame:
    """item and value: data sets with their digests, hardware, versions, code, dates of runs."""
    rows: list[tuple[str, str]] = []
    for data in _each(item for run in runs for item in run.get("data", ())):
        value = f"{data['name']}, {count_words(data['n_rows'], 'row')}, digest {data['digest']}"
        rows.append((f"data ({data['role']})", value))
    evaluations = [run["evaluation"] for run in runs]
    rows += [("scored rows", str(h)) for h in _each(e["rows_hash"] for e in evaluations)]
    rows += [("classes", str(h)) for h in _each(e["classes_hash"] for e in evaluations)]
    devices = _each(c["device"] for run in runs for c in run["cells"] if c.get("device"))
    rows += [("hardware", ", ".join(devices))] if devices else []
    places = [run.get("environment", {}) for run in runs]
    rows += [("code", text) for text in _each(_code(place) for place in places) if text]
    for key, label in (("python", "Python"), ("packages", "packages")):
        rows += [(label, str(v)) for v in _each(p[key] for p in places if key in p)]
    dates = sorted(str(run["created_at"])[:10] for run in runs)
    if dates:
        when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
        rows.append(("scored on", when))
    return pd.DataFrame(rows, columns=["item", "value"])


def code_sentence(runs: Sequence[Record]) -> str:
    """The commits of birdlab that scored runs were made with, in a sentence; "" for none known."""
    codes = [text for text in _each(_code(run.get("environment", {})) for run in runs) if text]
    return f"With birdlab at {' and '.join(codes)}:" if codes else ""


def _code(place: Mapping[str, str]) -> str:
    commit = place.get("git_commit", "")
    dirty = " with changes that were not committed" if place.get("git_dirty") == "True" else ""
    return f"git commit {commit}{dirty}" if commit else ""


def _each(values: Iterable[Any]) -> list[Any]:
    """Every value once, in the order in which they first come."""
    return list({repr(value): value for value in values}.values())


def _span(counts: Sequence[int], noun: str, plural: str = "s") -> str:
    low, high = min(counts), max(counts)
    most = f"{high} {noun}{plural if high != 1 else ''}"
    return most if low == high else f"{low} to {most}"
