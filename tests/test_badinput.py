"""Five hundred cases of the bad input campaign; `make campaign` runs ten thousand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from badinput.campaign import KINDS, QUICK, SEED, run_campaign, schedule
from badinput.report import report_lines
from badinput.sandbox import judge
from badinput.world import build_world

from birdlab.data.audio import decode
from birdlab.errors import AudioError, BirdlabError, DataError, LedgerError, SpecError
from birdlab.spec.yamlfile import load_yaml
from birdlab.study.ledger_csv import read_csv_table
from birdlab.upkeep.foreign_table import read_predictions

N_CASES = 500


@pytest.mark.slow
def test_bad_input_ends_with_a_message_and_touches_nothing_else(tmp_path: Path) -> None:
    outcomes = list(run_campaign(build_world(tmp_path / "world"), N_CASES, quick=True))
    shutil.rmtree(tmp_path / "world")
    assert len(outcomes) == N_CASES
    faults = [outcome for outcome in outcomes if outcome.ended.fault]
    assert not faults, "\n".join(report_lines(outcomes, SEED))
    assert {o.ended.code for o in outcomes} == {0, 1, 2}


def test_a_campaign_has_every_kind_in_its_share() -> None:
    assert sum(share for _, share in KINDS.values()) == 100
    cases = schedule(200, 3)
    assert {kind: sum(k == kind for k, _ in cases) for kind in KINDS} == {
        kind: 2 * share for kind, (_, share) in KINDS.items()
    }
    assert cases == schedule(300, 3)[:200] != schedule(200, 4)
    assert QUICK.keys() == KINDS.keys() and sum(QUICK.values()) == 100
    assert min(QUICK.values()) * N_CASES // 100 >= 15


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
