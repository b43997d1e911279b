"""The history of aliases: one line for every move, appended and never rewritten."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Literal

from birdlab.errors import PromotionError
from birdlab.lab import Lab

HISTORY_FILE = "history.jsonl"
Kind = Literal["set", "rollback"]


@dataclass(frozen=True)
class AliasMove:
    """An alias, the model it went to, and the one it left ("" for none).

    version: `name/version` of the model in MLflow, "" for one that is not registered; at: UTC.
    """

    id: str
    at: str
    kind: Kind
    alias: str
    model: str
    before: str
    version: str = ""
    why: str = ""


def check_alias(alias: str) -> None:
    """Nothing; PromotionError for a word that is no alias."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", alias):
        raise PromotionError(
            "this is no alias", got=alias, expected="a letter, then letters, digits, - or _"
        )


def load_history(lab: Lab) -> list[AliasMove]:
    """Every move, oldest first; a last line that a kill cut off is passed over.

    Raises PromotionError for any other line that cannot be read.
    """
    path = lab.models / HISTORY_FILE
    content = path.read_bytes() if path.is_file() else b""
    moves = []
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break
        try:
            moves.append(AliasMove(**json.loads(line)))
        except (ValueError, TypeError) as error:
            raise PromotionError(
                "the history of aliases cannot be read",
                where=f"{path}:{number}",
                got=repr(error),
                fix="move this line away; aliases.json says what is in service",
            ) from None
    return moves


def check_history(lab: Lab) -> None:
    """Nothing; an OSError where no line can be added, PromotionError where one cannot be read."""
    load_history(lab)
    with (lab.models / HISTORY_FILE).open("ab"):
        pass


def append_history(lab: Lab, move: AliasMove) -> None:
    """Add a line; what a kill left of an earlier one is cut off."""
    path = lab.models / HISTORY_FILE
    with path.open("ab+") as file:
        file.seek(0)
        kept = file.read()
        if not kept.endswith(b"\n"):
            file.truncate(kept.rfind(b"\n") + 1)
        file.write(json.dumps(asdict(move)).encode() + b"\n")


def models_before(lab: Lab, alias: str, model: str) -> list[str]:
    """The models that were under the alias before `model` got there, the last one first.

    Rolling back goes back in time: what was rolled back does not come again.
    """
    under: list[str] = []
    for move in (move for move in load_history(lab) if move.alias == alias):
        if move.kind == "rollback":
            while under and under[-1] != move.model:
                under.pop()
        elif not under and move.before:
            under.append(move.before)
        if not under or under[-1] != move.model:
            under.append(move.model)
    return [name for name in dict.fromkeys(reversed(under)) if name != model]
