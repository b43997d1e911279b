"""Which verdicts were reached on a base that is no longer today's, and what changed since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from birdlab.errors import ResolveError
from birdlab.lab import Lab
from birdlab.recorded import is_foreign, load_record, load_records
from birdlab.spec.changes import list_changes
from birdlab.spec.field_changes import OFF, Change
from birdlab.tracking.resolve import resolve_run
from birdlab.words import cut_text

Dump = Mapping[str, Any]
LONG = 40
STALE_COLUMNS = (
    *("idea", "title", "sweep", "arm", "decided_at", "verdict", "gain", "today", "n_changed"),
    *("changed_since", "data"),
)


@dataclass(frozen=True, eq=False)
class Today:
    """The base that verdicts are held against: its spec as records store it, and which it is."""

    spec: Dump
    said: str
    file: str = ""


def find_today(lab: Lab) -> Today | None:
    """Today's base of a lab: the first run of the champion, else its newest run without changes,
    else None."""
    try:
        found: Mapping[str, Any] | None = resolve_run(lab, "@champion")
        said = "the champion"
    except ResolveError:
        found, said = None, "the newest run without changes"
    if found is None or is_foreign(found):
        plain = [r for r in load_records(lab) if not is_foreign(r) and not r["delta"]]
        if not plain:
            return None
        found = plain[-1]
    return Today(found["spec"], f"{said}, {found['name'] or found['spec_id']}")


def load_specs(lab: Lab, effects: pd.DataFrame) -> dict[str, Dump]:
    """The specs of all arms and controls by run, of those whose record is still there."""
    runs = dict.fromkeys([*effects["run"], *effects["base_run"]])
    there = [run for run in runs if (lab.runs / f"{run}.json").is_file()]
    return {run: load_record(lab, run)["spec"] for run in there}


def find_stale(verdicts: pd.DataFrame, specs: Mapping[str, Dump], today: Dump) -> pd.DataFrame:
    """A row per verdict (`IdeaLedger.verdicts`) whose base is not today's, with STALE_COLUMNS.

    changed_since: the fields that today's base has otherwise, without those of the idea itself and
    whatever the data set; today: whether that base is `without` the idea, `with` it, or holds
    `another value`. `.index` is that of the verdicts.
    """
    compared = hold_against(verdicts, specs, today)
    stale = compared[compared["n_changed"] > 0]
    order = ["n_changed", "decided_at"]
    return stale.sort_values(order, ascending=[False, True], kind="stable")[list(STALE_COLUMNS)]


def hold_against(verdicts: pd.DataFrame, specs: Mapping[str, Dump], today: Dump) -> pd.DataFrame:
    """Every verdict whose runs are in `specs` beside today's base; columns as `find_stale`.

    And `same_data`: whether it was reached on the data set of today's base.
    """
    known = verdicts[verdicts["run"].isin(list(specs)) & verdicts["base_run"].isin(list(specs))]
    since = {run: list_changes(specs[run], today, across_data=True) for run in _runs(known)}
    rows = []
    for verdict in known.to_dict("records"):
        arm, base = since[verdict["run"]], since[verdict["base_run"]]
        without, with_it = (base, arm) if verdict["sign"] > 0 else (arm, base)
        # a field below what the idea sets is the idea's own
        other = [c for c in without if not _inside(c, verdict["changed"])]
        where = _state(without, with_it, verdict["changed"])
        row = {name: verdict[name] for name in ("idea", "sweep", "arm", "decided_at", "verdict")}
        row |= {"title": verdict["idea_title"], "gain": verdict["gain"], "data": verdict["data"]}
        row |= {"today": where, "n_changed": len(other)}
        row |= {"same_data": verdict["data"] == today["data"]["base"]}
        rows.append(row | {"changed_since": ", ".join(_word(c) for c in other)})
    return pd.DataFrame(rows, columns=[*STALE_COLUMNS, "same_data"], index=known.index)


def _runs(verdicts: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys([*verdicts["run"], *verdicts["base_run"]]))


def _inside(change: Change, fields: tuple[str, ...]) -> bool:
    return any(change.field == f or change.field.startswith(f"{f}.") for f in fields)


def _state(
    without: tuple[Change, ...], with_it: tuple[Change, ...], fields: tuple[str, ...]
) -> str:
    """Which side of an idea a base is on, by what it has otherwise than either."""
    if not any(_inside(change, fields) for change in without):
        return "without"
    return "another value" if any(_inside(change, fields) for change in with_it) else "with"


def _word(change: Change) -> str:
    if change.before == OFF:
        return f"+{change.field}"
    if change.after == OFF:
        return f"-{change.field}"
    return f"{change.field} {_text(change.before)} -> {_text(change.after)}"


def _text(value: Any) -> str:
    """A value in a few characters; of a part only its kind."""
    if isinstance(value, Mapping):
        return str(value.get("kind", "other"))
    said = value if isinstance(value, str) else json.dumps(value)
    return cut_text(said, LONG)
