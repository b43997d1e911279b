"""Each error says what is expected or what to do: read from the source, as its page is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

from error_catalogue import Told, read_errors

DEMAND = re.compile(
    r"\b(needs|must be|not both|not allowed|at least|goes with|changes an experiment file)\b"
    r"|^(say|give|likeness is measured of)\b|: give it a name\b"
)
"""Words with which the message itself says what to do."""

NOT_FOR_PEOPLE = {"NeedsBuild", "LostWorkerError", "StoppedError"}
"""birdlab catches these itself: it builds, tries the cell again, or was told to stop."""

GATHERED = "<head>:\n<problems, ...>"
"""All problems of a file at once; each line of it has the allowed values."""

ONLY_A_CALLER = {
    # What a Python caller hands to a function; commands hand over what they checked or made.
    "primary and secondary labels differ in length",
    "the weights do not fit the members of the ensemble",
    "windows, their files and their classes do not fit",
    "the files of windows are not whole numbers",
    "windows are not sorted by file and time",
    "soundscape windows and their labels do not fit",
    "a pass gives no window",
    "a recording has no window",
    "a waveform holds samples that are not finite numbers",
    "there is no member to promote",
    "the file has no branch for a member",
    "there is no clip to calibrate on",
    "torch gave no ONNX program",
    "the weights to average are those of two different networks",
    "the likeness is no table of the candidates",
    "a combination has two scores of one cell",
    "a combination has no scores",
    "the combinations share no fold and seed",
    "the models of a run cut a file in different ways",
    "the comparison does not hold the run",
}
"""Messages that no input of a command leads to, as far as is known."""


def lacks_help(told: Told) -> bool:
    return not (
        told.helps
        or DEMAND.search(told.what)
        or told.kind in NOT_FOR_PEOPLE
        or told.what == GATHERED
        or told.what in ONLY_A_CALLER
    )


@pytest.fixture(scope="module")
def every() -> list[Told]:
    return read_errors()


def test_each_error_says_what_is_expected_or_what_to_do(every: list[Told]) -> None:
    assert len(every) > 600
    assert [f"{t.file}:{t.line} {t.what}" for t in every if lacks_help(t)] == []


def test_what_is_excused_is_still_without_help(every: list[Told]) -> None:
    without = [t for t in every if not t.helps]
    assert {t.what for t in without} >= ONLY_A_CALLER | {GATHERED}
    assert {t.kind for t in without} >= NOT_FOR_PEOPLE


@pytest.mark.parametrize(
    ("what", "lacks"),
    [
        ("the file is broken", True),
        ("the needles are gone", True),
        ("a comparison needs two runs", False),
        ("give one limit", False),
    ],
)
def test_the_rule_can_fail(what: str, lacks: bool) -> None:
    assert lacks_help(Told("LabError", "birdlab/lab.py", 1, what)) is lacks
    assert not lacks_help(Told("LabError", "birdlab/lab.py", 1, what, fix="type it again"))
