"""Which runs, in which order: conditions on columns and on fields of the specs, without eval."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd

from birdlab.errors import ResolveError
from birdlab.spec.kinds import nearest

SHORT = {"score": "cv/padded_cmap", "date": "updated_at", "sweep": "sweeps"}
"""What a column may be called for short."""

_CONDITION = re.compile(r"\s*([A-Za-z_][\w./-]*?)\s*(>=|<=|!=|==|=|>|<|~)\s*(.*?)\s*")
_NUMERIC: dict[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


@dataclass(frozen=True)
class Condition:
    """One comparison: `column` (or dotted field of the spec), operator, what it is compared to."""

    column: str
    sign: str
    value: str


@dataclass(frozen=True)
class RunQuery:
    """Which runs to list: all conditions hold; `name` is a glob; sorted by one column.

    `limit` keeps that many runs with the highest values (the newest, the best), wherever the
    order puts them.
    """

    where: tuple[str, ...] = ()
    project: str = ""
    sweep: str = ""
    name: str = ""
    sort: str = "date"
    descending: bool = False
    limit: int | None = None

    @property
    def conditions(self) -> list[Condition]:
        """The parsed conditions; ResolveError for text that is none."""
        return [parse_condition(text) for text in self.where]

    @property
    def columns(self) -> list[str]:
        """Every column that the query names, by its full name."""
        named = [condition.column for condition in self.conditions] + [self.sort]
        return list(dict.fromkeys(SHORT.get(name, name) for name in named))


def parse_condition(text: str) -> Condition:
    """The condition in a text such as `cv/padded_cmap>0.7` or `train.loss.kind=focal`.

    Signs: = == != > >= < <= and ~ (contains). Raises ResolveError for what is none.
    """
    found = _CONDITION.fullmatch(text)
    if found is None or not found[3]:
        raise ResolveError(
            "a condition cannot be read",
            got=text,
            expected="COLUMN, one of = != > >= < <= ~, VALUE",
            fix="--where 'cv/padded_cmap>0.7' --where train.loss.kind=focal",
        )
    return Condition(SHORT.get(found[1], found[1]), found[2].replace("==", "="), found[3])


def select_runs(table: pd.DataFrame, query: RunQuery) -> pd.DataFrame:
    """The rows of a table of runs that the query asks for, in its order.

    Runs without a value in the sorted column come before all others. Raises ResolveError for a
    column that does not exist and for an order between texts that are no numbers.
    """
    for condition in query.conditions:
        table = table[_holds(_column(table, condition.column), condition)]
    if query.project:
        table = table[table["project"] == query.project]
    if query.sweep:
        table = table[[query.sweep in sweeps for sweeps in table["sweeps"]]]
    if query.name:
        table = table[[fnmatchcase(name, query.name) for name in table["name"]]]
    by = SHORT.get(query.sort, query.sort)
    values = _column(table, by)
    if values.map(lambda value: isinstance(value, list | Mapping)).any():
        values = values.map(str)
    elif not pd.api.types.is_numeric_dtype(values):
        numbers = pd.to_numeric(values, errors="coerce")
        values = numbers if numbers.notna().eq(values.notna()).all() else values.map(_text)
    order = values.sort_values(kind="stable", na_position="first").index
    table = table.loc[order]
    if query.limit is not None:
        table = table.tail(query.limit)
    return table[::-1] if query.descending else table


def group_runs(table: pd.DataFrame, by: str) -> list[tuple[str, pd.DataFrame]]:
    """The runs by the value of one column, in the order in which values first come.

    A run in several sweeps is in the group of each, one in none in that of `-`.
    """
    values = _column(table, SHORT.get(by, by))
    lists = [value if isinstance(value, list) else [value] for value in values]
    named = [[_text(v) or "-" for v in row] or ["-"] for row in lists]
    names = dict.fromkeys(name for row in named for name in row)
    return [(name, table[[name in row for row in named]]) for name in names]


def spec_field(spec: Mapping[str, Any] | None, dotted: str) -> Any:
    """A field of a recorded spec by its dotted name; None where it has none.

    Items of a list are found by name, else by kind.
    """
    node: Any = spec
    for part in dotted.split("."):
        if isinstance(node, Mapping):
            node = node.get(part)
        elif isinstance(node, Sequence) and not isinstance(node, str):
            items = [item for item in node if isinstance(item, Mapping)]
            node = next((i for i in items if part in (i.get("name"), i.get("kind"))), None)
        else:
            return None
    return node


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    empty = name in table and len(table) > 0 and table[name].isna().all()
    if name not in table or (empty and name not in SHORT.values()):
        known = [*SHORT, *table.columns]
        raise ResolveError(
            "no run has such a column",
            got=name,
            expected=f"{nearest(name, known)}; or a field of the spec: train.optimizer.lr",
        )
    return table[name]


def _holds(values: pd.Series, condition: Condition) -> list[bool]:
    compare = _NUMERIC.get(condition.sign)
    if compare is not None:
        return [_in_order(value, condition, compare) for value in values]
    return [_matches(value, condition) for value in values]


def _in_order(value: Any, condition: Condition, compare: Callable[[Any, Any], Any]) -> bool:
    if value is None or value != value:
        return False
    number, bound = _number(value), _number(condition.value)
    if number is not None and bound is not None:
        return bool(compare(number, bound))
    if bound is None and isinstance(value, str):  # dates
        return bool(compare(value, condition.value))
    raise ResolveError(
        f"{condition.column} and the value it is compared to are not both numbers",
        got=f"{value!r} {condition.sign} {condition.value}",
        expected="a number on both sides of < and >",
    )


def _matches(value: Any, condition: Condition) -> bool:
    items = value if isinstance(value, list) else [value]
    if condition.sign == "~":
        return any(condition.value.lower() in _text(item).lower() for item in items)
    number = _number(condition.value)
    same = any(
        _text(item) == condition.value or (number is not None and _number(item) == number)
        for item in items
    )
    return same != (condition.sign == "!=")


def _number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def _text(value: Any) -> str:
    if value is None or value != value:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
