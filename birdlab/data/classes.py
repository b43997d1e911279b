"""The ordered list of species that owns the columns of every target and prediction."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from birdlab.errors import DataError


@dataclass(frozen=True)
class ClassList:
    """Species codes in the order of the columns.

    Codes are text, also when they look like numbers. Raises DataError for a code that is not
    text, an empty code, a repeated code, or no code at all.
    """

    codes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "codes", tuple(self.codes))
        wrong = [code for code in self.codes if not isinstance(code, str)]
        if wrong:
            raise DataError(
                "a species code is not text",
                got=_listed(map(repr, wrong)),
                expected="text",
                fix=f'put it in quotes: "{wrong[0]}"; read tables with dtype=str',
            )
        repeated = sorted(code for code, count in Counter(self.codes).items() if count > 1)
        if repeated or "" in self.codes or not self.codes:
            raise DataError(
                "a class list needs at least one code, none empty and each once",
                got=_listed(map(repr, repeated)) if repeated else repr(self.codes)[:200],
            )

    def __len__(self) -> int:
        return len(self.codes)

    def __iter__(self) -> Iterator[str]:
        return iter(self.codes)

    def __contains__(self, code: object) -> bool:
        return code in self.index

    @cached_property
    def index(self) -> dict[str, int]:
        """The column of each code."""
        return {code: column for column, code in enumerate(self.codes)}

    @cached_property
    def digest(self) -> str:
        """12 hex digits that name these codes in this order."""
        text = json.dumps(self.codes, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def encode(
        self,
        primary: Sequence[str],
        secondary: Sequence[tuple[str, ...]],
        *,
        secondary_weight: float = 1.0,
    ) -> npt.NDArray[np.float32]:
        """Targets [N, C] float32: 1 for the primary label, `secondary_weight` for the others.

        A secondary label that is no class is left out (`count_unknown` counts those); one that
        repeats the primary label changes nothing. Raises DataError that lists every primary
        label without a column.
        """
        if len(primary) != len(secondary):
            raise DataError(
                "primary and secondary labels differ in length",
                got=f"{len(primary)} and {len(secondary)}",
            )
        columns = self.columns(primary)
        targets = np.zeros((len(primary), len(self)), np.float32)
        for row, labels in enumerate(secondary):
            for label in labels:
                column = self.index.get(label)
                if column is not None:
                    targets[row, column] = secondary_weight
        targets[np.arange(len(primary)), columns] = 1.0
        return targets

    def columns(self, primary: Iterable[str]) -> npt.NDArray[np.int32]:
        """The column of each label, [N]; DataError that lists every label without one."""
        labels = list(primary)
        unknown = self.unknown(labels)
        if unknown:
            raise DataError(
                f"{len(unknown)} primary labels have no column",
                got=_listed(map(repr, unknown), limit=None),
                expected=f"one of the {len(self)} classes",
                fix="drop those recordings, or add the codes to the class list",
            )
        return np.array([self.index[code] for code in labels], np.int32)

    def unknown(self, labels: Iterable[str]) -> list[str]:
        """The distinct labels without a column, sorted."""
        return sorted({label for label in labels if label not in self.index}, key=str)

    def count_unknown(self, secondary: Iterable[tuple[str, ...]]) -> dict[str, int]:
        """How often each secondary label without a column occurs, most frequent first."""
        counts: dict[str, int] = {}
        for labels in secondary:
            for label in labels:
                if label not in self.index:
                    counts[label] = counts.get(label, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def positions_in(self, other: ClassList) -> npt.NDArray[np.intp]:
        """For each class of this list its column in `other`, [C]; -1 where it has none.

        `scores[:, small.positions_in(large)]` brings columns of `large` into the order of
        `small`; check for -1 first.
        """
        return np.array([other.index.get(code, -1) for code in self.codes], np.intp)


def _listed(items: Iterable[str], limit: int | None = 10) -> str:
    """`items` joined by commas; the first `limit` of them and how many more there are."""
    names = list(items)
    if limit is None or len(names) <= limit:
        return ", ".join(names)
    return ", ".join(names[:limit]) + f" and {len(names) - limit} more"
