"""Label suspects: what is listed and what is not, when there is no evidence, and the command."""

from __future__ import annotations

from birdlab.study.suspects import COLUMNS, find_suspects


def test_no_run_is_no_evidence() -> None:
    found = find_suspects({})
    assert not found.enough and found.table.empty and list(found.table) == list(COLUMNS)
    assert found.sentences[0].startswith("Not enough evidence for label suspects: 0 of at least 3")
