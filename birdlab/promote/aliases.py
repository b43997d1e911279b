"""Which model is in service: aliases in the lab and in MLflow, moved together or not at all.

`models/aliases.json` says what is in service, and prediction reads nothing else. An alias moves in
MLflow first and in that file last; its replacement is the moment that counts. What is under way is
noted in `models/moving.json` before, so that whoever comes after a kill brings MLflow to what the
file says. `models/history.jsonl` gets a line for every move and is never rewritten.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from filelock import FileLock

from birdlab.errors import PromotionError, TrackingError
from birdlab.infer.models import ALIASES_FILE, load_aliases, load_promoted
from birdlab.lab import Lab, write_whole
from birdlab.promote.history import (
    AliasMove,
    Kind,
    append_history,
    check_alias,
    check_history,
    load_history,
)
from birdlab.recorded import load_json

MOVING_FILE = "moving.json"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Begun:
    """A move that was begun: the versions of the registered model `name` that it goes to and from.

    name: "" where MLflow has no part in it; from_version: None for no such alias; is_known: whether
    MLflow could be asked what from_version is.
    """

    move: AliasMove
    name: str
    to_version: str
    from_version: str | None = None
    is_known: bool = True


def move_alias(
    lab: Lab,
    alias: str,
    model: str,
    *,
    why: str = "",
    kind: Kind = "set",
    without_mlflow: bool = False,
    tell: Tell = lambda _: None,
) -> AliasMove:
    """Put a promoted model under an alias: in MLflow, where it is registered, and then in the lab.

    Whatever fails leaves the earlier model in service in both; after a kill the next command sees
    to it. With `without_mlflow` the lab goes ahead where MLflow cannot be reached, which follows
    later, or refuses; this is told. Raises PromotionError for a model that is not whole and where
    MLflow refuses, TrackingError where it cannot be reached.
    """
    check_alias(alias)
    with _locked(lab):
        _settle(lab, tell)
        move = _planned(lab, alias, model, kind, why)
        try:
            check_history(lab)
            follows = _move_in_mlflow(lab, move, without_mlflow, tell)
            _write_alias(lab, move)
            append_history(lab, move)
            if follows:
                _note(lab, alias, None)
        except BaseException as error:
            with suppress(OSError):  # a disk that is full is so here too: the next command settles
                _settle(lab, tell)
            if isinstance(error, OSError):
                raise PromotionError(
                    "the alias cannot be moved",
                    where=str(lab.models),
                    got=error,
                    fix="mend what `got` says and type the command again",
                ) from None
            raise
    return move


def _planned(lab: Lab, alias: str, model: str, kind: Kind, why: str) -> AliasMove:
    """The move as the history will have it; PromotionError where the model's file is gone."""
    promoted = load_promoted(lab.models, model)
    if not promoted.path.is_file():
        raise PromotionError(
            "the file of the model is gone", where=str(promoted.path), fix="promote it again"
        )
    return AliasMove(
        id=uuid.uuid4().hex,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        kind=kind,
        alias=alias,
        model=model,
        before=load_aliases(lab.models).get(alias, ""),
        version=promoted.version,
        why=why,
    )


def settle_aliases(lab: Lab, tell: Tell) -> None:
    """Bring MLflow's aliases to what the lab says, where a move was cut short; else do nothing."""
    if (lab.models / MOVING_FILE).is_file():
        with _locked(lab):
            _settle(lab, tell)


@contextmanager
def _locked(lab: Lab) -> Iterator[None]:
    lab.models.mkdir(parents=True, exist_ok=True)
    with FileLock(lab.models / "aliases.lock"):
        yield


def _move_in_mlflow(lab: Lab, move: AliasMove, without: bool, tell: Tell) -> bool:
    """Note the move, then make it in MLflow; whether MLflow has nothing left to follow."""
    name, _, version = move.version.rpartition("/")
    if not name:
        _note(lab, move.alias, _Begun(move, "", ""))
        tell(f"{move.model} is not registered: MLflow's @{move.alias} stays where it is.")
        return True
    from birdlab.promote.registry import alias_version, point_alias

    try:
        before = alias_version(lab, name, move.alias)
        _note(lab, move.alias, _Begun(move, name, version, before))
        point_alias(lab, name, move.alias, version)
    except TrackingError as error:
        if not without:
            raise
        _note(lab, move.alias, _Begun(move, name, version, is_known=False))
        tell(f"MLflow cannot be reached ({error.got}): its @{move.alias} follows later.")
        return False
    except PromotionError as error:
        if not without:
            raise
        _note(lab, move.alias, _Begun(move, "", ""))
        tell(f"MLflow refuses ({error.got}): its @{move.alias} stays where it is.")
    return True


def _write_alias(lab: Lab, move: AliasMove) -> None:
    aliases = load_aliases(lab.models) | {move.alias: move.model}
    write_whole(lab.models / ALIASES_FILE, json.dumps(aliases, indent=1))


def _begun(lab: Lab) -> dict[str, _Begun]:
    """The moves that were begun and not ended, by alias."""
    path = lab.models / MOVING_FILE
    if not path.is_file():
        return {}
    fix = "remove the file, then: birdlab models alias MODEL ALIAS"
    found = load_json(path, fix)
    try:
        return {
            alias: _Begun(**{**entry, "move": AliasMove(**entry["move"])})
            for alias, entry in found.items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise PromotionError(
            "what was begun to be moved cannot be read", where=str(path), got=repr(error), fix=fix
        ) from None


def _note(lab: Lab, alias: str, begun: _Begun | None) -> None:
    """Write down that a move was begun; None: that it ended."""
    entries: dict[str, Any] = {name: asdict(entry) for name, entry in _begun(lab).items()}
    entries.pop(alias, None)
    if begun is not None:
        entries[alias] = asdict(begun)
    path = lab.models / MOVING_FILE
    if entries:
        write_whole(path, json.dumps(entries, indent=1))
    else:
        path.unlink(missing_ok=True)


def _settle(lab: Lab, tell: Tell) -> None:
    """End what was begun: the lab's aliases say which way."""
    for alias, begun in _begun(lab).items():
        is_done = load_aliases(lab.models).get(alias) == begun.move.model
        if begun.name and (is_done or begun.is_known) and not _follow(lab, begun, is_done, tell):
            continue
        if is_done and begun.move.id not in {line.id for line in load_history(lab)}:
            append_history(lab, begun.move)
        _note(lab, alias, None)


def _follow(lab: Lab, begun: _Begun, is_done: bool, tell: Tell) -> bool:
    """Put MLflow's alias where the lab's is; False where MLflow cannot be reached.

    One that somebody else moved meanwhile is left alone.
    """
    from birdlab.promote.registry import alias_version, point_alias

    alias, wanted = begun.move.alias, begun.to_version if is_done else begun.from_version
    try:
        now = alias_version(lab, begun.name, alias)
        if now != wanted and (now in (begun.to_version, begun.from_version) or not begun.is_known):
            point_alias(lab, begun.name, alias, wanted)
            where = "away" if wanted is None else f"to version {wanted}"
            tell(f"MLflow's @{alias} of {begun.name} was put {where}, as in the lab.")
    except TrackingError as error:
        tell(f"MLflow's @{alias} does not follow the lab's yet: {error.got}")
        return False
    except PromotionError as error:
        tell(f"MLflow's @{alias} does not follow the lab's, MLflow refuses: {error.got}")
    return True
