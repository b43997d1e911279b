"""What a person sees while cells run: lines where there is no terminal."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import typer

from birdlab.cli.progress import CellProgress, in_time
from birdlab.sed.epochs import EpochReport
from birdlab.tasks import Event


def epoch(number: int, n: int = 30, **more: Any) -> Event:
    report = EpochReport(number, n, 0.0123, 1e-3, 210.4, 0.021, **more)
    return Event("epoch", "abc", asdict(report))


def begin(shown: CellProgress) -> None:
    shown.event(Event("queued", "abc", {"title": "base: train, fold 0, seed 0"}))
    shown.event(Event("start", "abc", {"epochs": 30, "steps": 300, "title": "train"}))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_a_line_says_loss_rate_waiting_best_and_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with CellProgress() as shown:
        begin(shown)
        shown.event(epoch(0, best=0.4321, best_epoch=0, seconds_left=750.0))
    assert capsys.readouterr().err.splitlines() == [
        "base: train, fold 0, seed 0: epoch 1/30  loss 0.0123  210 clips/s  waited 2%  "
        "best 0.4321 (epoch 1)  12 min left"
    ]


def test_without_a_terminal_lines_come_every_few_seconds(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    clock[0] = 100.0
    with CellProgress() as shown:
        begin(shown)
        for number in range(30):
            clock[0] += 2.0
            shown.event(epoch(number))
    lines = capsys.readouterr().err.splitlines()
    told = [int(line.split("epoch ")[1].split("/")[0]) for line in lines]
    assert told == [1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 30]


def test_slow_epochs_are_told_one_by_one(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    clock[0] = 100.0
    with CellProgress() as shown:
        begin(shown)
        for number in range(4):
            clock[0] += 600.0
            shown.event(epoch(number))
    assert len(capsys.readouterr().err.splitlines()) == 4


def test_a_stopped_command_says_where_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, CellProgress() as shown:
        begin(shown)
        shown.event(Event("resume", "abc", {"epoch": 2, "epochs": 30}))
        shown.event(Event("stopped", "abc", {"at": "epoch 3 of 30"}))
        raise KeyboardInterrupt
    assert caught.value.exit_code == 130
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "base: train, fold 0, seed 0: goes on at epoch 3/30"
    assert lines[1] == "saved: base: train, fold 0, seed 0; continues from epoch 3 of 30"
    assert "the same command continues" in lines[2]


def test_time_left_does_not_count_what_was_done_before(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with CellProgress() as shown:
        begin(shown)
        shown.event(Event("queued", "other", {"title": "fold 1"}))
        shown.event(Event("resume", "abc", {"epoch": 15, "epochs": 30}))
        clock[0] = 60.0
        shown.event(Event("done", "abc"))
    # One half of a cell took a minute, and one whole cell is left.
    assert "[1/2] about 2 min left done: base" in capsys.readouterr().err


def test_cells_that_are_only_heard_once_more_count_as_done(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    with CellProgress() as shown:
        begin(shown)
        shown.event(Event("queued", "heard", {"title": "fold 1"}))
        clock[0] = 60.0
        shown.event(Event("done", "heard"))
        shown.event(Event("done", "abc"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[-2:] == [
        "[1/2] about 60 s left done: fold 1",
        "[2/2] done: base: train, fold 0, seed 0",
    ]


@pytest.mark.parametrize(
    ("seconds", "words"), [(40, "40 s"), (90, "90 s"), (750, "12 min"), (12_600, "3.5 h")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_time(seconds) == words


def test_a_step_that_is_done_once_more_begins_anew(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    clock[0] = 100.0
    with CellProgress() as shown:
        for _ in range(2):
            clock[0] += 1000.0
            for done in (1, 2, 4):
                shown.step("listening", done, 4)
                clock[0] += 20.0
    once = ["listening: 1/4", "listening: 2/4, about 20 s left", "listening: 4/4"]
    assert capsys.readouterr().err.splitlines() == once * 2
