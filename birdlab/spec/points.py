"""The searched space of a sweep: what is asked where, and the arm at a point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from birdlab.spec.conditions import Conditions
from birdlab.spec.diff import title_of
from birdlab.spec.space import Changes, Range, lay_over
from birdlab.spec.sweep import BASE, Arm, Sweep

Point = Mapping[str, Any]
"""What is taken of each entry that is asked: a value, or the name of a bundle."""


class SearchSpace:
    """The space of a sweep that is `random` or `optuna`.

    Raises SpecError for a condition that looks at a later entry.
    """

    def __init__(self, sweep: Sweep) -> None:
        searched = sweep.spec.optuna or sweep.spec.random
        assert searched is not None
        self.sweep = sweep
        self.entries: Mapping[str, Range] = searched.space
        fields = {
            key: [f for bundle in entry.bundles.values() for f in bundle] or [key]
            for key, entry in self.entries.items()
        }
        self._conditions = Conditions(sweep.base, sweep.spec.set, fields)
        for key, entry in self.entries.items():
            self._conditions.check(key, entry.when, self._place(key))

    def applies(self, key: str, point: Point) -> bool:
        """Whether an entry is asked at the point so far."""
        when = self.entries[key].when
        return self._conditions.hold(when, point, self.changes(point), self._place(key))

    def changes(self, point: Point) -> Changes:
        """The changes to the base that a point stands for."""
        delta: Changes = {}
        for key, value in point.items():
            delta = lay_over(delta, self.entries[key].changes(key, value))
        return delta

    def arm(self, point: Point) -> Arm:
        """The arm at a point."""
        titles = [self._title(key, value) for key, value in point.items()]
        return self.sweep.build_arm(", ".join(titles) or BASE, self.changes(point), point=point)

    def arm_alone(self, key: str, value: Any) -> Arm:
        """The arm that takes one value of one entry over the base.

        Where a condition of the entry does not hold in the base, the arm makes it hold.
        """
        entry, needed = self.entries[key], Changes()
        for field, wanted in entry.when.items():
            if not self._conditions.hold({field: wanted}, {}, needed, self._place(key)):
                first = wanted[0] if isinstance(wanted, list) else wanted
                other = self.entries.get(field)
                needed |= {field: first} if other is None else other.changes(field, first)
        delta = lay_over(needed, entry.changes(key, value))
        origin = f"{self.sweep.spec.form}.space.{key}"
        return self.sweep.build_arm(self._title(key, value), delta, origin=origin)

    def _title(self, key: str, value: Any) -> str:
        entry = self.entries[key]
        return str(value) if entry.bundles else title_of(entry.changes(key, value))

    def _place(self, key: str) -> str | None:
        return self.sweep.place(f"{self.sweep.spec.form}.space.{key}")
