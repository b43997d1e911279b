"""Numbers and names as parts of sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator


def count_words(n: int, noun: str, plural: str = "") -> str:
    """`1 run`, `1,234 runs`: a number with its noun, which takes an s or is `plural`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {plural or noun + 's'}"


def name_apart(names: Iterable[object], ids: Iterable[object]) -> list[str]:
    """The names, with their ids behind those that come twice."""
    listed = [str(name) for name in names]
    counts = Counter(listed)
    return [
        f"{name} ({own})" if counts[name] > 1 else name
        for name, own in zip(listed, ids, strict=True)
    ]


def list_some(names: Iterable[object], most: int = 5) -> str:
    """The first names, separated by commas, and how many more there are."""
    listed = [str(name) for name in names]
    shown = ", ".join(listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most:,} more"


def cut_text(text: object, most: int) -> str:
    """`text` in at most so many characters: what is longer ends in three points."""
    said = str(text)
    return said if len(said) <= most else f"{said[: most - 3]}..."


def texts_in(value: object) -> Iterator[str]:
    """Every text in plain data of mappings and lists, at any depth; keys are not among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts_in(part)
