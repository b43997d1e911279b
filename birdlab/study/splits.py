"""Into how many folds a run was split, and whether two hold out the same recordings together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

ALMOST = 0.9
"""From this share of recordings on, folds count as the same, and the others are left out."""


def count_split_folds(record: Mapping[str, Any]) -> int | None:
    """How many folds the split of a run has, of which not all need have run; None if not known."""
    data = (record.get("spec") or {}).get("data") or {}
    n = (data.get("folds") or {}).get("n")
    return None if n is None else int(n)


def moved_recordings(
    one: Mapping[str, int], other: Mapping[str, int], names: Sequence[str]
) -> list[str] | None:
    """The recordings whose fold in one split is not that of the rest in the other; None for
    splits that differ in more than a tenth.

    Folds of other numbers with the same recordings are the same. `one` and `other` have the fold
    of each recording.
    """
    together = Counter((one[name], other[name]) for name in names)
    match: dict[int, int] = {}
    for (fold, own), _ in together.most_common():
        if fold not in match and own not in match.values():
            match[fold] = own
    moved = [name for name in names if match.get(one[name]) != other[name]]
    return moved if len(moved) <= (1 - ALMOST) * len(names) else None
