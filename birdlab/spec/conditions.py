"""Conditions of a sweep: `when: {train.loss: focal}` says at which points an entry exists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from birdlab.errors import SpecError
from birdlab.spec.delta import get_field
from birdlab.spec.diff import flatten
from birdlab.spec.experiment import build_spec
from birdlab.spec.kinds import nearest
from birdlab.spec.space import When, matches
from birdlab.spec.yamlfile import Document


class Conditions:
    """Judges the conditions of one sweep over the experiment that its points change.

    A condition names an entry of the sweep (with a value of it or the name of a bundle) or any
    dotted field of the experiment as it is at the point so far. Entries are decided in the order
    of the file, so a condition looks back only.
    """

    def __init__(
        self, base: Document, common: Mapping[str, Any], entries: Mapping[str, Iterable[str]]
    ) -> None:
        """`entries`: the entries of the sweep in order, each with the fields that it may change."""
        self.base, self.common = base, common
        self.entries = {key: set(fields) for key, fields in entries.items()}

    def check(self, key: str, when: When, where: str | None) -> None:
        """Raise SpecError when the entry `key` looks at one that is decided with or after it."""
        later = list(self.entries)[list(self.entries).index(key) :]
        for field in when:
            for entry in later:
                if field == entry or any(_decides(f, field) for f in self.entries[entry]):
                    raise SpecError(
                        f"the condition of {key!r} looks at {field!r}, which {entry!r} decides",
                        where=where,
                        fix="name another field" if entry == key else f"move {entry!r} above it",
                    )

    def hold(
        self, when: When, chosen: Mapping[str, Any], delta: Mapping[str, Any], where: str | None
    ) -> bool:
        """Whether all conditions hold at the point so far.

        chosen: what was taken of each entry; delta: the changes these make. Raises SpecError for
        a field that neither the experiment nor the sweep knows.
        """
        return all(self._holds(k, v, chosen, delta, where) for k, v in when.items())

    def _holds(
        self,
        field: str,
        wanted: Any,
        chosen: Mapping[str, Any],
        delta: Mapping[str, Any],
        where: str | None,
    ) -> bool:
        if field in chosen and matches(chosen[field], wanted):
            return True
        spec = build_spec(self.base, self.common, delta)
        value = get_field(spec.model_dump(mode="json"), field)
        if value is None and field not in self.entries:
            changed = {f for fields in self.entries.values() for f in fields}
            known = [*flatten(spec), *changed]
            if not any(_related(field, name) for name in known):
                raise SpecError(
                    "a condition names a field that the experiment does not have",
                    where=where,
                    got=field,
                    expected=nearest(field, known).split("; known")[0],
                )
        return matches(value, wanted)


def _decides(changed: str, field: str) -> bool:
    """Whether a change of one field may replace what another says; parts of it do not."""
    return f"{field}.".startswith(f"{changed}.") or changed == f"{field}.kind"


def _related(a: str, b: str) -> bool:
    """Whether two dotted names are equal or one lies within the other."""
    return f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}.")
