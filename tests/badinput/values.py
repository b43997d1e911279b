"""Mutations of data: a value of a tree becomes another one, as types and ranges forbid."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from .text import odd_text

Place = tuple[Any, ...]
_N_VALUES = 400
_kept: dict[int, Path] = {}


def keep_values(folder: Path, campaign: int) -> None:
    """Let draw_values read what it draws from a file of `folder`, which is made where it lacks.

    Forks are quicker of a process without hypothesis.
    """
    path = folder / f"values-{campaign}.json"
    if not path.is_file():
        path.write_text(json.dumps(_draw(campaign)))
    _kept[campaign] = path


@lru_cache(maxsize=4)
def draw_values(campaign: int) -> tuple[Any, ...]:
    """What hypothesis makes of "any value of a file", the same ones for the same campaign."""
    return tuple(json.loads(_kept[campaign].read_text()) if campaign in _kept else _draw(campaign))


def _draw(campaign: int) -> list[Any]:
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    plain = (
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.integers(-3, 12)
        | st.floats()
        | st.text(max_size=30)
        | st.sampled_from(("off", "all", "train", "birds", "auto", "none", "../x", "mean"))
    )
    tree = st.recursive(
        plain,
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
        ),
        max_leaves=6,
    )  # fmt: skip
    drawn: list[Any] = []

    @seed(campaign)
    @settings(
        max_examples=_N_VALUES,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(tree)
    def collect(value: Any) -> None:
        drawn.append(value)

    collect()
    return drawn


def mutate_tree(tree: Any, rng: random.Random, campaign: int) -> Any:
    """A copy of plain data with one to three changes."""
    tree = json.loads(json.dumps(tree))
    for _ in range(rng.choice((1, 1, 2, 3))):
        tree = _change(tree, rng, draw_values(campaign))
    return tree


def _change(tree: Any, rng: random.Random, values: tuple[Any, ...]) -> Any:
    paths = list(_walk(tree, ()))
    path = rng.choice(paths)
    if not path:
        return tree if rng.random() < 0.9 else rng.choice(values)
    holder = tree
    for key in path[:-1]:
        holder = holder[key]
    key, old = path[-1], holder[path[-1]]
    change = rng.randrange(8)
    if change == 0:
        del holder[key]
    elif change == 1 and isinstance(holder, dict):
        holder[rng.choice((f"{key}s", str(key).upper(), odd_text(rng), "kind", "base"))] = (
            holder.pop(key)
        )
    elif change == 2:
        other = rng.choice([p for p in paths if p] or [path])
        found = tree
        for step in other:
            found = found[step]
        holder[key] = json.loads(json.dumps(found))
    elif change in (3, 4) and isinstance(old, int | float) and not isinstance(old, bool):
        holder[key] = rng.choice(
            (
                -old,
                old + 1,
                old - 1,
                0,
                -1,
                old * 10**9,
                old / 1e9,
                str(old),
                2**63,
                math.nan,
                math.inf,
                1e308,
            )
        )
    elif change == 5:
        holder[key] = [old, old] if rng.random() < 0.5 else {"kind": old}
    elif change == 6:
        holder[key] = odd_text(rng)
    else:
        holder[key] = deepcopy(rng.choice(values))  # else it may come to hold itself
    return tree


def _walk(tree: Any, path: Place) -> Iterator[Place]:
    yield path
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        yield from _walk(value, (*path, key))


def as_yaml(value: Any) -> str:
    """A tree as YAML in one line: JSON, but for numbers that are none."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(k)}: {as_yaml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def as_lines(tree: Any) -> str:
    """A mapping as YAML with a line for each of its keys, so that errors name lines."""
    if not isinstance(tree, dict):
        return as_yaml(tree)
    return "".join(f"{_quoted(key)}: {as_yaml(value)}\n" for key, value in tree.items())


def _quoted(text: object) -> str:
    return json.dumps(str(text))
