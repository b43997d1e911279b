"""What a sweep says beyond its ranking: how the score answers to each searched setting."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from birdlab.spec.diff import title_of
from birdlab.tracking.query import spec_field

Points = Mapping[str, Mapping[str, Any]]
"""What each arm takes of each entry of a sweep: a value, or the name of a bundle."""
MOST_LINES = 6
"""With more lines than that, arms that differ in something else too are shown as points."""
AS_BASE = "as in the base"
LOG_FROM = 10.0
"""Where nobody says, an axis is logarithmic for positive values that span this factor or more."""


@dataclass(frozen=True, eq=False)
class Response:
    """How the score answers to one numeric setting.

    `table` has a row per arm: line, arm, x, mean (over folds), low and high (the lowest and
    highest fold mean), sorted by line and x; `cells` a row per scored cell: line, arm, x, fold,
    seed, score. Arms of one line differ in this setting alone; where `is_line` is false the arms
    differ in other settings as well, so nothing lies between them.
    """

    setting: str
    table: pd.DataFrame
    cells: pd.DataFrame
    is_line: bool
    log_x: bool


def points_of(
    sweep: Mapping[str, Any], base: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """The point of every scored or stopped arm of a recorded sweep.

    Where an arm leaves a field as it is, its value is that of `base`, the recorded spec of an arm
    without changes (None where there is none), or AS_BASE for a field that is more than a number
    or a text. Records that hold no points give the changes.
    """
    arms = [*sweep["arms"], *(arm for arm in sweep.get("stopped", ()) if "delta" in arm)]
    points = {arm["title"]: dict(arm.get("point") or arm["delta"]) for arm in arms}
    entries = list(dict.fromkeys(key for point in points.values() for key in point))
    fields = {} if base is None else {key: spec_field(base, key) for key in entries}
    known = {
        key: AS_BASE if isinstance(value, dict | list) else value
        for key, value in fields.items()
        if value is not None
    }
    return {
        arm: known | {key: _plain(value) for key, value in point.items()}
        for arm, point in points.items()
    }


def _plain(value: Any) -> Any:
    """A value of a point as a number or a text."""
    return _text(value) if isinstance(value, dict | list) else value


def get_responses(
    scores: pd.DataFrame, points: Points, log: Mapping[str, bool] | None = None
) -> list[Response]:
    """A response for each entry that takes two or more numbers; an entry comes once.

    scores: arm, fold, seed, score; log: whether an entry has a logarithmic axis, where that is
    known. Lines where arms differ in one setting alone, at most MOST_LINES of them; else all arms
    as points.
    """
    scored = set(scores["arm"])
    arms = {arm: point for arm, point in points.items() if arm in scored}
    entries = dict.fromkeys(key for point in arms.values() for key in point)
    found = [_response(scores, arms, entry, (log or {}).get(entry)) for entry in entries]
    return [response for response in found if response is not None]


def _response(scores: pd.DataFrame, arms: Points, entry: str, log: bool | None) -> Response | None:
    with_number = {arm: point for arm, point in arms.items() if _is_number(point.get(entry))}
    lines: dict[str, list[str]] = {}
    for arm, point in with_number.items():
        lines.setdefault(_others(point, entry), []).append(arm)
    lines = {name: of for name, of in lines.items() if _n_values(of, arms, entry) > 1}
    is_line = 0 < len(lines) <= MOST_LINES
    if not is_line:
        lines = {"": list(with_number)}
        if _n_values(lines[""], arms, entry) < 2:
            return None
    names = _line_names(lines, arms, entry) if is_line else {"": ""}
    line_of = {arm: names[key] for key, of in lines.items() for arm in of}
    x_of = {arm: float(arms[arm][entry]) for arm in line_of}
    cells = scores[scores["arm"].isin(list(line_of))].copy()
    cells["line"], cells["x"] = cells["arm"].map(line_of), cells["arm"].map(x_of)
    folds = cells.groupby(["line", "x", "arm", "fold"])["score"].mean()
    table = folds.groupby(level=["line", "x", "arm"]).agg(["mean", "min", "max"]).reset_index()
    table = table.rename(columns={"min": "low", "max": "high"})
    xs = list(x_of.values())
    log_x = _is_log(xs) if log is None else log
    columns = ["line", "arm", "x", "fold", "seed", "score"]
    return Response(entry, table, cells[columns].reset_index(drop=True), is_line, log_x)


def _others(point: Mapping[str, Any], entry: str) -> str:
    """What a point takes of all other entries, as a text that is equal where they are."""
    return json.dumps({k: v for k, v in point.items() if k != entry}, sort_keys=True, default=str)


def _n_values(arms: Sequence[str], points: Points, entry: str) -> int:
    return len({float(points[arm][entry]) for arm in arms})


def _line_names(lines: Mapping[str, Sequence[str]], arms: Points, entry: str) -> dict[str, str]:
    """A name for each line: what its arms take of the entries in which the lines differ."""
    first = {key: arms[of[0]] for key, of in lines.items()}
    others = dict.fromkeys(k for point in first.values() for k in point if k != entry)
    differ = [k for k in others if len({repr(point.get(k)) for point in first.values()}) > 1]
    return {
        key: title_of({k: point[k] for k in differ if k in point}) if differ else ""
        for key, point in first.items()
    }


def _is_log(values: Sequence[float]) -> bool:
    return min(values) > 0 and max(values) >= LOG_FROM * min(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True, eq=False)
class Parallel:
    """Every arm as a line over the entries of a sweep, best last so that it lies on top.

    `axes`: a row per entry: name, ticks (values in order), labels, log. `places`: arm × entry,
    where on the axis an arm lies: the value itself (its logarithm on a log axis), else the place
    of a text in the order of the axis; NaN for an entry that is not asked there. `scores`: the
    mean of each arm.
    """

    axes: tuple[Axis, ...]
    places: pd.DataFrame
    scores: pd.Series


@dataclass(frozen=True)
class Axis:
    """One entry: its name, where its values lie, how they read, whether it is logarithmic."""

    name: str
    ticks: tuple[float, ...]
    labels: tuple[str, ...]
    log: bool = False


def get_parallel(
    scores: pd.DataFrame, points: Points, log: Mapping[str, bool] | None = None
) -> Parallel | None:
    """The arms over all entries; None where fewer than two entries vary or two arms are scored."""
    means = scores.groupby(["arm", "fold"])["score"].mean().groupby(level="arm").mean()
    means = means[[arm in points for arm in means.index]].sort_values(kind="stable")
    entries = dict.fromkeys(key for arm in means.index for key in points[arm])
    axes, places = [], pd.DataFrame(index=means.index)
    for entry in entries:
        values = [points[arm].get(entry) for arm in means.index]
        if len({repr(v) for v in values}) > 1:
            axis, at = _axis(entry, values, (log or {}).get(entry))
            axes.append(axis)
            places[entry] = at
    return Parallel(tuple(axes), places, means) if len(axes) > 1 and len(means) > 1 else None


def _axis(entry: str, values: Sequence[Any], given: bool | None) -> tuple[Axis, list[float]]:
    there = [v for v in values if v is not None]
    if all(_is_number(v) for v in there):
        log = _is_log(there) if given is None else given
        at = [math.nan if v is None else math.log10(v) if log else float(v) for v in values]
        ticks = sorted({a for a in at if not math.isnan(a)})
        shown = ticks if len(ticks) <= 6 else [ticks[0], ticks[len(ticks) // 2], ticks[-1]]
        labels = tuple(f"{10**t if log else t:.3g}" for t in shown)
        return Axis(entry, tuple(shown), labels, log), at
    names = list(dict.fromkeys(_text(v) for v in there))
    at = [math.nan if v is None else float(names.index(_text(v))) for v in values]
    return Axis(entry, tuple(map(float, range(len(names)))), tuple(names)), at


def _text(value: Any) -> str:
    return title_of({"": value}).removeprefix("=")
