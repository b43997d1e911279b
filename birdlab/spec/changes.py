"""What one resolved experiment changes about another, however either of them was written.

Names that an author chose do not count: augmentations go by their kind, stages by what they do,
data sets by what they are to the experiment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Any

from pydantic import ValidationError

from birdlab.errors import BirdlabError
from birdlab.spec.base import canonical
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import canonical_json
from birdlab.spec.parts import EvaluateSpec

OFF = "off"
"""The value of what is not there."""
OWN = "<base>"
"""Stands for the experiment's own base data set, so that an idea crosses data sets."""
_DATA = frozenset({"data", "extra", "noise", "soundscapes", "backgrounds", "tables"})
"""Fields that hold names of data sets."""
_LABELS = ExperimentSpec.not_in_identity
_BESIDE = EvaluateSpec.not_in_identity | {"soundscapes", "synthetic"}
"""Fields of `evaluate` that say what is scored beside the folds."""
_ROLES = ("soup", "pseudo", "distill")


@dataclass(frozen=True)
class Change:
    """A field by dotted name, its value before and after; `off` for what is not there."""

    field: str
    before: Any
    after: Any


def list_changes(
    before: Mapping[str, Any], after: Mapping[str, Any], *, across_data: bool = False
) -> tuple[Change, ...]:
    """What `after` changes, by field; both are specs as records store them (`model_dump`).

    Values are resolved ones. Taken the other way round, every change is turned round and nothing
    else. What moves no score of the folds (names, notes, evidence, estimators, soundscapes that are
    scored beside them) is no change.
    across_data: of experiments on other data sets only what they do there; neither the data set
    nor the competition is a change.
    """
    one, two = _plain_pair(before, after)
    if across_data or one["data"]["base"] == two["data"]["base"]:
        one, two = (_place_holders(plain, str(plain["data"]["base"])) for plain in (one, two))
    if across_data:
        one, two = (_without_place(plain) for plain in (one, two))
    stages = one.pop("stages"), two.pop("stages")
    changes = [*_compare("", one, two), *_compare_stages(*stages)]
    return tuple(sorted(changes, key=lambda change: change.field))


def _plain_pair(*dumps: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both specs as data with one form per meaning; where a kind is not known, as they stand."""
    read = [_read(canonical_json(dump)) for dump in dumps]
    if None in read:
        read = [_prune(_as_it_stands(dump)) for dump in dumps]
    one, two = (_without(plain or {}) for plain in read)
    return one, two


@lru_cache(maxsize=256)
def _read(text: str) -> dict[str, Any] | None:
    """A spec in its canonical form, not to be changed; None where it has a kind nobody knows."""
    try:
        return dict(_prune(canonical(ExperimentSpec.model_validate_json(text))))
    except (ValidationError, BirdlabError):
        return None


def _as_it_stands(dump: Mapping[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = canonical({k: v for k, v in dump.items() if k not in _LABELS})
    return value


def _without(plain: Mapping[str, Any]) -> dict[str, Any]:
    """A spec without what moves no score of the folds."""
    evaluate = {k: v for k, v in plain.get("evaluate", {}).items() if k not in _BESIDE}
    return {**plain, "evaluate": evaluate}


def _prune(value: Any) -> Any:
    """`value` without fields that are null or empty: a field added later has no other default."""
    if isinstance(value, Mapping):
        inner = {key: _prune(item) for key, item in value.items()}
        return {key: item for key, item in inner.items() if item is not None and item != []}
    return [_prune(item) for item in value] if isinstance(value, list) else value


def _place_holders(value: Any, base: str, *, names_data: bool = False) -> Any:
    """`value` with `<base>` for the base data set, `<base>-x` for data sets called after it."""
    if isinstance(value, Mapping):
        return {
            key: item
            if key == "base"
            else _place_holders(
                item, base, names_data=key in _DATA and not isinstance(item, Mapping)
            )
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_place_holders(item, base, names_data=names_data) for item in value]
    if names_data and isinstance(value, str) and (value == base or value.startswith(f"{base}-")):
        return OWN + value.removeprefix(base)
    return value


def _without_place(plain: Mapping[str, Any]) -> dict[str, Any]:
    data = {key: value for key, value in plain["data"].items() if key != "base"}
    return {**{k: v for k, v in plain.items() if k != "competition"}, "data": data}


def _compare(dotted: str, one: Any, two: Any) -> list[Change]:
    """The fields that differ below `dotted`; parts of another kind are compared whole."""
    if one == two:
        return []
    named = _named(one) or _named(two)
    if named and dotted:
        one, two = (_by_kind(value) for value in (one, two))
        shared = [key for key in one if key in two]
        if shared != [key for key in two if key in one]:
            return [Change(f"{dotted}.order", list(one), list(two)), *_inner(dotted, one, two)]
        return _inner(dotted, one, two)
    both = isinstance(one, Mapping) and isinstance(two, Mapping)
    if both and one.get("kind") == two.get("kind"):
        return _inner(dotted, one, two)
    return [Change(dotted, one, two)]


def _inner(dotted: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> list[Change]:
    keys = [*one, *(key for key in two if key not in one)]
    found = []
    for key in keys:
        inner = f"{dotted}.{key}" if dotted else str(key)
        found += _compare(inner, one.get(key, OFF), two.get(key, OFF))
    return found


def _named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_item(item) for item in value)


def _is_item(item: Any) -> bool:
    return isinstance(item, Mapping) and "name" in item


def _by_kind(value: Any) -> dict[str, Any]:
    """A list of named items by kind; the second of a kind is `kind.2`. Nothing for `off`."""
    items: dict[str, Any] = {}
    for item in value if isinstance(value, list) else ():
        kind = str(item.get("kind", item["name"]))
        n = sum(key == kind or key.startswith(f"{kind}.") for key in items)
        body = {k: v for k, v in item.items() if k not in ("name", "kind")}
        items[f"{kind}.{n + 1}" if n else kind] = body
    return items


Stage = Mapping[str, Any]


def _compare_stages(one: Sequence[Stage], two: Sequence[Stage]) -> list[Change]:
    """Changes of stages: those that both have are paired by what they do, others are off or on."""
    if len(one) > len(two):
        turned = _compare_stages(two, one)
        return [Change(c.field, c.after, c.before) for c in turned]
    kept = _pair(one, two)
    added = [i for i in range(len(two)) if i not in kept]
    roles = _name_roles(two, added)
    names = {str(s["name"]): _place(at) for at, s in enumerate(one)}
    later = {str(two[i]["name"]): _place(at) for at, i in enumerate(kept)} | {
        str(two[i]["name"]): roles[i] for i in added
    }
    paired = [
        _compare("", _stage(a, names), _stage(two[i], later, roles.values()))
        for a, i in zip(one, kept, strict=True)
    ]
    changes = _merge(paired)
    for i in added:
        near = sum(k < i for k in kept)
        beside = one[min(near, len(one) - 1)] if near == 0 else one[near - 1]
        own = {c.field: c.after for c in _compare("", _stage(beside, {}), _stage(two[i], later))}
        follows = [s for s in two if s.get("start") == two[i]["name"] and s.get("transfer")]
        if follows:
            own["passes on"] = follows[0]["transfer"]
        changes.append(Change(f"stages.{roles[i]}", OFF, own or "the same again"))
    return changes


def _pair(one: Sequence[Stage], two: Sequence[Stage]) -> tuple[int, ...]:
    """Which stages of `two`, in order, are those of `one`: what they do first, then fields."""

    def cost(kept: tuple[int, ...]) -> tuple[int, int, int]:
        pairs = [(a, two[i]) for a, i in zip(one, kept, strict=True)]
        does = sum(_does(a) != _does(b) for a, b in pairs)
        fields = sum(len(_compare("", _stage(a, {}), _stage(b, {}))) for a, b in pairs)
        return does, fields, -sum(kept)

    return min(combinations(range(len(two)), len(one)), key=cost)


def _place(at: int) -> str:
    return f"stage {at + 1}"


def _does(stage: Stage) -> tuple[Any, ...]:
    return (stage.get("data") is not None, *(stage.get(role) is not None for role in _ROLES))


def _name_roles(stages: Sequence[Stage], added: Sequence[int]) -> dict[int, str]:
    """What each added stage is called: by what it does, with a number from the second on."""
    names: dict[int, str] = {}
    for i in added:
        role = next((r for r in _ROLES if stages[i].get(r) is not None), "")
        role = role or ("pretrain" if stages[i].get("data") is not None else "more")
        n = sum(name.split(".")[0] == role for name in names.values())
        names[i] = f"{role}.{n + 1}" if n else role
    return names


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
