"""The leaderboard ledger: what it stores, refuses, survives and imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdlab.errors import LedgerError
from birdlab.study.ledger import (
    append_row,
    append_rows,
    load_ledger,
    retract_row,
    score_columns,
    select_rows,
    sort_by_date,
)

ROW = {"run": "0123456789ab", "metric": "padded_cmap", "source": "add", "public": 0.84}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "ledger.jsonl"


def test_a_row_comes_back(path: Path) -> None:
    assert load_ledger(path).empty and score_columns(load_ledger(path)) == []
    stored = append_row(path, {**ROW, "name": "<script>", "note": "é\nsecond line", "private": 0})
    append_row(path, {**ROW, "metric": "macro_auc", "other": {"late": 0.5}})
    table = load_ledger(path)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
    assert table.iloc[0].to_dict() == {**stored, "late": pytest.approx(float("nan"), nan_ok=True)}
    assert list(table.metric) == ["padded_cmap", "macro_auc"]
    assert score_columns(table) == ["public", "private", "late"]
    assert pd.isna(table.private[1]) and table.late[1] == 0.5


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=6, unique=True),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
@settings(max_examples=8, deadline=None)
def test_scores_are_stored_exactly(scores: list[float], name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        for score in scores:
            append_row(path, {**ROW, "public": score, "name": name})
        assert list(load_ledger(path).public) == scores


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"public": 84}, "write 0.84"),
        ({"public": -0.1}, "outside"),
        ({"public": float("nan")}, "outside"),
        ({"public": True}, "not a number"),
        ({"public": "0.84"}, "not a number"),
        ({"public": None}, "at least one score"),
        ({"metric": ""}, "needs a metric"),
        ({"run": " "}, "needs a run"),
        ({"source": "guess"}, "'add', 'score', 'import'"),
        ({"weights": "both"}, "'folds', 'full'"),
        ({"date": "yesterday"}, "not a date"),
        ({"privat": 0.5}, "privat"),
        ({"other": {"note": 0.5}}, "cannot have this name"),
        ({"other": {"late": 2.0}}, "late score is outside"),
        ({"other": 0.5}, "named scores"),
        ({"note": 3}, "not text"),
        ({"bundle": 3}, "not text"),
        ({"selected": "yes"}, "neither true nor false"),
        ({"members": []}, "not a list of runs"),
        ({"members": "ab"}, "not a list of runs"),
        ({"members": ["ab", "ab"]}, "named twice"),
        ({"other": {"selects": 0.5}}, "cannot have this name"),
    ],
)
def test_what_is_no_score_is_refused(path: Path, change: dict[str, object], says: str) -> None:
    with pytest.raises(LedgerError, match=says):
        append_row(path, {**ROW, **change})
    assert not path.exists()


OLD_LINE = (
    '{"id": "15c9ea4e2a64", "date": "2026-10-08T09:11:23.101010+00:00", "run": "77d99d5a41e2", '
    '"name": "lr=0.001", "public": 0.8123, "private": null, "metric": "padded_cmap", '
    '"source": "add", "note": "first", "weights": "folds"}\n'
)
"""As it was written before a row had members, checkpoint, bundle and the rest."""


def test_old_lines_stay_readable_and_count_as_what_they_say(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(OLD_LINE)
    (row,) = load_ledger(path).to_dict("records")
    assert (row["id"], row["public"], row["weights"]) == ("15c9ea4e2a64", 0.8123, "folds")
    assert (row["members"], row["selected"]) == (["77d99d5a41e2"], False)
    assert [row[key] for key in ("checkpoint", "postprocessing", "precision", "bundle")] == [""] * 4
    same = {k: v for k, v in json.loads(OLD_LINE).items() if k not in ("id", "date")}
    with pytest.raises(LedgerError, match="15c9ea4e2a64"):
        append_row(path, same)
    append_row(path, {**same, "precision": "bf16"})
    assert path.read_text().startswith(OLD_LINE) and len(load_ledger(path)) == 2


def test_final_submissions_are_selected_and_let_go(path: Path) -> None:
    one, two = append_rows(path, [{**ROW, "selected": True}, {**ROW, "public": 0.9}])
    assert list(load_ledger(path).selected) == [True, False]
    select_rows(path, [two["id"]])
    select_rows(path, [one["id"]], selected=False)
    table = load_ledger(path)
    assert list(table.id) == [one["id"], two["id"]] and list(table.selected) == [False, True]
    with pytest.raises(LedgerError, match="already in the ledger"):
        append_row(path, ROW)
    retract_row(path, two["id"])
    with pytest.raises(LedgerError, match="no standing"):
        select_rows(path, [one["id"], two["id"]])
    rows = [append_row(path, {**ROW, "note": f"row {i}"}) for i in range(17)]
    alike = next(a["id"][0] for a in rows if [b["id"][0] for b in rows].count(a["id"][0]) > 1)
    with pytest.raises(LedgerError, match="standing ledger rows have ids that begin so"):
        retract_row(path, alike)
    assert select_rows(path, [rows[0]["id"][:11]])[0]["selects"] == rows[0]["id"]
    for row in rows:
        assert retract_row(path, row["id"][:11])["tombstone_of"] == row["id"]
    assert list(load_ledger(path).selected) == [False]


def test_many_rows_are_one_write_or_none(path: Path) -> None:
    rows = [{**ROW, "public": i / 5000, "note": f"row {i}"} for i in range(5000)]
    assert len(append_rows(path, rows)) == 5000
    assert append_rows(path, rows, skip_known=True) == []
    assert len(load_ledger(path)) == 5000


def test_rows_are_stored_all_or_none(path: Path) -> None:
    rows = append_rows(path, [{**ROW, "note": f"row {i}"} for i in range(3)])
    rows[0] = {k: v for k, v in rows[0].items() if k != "id"}
    before = path.read_bytes()
    new = {**ROW, "note": "new"}
    for bad in ([new, {**ROW, "public": 2}], [new, rows[0]], [new, new], [new, {"selects": "no"}]):
        with pytest.raises(LedgerError):
            append_rows(path, bad)
        assert path.read_bytes() == before
    assert len(append_rows(path, [new, rows[0], new], skip_known=True)) == 1


def test_the_same_score_twice_is_refused(path: Path) -> None:
    first = append_row(path, ROW)
    with pytest.raises(LedgerError, match=first["id"]):
        append_row(path, ROW)
    append_row(path, {**ROW, "note": "second submission"})
    append_row(path, {**ROW, "metric": "macro_auc"})
    assert len(load_ledger(path)) == 3


def test_a_withdrawn_row_is_gone_and_may_return(path: Path) -> None:
    first = append_row(path, ROW)
    retract_row(path, first["id"], "typo")
    assert load_ledger(path).empty
    with pytest.raises(LedgerError, match="no standing"):
        retract_row(path, first["id"])
    again = append_row(path, ROW)
    assert again["id"] != first["id"] and list(load_ledger(path).id) == [again["id"]]
    assert len(path.read_text().splitlines()) == 3


def test_a_withdrawn_row_of_a_known_date_may_return(path: Path) -> None:
    """As when a table of submissions, which has their dates, is imported again."""
    dated = {**ROW, "date": "2025-04-01"}
    for standing in (1, 2, 3):
        row = append_row(path, dated)
        assert list(load_ledger(path).id) == [row["id"]], standing
        retract_row(path, row["id"])
    assert load_ledger(path).empty


def test_the_newest_row_is_that_of_the_latest_submission(path: Path) -> None:
    dates = ["2025-04-02 10:00:00", "2025-04-01T23:00:00+00:00", "2025-04-02T11:00:00+02:00"]
    append_rows(path, [{**ROW, "note": date, "date": date} for date in dates])
    assert list(sort_by_date(load_ledger(path)).note) == [dates[1], dates[2], dates[0]]
    assert sort_by_date(load_ledger(path.with_name("none"))).empty


def test_a_torn_last_line_is_reported(path: Path) -> None:
    append_row(path, ROW)
    append_row(path, {**ROW, "public": 0.9})
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    for call in (lambda: load_ledger(path), lambda: append_row(path, {**ROW, "public": 0.7})):
        with pytest.raises(LedgerError) as raised:
            call()
        assert f"{path}:2" in str(raised.value) and "delete that line" in str(raised.value)
    assert path.read_bytes() == whole[:-30], "nothing may be glued to a torn line"


def test_a_missing_newline_alone_is_mended_by_the_next_row(path: Path) -> None:
    append_row(path, ROW)
    path.write_bytes(path.read_bytes()[:-1])
    assert len(load_ledger(path)) == 1
    append_row(path, {**ROW, "public": 0.9})
    assert list(load_ledger(path).public) == [0.84, 0.9]
    assert path.read_bytes().endswith(b"\n")


@pytest.mark.parametrize("line", ["not json", "[1]", '{"run": "x"}', '{"id": "a", "public": 3}'])
def test_a_line_that_is_no_row_is_named(path: Path, line: str) -> None:
    append_row(path, ROW)
    path.write_text(line + "\n" + path.read_text())
    with pytest.raises(LedgerError, match=r"ledger\.jsonl:1"):
        load_ledger(path)


def test_a_merge_that_repeats_a_line_counts_it_once(path: Path) -> None:
    append_row(path, ROW)
    line = path.read_text()
    path.write_text(line + "\n" + line)
    assert len(load_ledger(path)) == 1
    path.write_text(line + json.dumps({**json.loads(line), "public": 0.1}) + "\n")
    with pytest.raises(LedgerError, match="one id"):
        load_ledger(path)


def test_a_full_disk_leaves_the_ledger_as_it_was(path: Path) -> None:
    append_row(path, ROW)
    before = path.read_bytes()
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from birdlab.study.ledger import append_row\n"
        "from birdlab.errors import LedgerError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) + 40}, {len(before) + 40}))\n"
        "try:\n"
        f"    append_row(Path({str(path)!r}), {dict(ROW, public=0.5)!r})\n"
        "except LedgerError as error:\n"
        "    sys.exit(7 if 'not stored' in str(error) else 1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=_environment(), check=False)
    assert done.returncode == 7
    assert path.read_bytes() == before


def test_writers_at_the_same_time_lose_nothing(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from birdlab.study.ledger import append_row\n"
        "for i in range(15):\n"
        f"    append_row(Path({str(path)!r}), dict({ROW!r}, note=sys.argv[1] + str(i)))\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", code, name], env=_environment()) for name in "ab"
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    assert len(load_ledger(path)) == 30


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def test_undecodable_text_is_refused(path: Path) -> None:
    with pytest.raises(LedgerError, match="no text"):
        append_row(path, {**ROW, "note": os.fsdecode(b"caf\xe9")})
