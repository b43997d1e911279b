"""What stages of one experiment change about those of another, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from birdlab.spec.field_changes import OFF, Change, compare_fields
from birdlab.spec.identity import canonical_json

Stage = Mapping[str, Any]
Pairs = tuple[tuple[int, int], ...]
_ROLES = ("soup", "pseudo", "distill")


def compare_stages(one: Sequence[Stage], two: Sequence[Stage]) -> list[Change]:
    """Changes of stages: those that both have are paired by what they do, others are off or on."""
    pairs = _pair(one, two)
    lone = _lone(one, [i for i, _ in pairs]), _lone(two, [j for _, j in pairs])
    names = [
        {str(s["name"]): roles.get(i, "") for i, s in enumerate(stages)}
        | {str(stages[pair[side]]["name"]): _place(at) for at, pair in enumerate(pairs)}
        for side, (stages, roles) in enumerate(zip((one, two), lone, strict=True))
    ]
    changes = _merge(
        [
            compare_fields(
                "",
                _stage(one[i], names[0], lone[0].values()),
                _stage(two[j], names[1], lone[1].values()),
            )
            for i, j in pairs
        ]
    )
    taken = {
        role: _own(one, i, names[0], two, [pair[::-1] for pair in pairs])
        for i, role in lone[0].items()
    }
    added = {role: _own(two, j, names[1], one, pairs) for j, role in lone[1].items()}
    return changes + [
        Change(f"stages.{role}", taken.get(role, OFF), added.get(role, OFF))
        for role in dict.fromkeys([*taken, *added])
        if taken.get(role, OFF) != added.get(role, OFF)
    ]


def _own(
    stages: Sequence[Stage],
    at: int,
    names: Mapping[str, str],
    others: Sequence[Stage],
    pairs: Sequence[tuple[int, int]],
) -> Any:
    """What a stage that the others lack has otherwise than the one of theirs before it."""
    before = [i for i, j in pairs if j < at]
    beside = others[before[-1] if before else pairs[0][0]]
    found = compare_fields("", _stage(beside, {}), _stage(stages[at], names))
    own = {change.field: change.after for change in found}
    follows = [s for s in stages if s.get("start") == stages[at]["name"] and s.get("transfer")]
    if follows:
        own["passes on"] = follows[0]["transfer"]
    return own or "the same again"


def _pair(one: Sequence[Stage], two: Sequence[Stage]) -> Pairs:
    """The places of stages that are the same, in order.

    As many as both have where they have equally many; else as many as do the same, or, where none
    does, as many as the shorter list has. Among these the pairs that differ in the fewest fields.
    """

    def cost(pairs: Pairs) -> tuple[int, int, int]:
        does = sum(_does(one[i]) != _does(two[j]) for i, j in pairs)
        both = [(_stage(one[i], {}), _stage(two[j], {})) for i, j in pairs]
        fields = sum(len(compare_fields("", *pair)) for pair in both)
        return does, fields, -sum(i + j for i, j in pairs)

    short = min(len(one), len(two))
    if len(one) == len(two):
        return tuple((i, i) for i in range(short))
    for n in range(short, 0, -1):
        same = [pairs for pairs in _choices(one, two, n) if cost(pairs)[0] == 0]
        if same:
            return min(same, key=cost)
    return min(_choices(one, two, short), key=cost)


def _choices(one: Sequence[Stage], two: Sequence[Stage], n: int) -> list[Pairs]:
    """All ways to pair n stages in order."""
    return [
        tuple(zip(left, right, strict=True))
        for left in combinations(range(len(one)), n)
        for right in combinations(range(len(two)), n)
    ]


def _lone(stages: Sequence[Stage], paired: Sequence[int]) -> dict[int, str]:
    """The stages without a pair, by what they do, with a number from the second of a kind on."""
    names: dict[int, str] = {}
    for i in (i for i in range(len(stages)) if i not in paired):
        role = next((r for r in _ROLES if stages[i].get(r) is not None), "")
        role = role or ("pretrain" if stages[i].get("data") is not None else "more")
        n = sum(name.split(".")[0] == role for name in names.values())
        names[i] = f"{role}.{n + 1}" if n else role
    return names


def _place(at: int) -> str:
    return f"stage {at + 1}"


def _does(stage: Stage) -> tuple[Any, ...]:
    return (stage.get("data") is not None, *(stage.get(role) is not None for role in _ROLES))


def _stage(stage: Stage, names: Mapping[str, str], added: Iterable[str] = ()) -> dict[str, Any]:
    """A stage without its name; what it starts from by its place, unless that is in `added`."""
    plain = {k: v for k, v in stage.items() if k not in ("name", "start", "transfer")}
    start = stage.get("start")
    if start is not None:
        called = names.get(str(start), str(start))
        if names and called not in set(added):
            plain |= {"start": called, "transfer": stage.get("transfer")}
    for role in _ROLES:
        taught = plain.get(role)
        teacher = taught.get("teacher") if isinstance(taught, Mapping) else None
        if isinstance(taught, Mapping) and isinstance(teacher, Mapping):
            known = {k: names.get(str(v), v) if k == "stage" else v for k, v in teacher.items()}
            plain[role] = {**taught, "teacher": known}
    return plain


def _merge(paired: Sequence[Sequence[Change]]) -> list[Change]:
    """Changes per paired stage; one that every stage has alike is named without a stage."""
    if len(paired) == 1:
        return list(paired[0])
    texts = [{canonical_json([c.field, c.before, c.after]): c for c in stage} for stage in paired]
    shared = [text for text in texts[0] if all(text in other for other in texts)]
    return [texts[0][text] for text in shared] + [
        Change(f"stages.{at + 1}.{c.field}", c.before, c.after)
        for at, stage in enumerate(texts)
        for text, c in stage.items()
        if text not in shared
    ]
