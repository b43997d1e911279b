"""From the stored probabilities of members to the rows of a submission."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.errors import PredictError
from birdlab.evaluate.blends import blend_members
from birdlab.evaluate.passes import find_windows
from birdlab.evaluate.postprocess import finish_rows
from birdlab.evaluate.probabilities import HIGHEST_PROB
from birdlab.evaluate.windows import end_seconds
from birdlab.infer.card import ModelCard
from birdlab.infer.jsontext import parse_json
from birdlab.infer.passes import Course
from birdlab.infer.reading import Header
from birdlab.infer.store import KnownFile, WorkStore
from birdlab.infer.submission import replace_whole

Floats = npt.NDArray[np.float32]
Filler = Literal["prior", "zeros", "mean"]

_ROWS_AT_ONCE = 8192
_COLUMNS_AT_ONCE = 16


@dataclass(frozen=True, eq=False)
class HeardWindows:
    """The blended probabilities of the windows of all files that could be heard.

    row_ids, places (of the file) and end_s: [W]; probs: [W, C] float32 in [0, 1).
    """

    row_ids: list[str]
    places: npt.NDArray[np.int64]
    end_s: npt.NDArray[np.float64]
    probs: Floats


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a submission: ids, values [R, C], and how many were made up and why."""

    row_ids: Sequence[str]
    values: Floats
    filled: dict[str, list[str]]


def blend_stored(
    card: ModelCard, tables: Mapping[int, Floats], chosen: npt.NDArray[np.int64] | None = None
) -> Floats:
    """What the graph's `probs` would be if it had these members alone: [W, C] float32 in [0, 1).

    `tables`: number of a member → its probabilities, rows of C; `chosen` [W]: which rows of them,
    in which order, all as they are by default. `rank` takes the ranks over all rows.
    A class that none of the members knows is 0.
    """
    members = sorted(tables)
    shares = card.shares(members)[members]
    n_rows, n_columns = tables[members[0]].shape
    n_rows = n_rows if chosen is None else len(chosen)
    out = np.empty((n_rows, n_columns), np.float32)
    ranks = card.blend.kind == "rank"  # each column needs all of its rows
    step_r, step_c = (max(1, n_rows), _COLUMNS_AT_ONCE) if ranks else (_ROWS_AT_ONCE, n_columns)
    for row, column in product(range(0, n_rows, step_r), range(0, n_columns, step_c)):
        part = np.s_[row : row + step_r, column : column + step_c]
        own = shares[:, part[1]]
        rows = part[0] if chosen is None else chosen[part[0]]
        probs = [tables[m][rows, part[1]].astype(np.float64) for m in members]
        blended = np.where(own.sum(axis=0) > 0, blend_members(probs, card.blend, list(own)), 0)
        out[part] = np.clip(blended.astype(np.float32), np.float32(0), HIGHEST_PROB)
    return out


def collect_heard(
    course: Course, store: WorkStore, card: ModelCard, members: Sequence[int]
) -> HeardWindows:
    """The blend of these members over all windows that each of them heard.

    Where passes of several windows broke off, no window behind the first gap in time counts:
    steps see neighbours.
    """
    n = count_heard(store, min(store.members[m].n_rows for m in members))
    places, ends, rows = (column[:n] for column in _layout(course, store))
    lost = [entry.place for entry in store.known.values() if entry.reason is not None]
    good = ~np.isin(places, lost)
    tables = {m: store.members[m].rows().reshape(-1, len(card.classes)) for m in members}
    probs = blend_stored(card, tables, rows)
    places, ends = places[good], ends[good]
    stems = [path.stem for path in course.files]
    whole = card.window_s.is_integer()  # then so are the ends of rows, and they have no point
    names = [int(end) if whole and end.is_integer() else end for end in ends.tolist()]
    ids = [f"{stems[place]}_{end}" for place, end in zip(places.tolist(), names, strict=True)]
    return HeardWindows(ids, places, ends, probs if good.all() else probs[good])


def count_heard(store: WorkStore, n_inputs: int) -> int:
    """How many windows of known files were heard in `n_inputs` passes, up to the first gap."""
    heard = _find_rows(store) < store.per_pass * n_inputs
    return len(heard) if heard.all() else int(np.argmin(heard))


def _find_rows(store: WorkStore) -> npt.NDArray[np.int64]:
    """Where what was said of each window of known files is in the store, files in order."""
    entries = sorted(store.known.values(), key=lambda entry: entry.place)
    return find_windows([e.n_windows for e in entries], store.per_pass, store.hops)


def _layout(course: Course, store: WorkStore) -> tuple[Any, Any, Any]:
    """The file, the end and the row in the store of each window, as far as files are known."""
    rate = course.windowing.sample_rate_hz
    hop_s = course.hop_samples / rate
    entries = sorted(store.known.values(), key=lambda entry: entry.place)
    places = np.repeat([e.place for e in entries], [e.n_windows for e in entries])
    ends = [end_seconds(e.n_windows, course.windowing.window_s, hop_s) for e in entries]
    joined = np.concatenate([np.empty(0), *(np.asarray(end, float) for end in ends)])
    return places.astype(np.int64), joined, _find_rows(store)


def finish_windows(
    heard: HeardWindows, course: Course, card: ModelCard, steps: Sequence[Mapping[str, Any]]
) -> tuple[list[str], Floats]:
    """The row ids and values [W, C] after post-processing, on the grid of whole windows."""
    window_s = course.windowing.window_s
    grid, values = finish_rows(
        heard.probs, heard.places, heard.end_s, card.classes, steps, window_s
    )
    if grid.all():
        return heard.row_ids, values
    return [name for name, on in zip(heard.row_ids, grid, strict=True) if on], values


def list_rows(
    course: Course, headers: Sequence[Header], known: Mapping[int, KnownFile]
) -> list[str]:
    """The ids that the files should have: of what was heard, else of what headers say.

    A file that says nothing has as many rows as most others.
    """
    counts = [
        (known[i].n_windows if i in known else 0) or header.n_windows
        for i, header in enumerate(headers)
    ]
    usual = usual_count(n for n in counts if n is not None)
    per_window = course.windowing.window_samples // course.hop_samples
    names = []
    for path, n in zip(course.files, counts, strict=True):
        n_rows = ((usual if n is None else n) - 1) // per_window + 1
        names += [f"{path.stem}_{end}" for end in end_seconds(n_rows, course.windowing.window_s)]
    return names


def usual_count(n_windows: Iterable[int]) -> int:
    """The commonest number of windows, the larger one in a tie; 1 for none."""
    counts = Counter(n_windows)
    return max(counts, key=lambda n: (counts[n], n), default=1)


def read_prior(card: ModelCard) -> Floats | None:
    """The share of training rows that name each class, [C], as the card has it; None without."""
    try:
        prior = np.asarray(parse_json(card.details["prior"]), np.float64)
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
    if prior.shape != (len(card.classes),) or not ((prior >= 0) & (prior <= 1)).all():
        return None
    return np.minimum(prior.astype(np.float32), HIGHEST_PROB)


def read_steps(card: ModelCard) -> tuple[Mapping[str, Any], ...]:
    """The post-processing that was promoted with a model; PredictError when it cannot be read."""
    text = card.details.get("postprocess", "[]")
    try:
        steps = parse_json(text)
    except ValueError:
        steps = None
    if not isinstance(steps, list):
        raise PredictError(
            "the post-processing of the model cannot be read",
            got=text,
            fix="promote the run again, or predict with --post none",
        )
    return tuple(steps)


def fill_rows(
    wanted: Sequence[str],
    row_ids: Sequence[str],
    values: Floats,
    lost: Mapping[str, Filler],
    others: Filler,
    prior: Floats | None,
) -> Rows:
    """The rows `wanted`, in order; one that is not in `row_ids` gets what its file is filled with.

    `lost`: stem of a file whose rows are missing → its filler; `others` is that of every other
    row. Without a `prior` it is the mean of all values, zeros where there are none.
    """
    zeros = np.zeros(values.shape[1], np.float32)
    mean = values.mean(axis=0) if len(values) else zeros
    fillers = {"prior": mean if prior is None else prior, "zeros": zeros, "mean": mean}
    places = pd.Index(row_ids).get_indexer(pd.Index(wanted)) if len(row_ids) else None
    out = np.empty((len(wanted), values.shape[1]), np.float32)
    found = np.zeros(len(wanted), bool) if places is None else places >= 0
    if places is not None:
        out[found] = values[places[found]]
    filled: dict[str, list[str]] = {}
    for i in np.flatnonzero(~found).tolist():
        stem = wanted[i].rpartition("_")[0]
        filler = lost.get(stem, others)
        out[i] = fillers[filler]
        filled.setdefault(stem, []).append(wanted[i])
    return Rows(wanted, out, filled)


def write_windows(path: Path, heard: HeardWindows, course: Course, card: ModelCard) -> bool:
    """Was the Parquet of `heard` written? Not where pandas has nothing to write it with.

    Raises PredictError where the disk does not take it.
    """
    names = np.asarray([file.name for file in course.files], object)
    table = pd.DataFrame(heard.probs, columns=list(card.classes))
    table.insert(0, "end_s", heard.end_s)
    table.insert(0, "file", names[heard.places] if len(heard.places) else [])
    table.insert(0, "row_id", heard.row_ids)
    try:
        with replace_whole(path) as temporary:
            table.to_parquet(temporary, index=False)
    except ImportError:
        return False
    return True
