"""What one resolved experiment changes about another, however either of them was written.

Names that an author chose do not count: augmentations go by their kind, stages by what they do,
data sets by what they are to the experiment.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from birdlab.errors import BirdlabError
from birdlab.spec.base import canonical
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.field_changes import Change, compare_fields
from birdlab.spec.identity import canonical_json
from birdlab.spec.parts import EvaluateSpec
from birdlab.spec.stage_changes import compare_stages

OWN = "<base>"
"""Stands for the experiment's own base data set, so that an idea crosses data sets."""
_DATA = frozenset({"data", "extra", "noise", "soundscapes", "backgrounds", "tables"})
"""Fields that hold names of data sets."""
_LABELS = ExperimentSpec.not_in_identity
_BESIDE = EvaluateSpec.not_in_identity | {"soundscapes", "synthetic"}
"""Fields of `evaluate` that say what is scored beside the folds."""


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
    changes = [*compare_fields("", one, two), *compare_stages(*stages)]
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
