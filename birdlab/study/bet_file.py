"""The bets of a lab: `bets/<sweep>.jsonl`, a line for each time that they changed at a start.

The first start of a sweep settles its bets. What is claimed later beside them counts where its
arms have no score yet; the same claim once more never does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from birdlab.errors import LabError
from birdlab.lab import Lab
from birdlab.spec.bets import BetSpec, Expect, claim_key
from birdlab.spec.identity import canonical_json, digest
from birdlab.study.bets import PlacedBet

_BETS: TypeAdapter[tuple[BetSpec, ...]] = TypeAdapter(Expect)


def place_bets(lab: Lab, sweep: str, bets: Sequence[BetSpec], known: Iterable[str]) -> bool:
    """Note the bets of a sweep that starts; whether they differ from those noted last.

    known: its arms that have a score in the lab already, EVERYTHING where all may be known.
    """
    path = bets_path(lab, sweep)
    said = [bet.model_dump(mode="json", exclude_none=True) for bet in bets]
    key = digest(canonical_json(said), 12)
    lines = load_lines(path)
    if (not lines and not bets) or (lines and lines[-1]["digest"] == key):
        return False
    line = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "digest": key,
        "known": sorted(known),
        "bets": said,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    return True


def load_placed(lab: Lab, sweep: str) -> list[PlacedBet]:
    """The bets of a sweep as they were placed, each claim first as it was said first.

    Empty where none were noted. Raises LabError for a file that holds no bets.
    """
    placed: list[PlacedBet] = []
    seen: dict[str, set[float | None]] = {}
    for line in load_lines(bets_path(lab, sweep)):
        for bet in _BETS.validate_python(line["bets"]):
            key = claim_key(bet) if bet.kind else f"words {bet.text}"
            if bet.sure in seen.get(key, set()):
                continue
            placed.append(PlacedBet(bet, line["at"], frozenset(line["known"]), key in seen))
            seen.setdefault(key, set()).add(bet.sure)
    return placed


def bets_path(lab: Lab, sweep: str) -> Path:
    """Where the bets of a sweep are noted."""
    return lab.stores / "bets" / f"{sweep}.jsonl"


def load_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of bets, none where there is none; LabError for what holds no bets."""
    if not path.is_file():
        return []
    try:
        lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            _BETS.validate_python(line["bets"])
            str(line["at"]), str(line["digest"]), frozenset(line["known"])
    except (OSError, ValueError, LookupError, TypeError, ValidationError) as error:
        raise LabError(
            "the bets of a sweep cannot be read",
            where=str(path),
            got=type(error).__name__,
            fix="mend or delete the file; bets are noted anew at the next start, and count as late",
        ) from None
    return lines
