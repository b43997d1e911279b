"""Five hundred cases of the bad input campaign; `make campaign` runs ten thousand."""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from badinput.campaign import KINDS, QUICK, SEED, Outcome, outcome_line, run_campaign, schedule
from badinput.report import read_outcomes, report_lines
from badinput.sandbox import Ended, Room, judge, run_case
from badinput.world import build_world
from badinput.zygote import Lacking

from birdlab.data.audio import decode
from birdlab.errors import AudioError, BirdlabError, DataError, LedgerError, SpecError
from birdlab.spec.yamlfile import load_yaml
from birdlab.study.ledger_csv import read_csv_table
from birdlab.upkeep.foreign_table import read_predictions

N_DEALT = 525


@pytest.fixture(scope="module")
def outcomes(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_demo: Path,
    abroad_demo: Path,
    sites: Path,
    hours: Path,
) -> list[Outcome]:
    """How the cases ended; a few that load a network are dealt and left to `make campaign`."""
    root = tmp_path_factory.mktemp("bad") / "world"
    made = {"tiny": tiny_demo, "abroad": abroad_demo, "sites": sites, "hours": hours}
    for name, folder in made.items():
        shutil.copytree(folder, root / "data" / name)
    return list(run_campaign(build_world(root), N_DEALT, quick=True))


@pytest.mark.parametrize(
    "kinds",
    [
        ("spec_text", "spec_value", "spec_base", "spec_set"),
        ("lab_text", "words"),
        ("table_year", "table_demo", "ledger", "foreign", "audio_build", "audio_predict"),
        ("record", "model", "archive"),
    ],
    ids=["specs", "lab_file_and_words", "tables_and_audio", "stores"],
)
def test_bad_input_ends_with_a_message_and_touches_nothing_else(
    outcomes: list[Outcome], kinds: tuple[str, ...]
) -> None:
    mine = [outcome for outcome in outcomes if outcome.kind in kinds]
    assert not any(o.ended.fault for o in mine), "\n".join(report_lines(mine, SEED))
    assert all(sum(o.kind == kind for o in mine) >= 15 for kind in kinds)
    assert {o.ended.code for o in mine} >= {0, 1}


def test_five_hundred_cases_are_tried(outcomes: list[Outcome]) -> None:
    assert len(outcomes) >= 500
    assert {outcome.kind for outcome in outcomes} == set(KINDS)
    assert {outcome.ended.code for outcome in outcomes} == {0, 1, 2}


def test_a_report_cut_by_a_kill_gives_its_table(tmp_path: Path) -> None:
    ended = Ended(("runs",), 1, 0.5, "", "error: no\n  fix: this")
    lines = [outcome_line(Outcome("record", n, ended)) for n in (2, 1, 3)]
    (tmp_path / "report.jsonl").write_text("".join(lines)[:-9])
    read = read_outcomes(tmp_path / "report.jsonl")
    assert read == [Outcome("record", 1, ended), Outcome("record", 2, ended)]
    assert "| record | 2 | 0 | 2 | 0 | 0 | 0.5 |" in report_lines(read, SEED)


def test_a_case_in_a_new_interpreter_is_held_to_the_same(tmp_path: Path) -> None:
    def build(room: Room) -> list[str]:
        (room.lab / "birdlab.toml").write_text("jobs = none\n")
        return ["runs"]

    ended = run_case(build, tmp_path, fresh=True)
    assert ended is not None and (ended.code, ended.fault) == (1, ""), ended
    assert "birdlab.toml" in ended.said
    outside = run_case(lambda room: ["init", "../lab2"], tmp_path, fresh=True)
    assert outside is not None and outside.fault.startswith("outside: "), outside


def test_a_case_that_imports_what_its_process_lacks_is_passed_on(tmp_path: Path) -> None:
    def build(room: Room) -> list[str]:
        importlib.import_module("badinput_lacks_this")
        return []

    finder = Lacking(frozenset(["badinput_lacks_this"]), forked=True)
    assert run_case(build, tmp_path, finder) is None


def test_a_campaign_has_every_kind_in_its_share() -> None:
    assert sum(share for _, share in KINDS.values()) == 100
    cases = schedule(200, 3)
    assert {kind: sum(k == kind for k, _ in cases) for kind in KINDS} == {
        kind: 2 * share for kind, (_, share) in KINDS.items()
    }
    assert cases == schedule(300, 3)[:200] != schedule(200, 4)
    assert QUICK.keys() == KINDS.keys() and sum(QUICK.values()) == 100
    assert min(QUICK.values()) * 500 // 100 >= 15


def test_a_ledger_that_is_no_plain_file_is_not_read() -> None:
    with pytest.raises(LedgerError, match="cannot be read"):
        read_csv_table(Path("/dev/zero"), "submissions")


def test_a_table_of_predictions_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "oof.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions(tmp_path / "oof.csv")


@pytest.mark.parametrize(
    ("code", "said", "fault"),
    [
        (0, "all is well", ""),
        (1, "error: no\n  fix: this", ""),
        (2, "Usage: ...", ""),
        (1, "error: no", "neither where"),
        (1, "Traceback (most recent call last)\nKeyError: 'a'\n", "traceback: KeyError"),
        (1, "KeyError: 'a'\n", "type name"),
        (3, "", "exit code 3"),
        (-11, "", "SIGSEGV"),
        (0, "\x1b[2J", "control character"),
        (0, "x" * 300_000, "output of"),
        (1, "error: no\n  fix: this" + "x" * 60_000, "output of"),
    ],
)
def test_what_is_a_fault(code: int, said: str, fault: str) -> None:
    assert fault in judge(code, said)
    assert bool(judge(code, said)) == bool(fault)


def test_a_spec_that_is_no_plain_file_is_not_read() -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        load_yaml(Path("/dev/zero"))


def test_a_rate_that_no_recording_has_is_not_resampled(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "slow.wav", np.full(90_000, 0.1), 7)
    with pytest.raises(AudioError, match="rate that no recording has"):
        decode(tmp_path / "slow.wav", 32_000)


def test_a_field_of_a_megabyte_is_not_printed_whole() -> None:
    said = str(DataError("no number", got="x" * 1_000_000, fix="shorten it"))
    assert len(said) < 3_000 and said.endswith("shorten it")
    assert "characters more" in said


def test_control_characters_of_a_file_reach_no_terminal() -> None:
    error = BirdlabError("a\x1b[31m", got="b\x00\x9b\r", fix="c\td")
    assert str(error) == "a\\x1b[31m\n  got:      b\\x00\\x9b\\x0d\n  fix:      c\td"
