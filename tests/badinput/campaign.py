"""The kinds of cases, how a case follows from its seed, and runs of many of them side by side."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path

from . import audio, specs, stores, tables
from .sandbox import Ended, Room, run_case
from .values import keep_values
from .world import REPOSITORY, World

SEED = 10
Kind = Callable[[Room, World, random.Random, int], list[str]]

KINDS: dict[str, tuple[Kind, int]] = {
    "spec_text": (specs.spec_text, 18),
    "spec_value": (specs.spec_value, 18),
    "spec_base": (specs.spec_base, 5),
    "spec_set": (specs.spec_set, 5),
    "lab_text": (specs.lab_text, 8),
    "table_year": (tables.table_year, 8),
    "table_demo": (tables.table_demo, 7),
    "ledger": (tables.ledger, 5),
    "foreign": (tables.foreign, 2),
    "audio_build": (audio.audio_build, 7),
    "audio_predict": (audio.audio_predict, 5),
    "record": (stores.record, 5),
    "model": (stores.model, 3),
    "archive": (stores.archive, 2),
    "words": (stores.words, 2),
}
"""Kinds of cases and how many of a hundred are of each."""

QUICK = {
    "spec_text": 8, "spec_value": 8, "spec_base": 5, "spec_set": 13, "lab_text": 18,
    "table_year": 3, "table_demo": 3, "ledger": 10, "foreign": 3, "audio_build": 3,
    "audio_predict": 3, "record": 4, "model": 4, "archive": 3, "words": 12,
}  # fmt: skip
"""How many of a hundred are of each kind in `make test`: more of those that take less time."""


@dataclass(frozen=True)
class Outcome:
    """A case by kind and number, and how it ended."""

    kind: str
    number: int
    ended: Ended

    @property
    def name(self) -> str:
        """What `--case` takes."""
        return f"{self.kind}:{self.number}"


def outcome_line(outcome: Outcome) -> str:
    """An outcome as a line of JSON, as workers print it and reports keep it."""
    return json.dumps(asdict(outcome)) + "\n"


def read_outcome(line: str) -> Outcome:
    """The outcome that such a line holds."""
    said = json.loads(line)
    ended = said["ended"]
    return Outcome(said["kind"], said["number"], Ended(**{**ended, "argv": tuple(ended["argv"])}))


def schedule(n: int, seed: int, quick: bool = False) -> list[tuple[str, int]]:
    """Kind and number of `n` cases: every kind in its share, in an order that the seed gives.

    quick: in the shares of QUICK.
    """
    shares = QUICK if quick else {kind: share for kind, (_, share) in KINDS.items()}
    deck = [kind for kind, share in shares.items() for _ in range(share)]
    cases: list[str] = []
    for hand in range(-(-n // len(deck))):
        dealt = list(deck)
        random.Random(f"{seed}:deck:{hand}").shuffle(dealt)
        cases += dealt
    return [(kind, number) for number, kind in enumerate(cases[:n])]


def run_one(
    kind: str,
    number: int,
    seed: int,
    world: World,
    folder: Path,
    finder: MetaPathFinder | None = None,
    fresh: bool = False,
) -> Outcome | None:
    """A case as its kind, number and the seed of its campaign make it; None: see run_case.

    One that hangs is run once more, since on a busy machine it may only have waited.
    """
    build = KINDS[kind][0]

    def make(room: Room) -> list[str]:
        return build(room, world, random.Random(f"{seed}:{kind}:{number}"), seed)

    ended = run_case(make, folder, finder, fresh)
    if ended is not None and ended.fault.startswith("hang"):
        ended = run_case(make, folder, finder, fresh)
    return ended and Outcome(kind, number, ended)


def run_campaign(
    world: World, n: int, seed: int = SEED, jobs: int = 1, quick: bool = False
) -> Iterator[Outcome]:
    """The outcomes of `n` cases as they come, from `jobs` processes that fork for each case."""
    keep_values(world.root, seed)
    command = [sys.executable, "-m", "tests.badinput", "--world", str(world.root)]
    command += ["--n", str(n), "--seed", str(seed), *(["--quick"] if quick else [])]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    [*command, "--part", f"{part}/{jobs}"],
                    stdout=subprocess.PIPE,
                    text=True,
                    cwd=REPOSITORY,
                )
            )
            for part in range(jobs)
        ]
        stack.callback(lambda: [worker.terminate() for worker in workers])
        yield from _read(workers)


def _read(workers: list[subprocess.Popen[str]]) -> Iterator[Outcome]:
    import select

    open_ones = {worker.stdout.fileno(): worker for worker in workers if worker.stdout}
    poll = select.poll()
    for handle in open_ones:
        poll.register(handle, select.POLLIN | select.POLLHUP)
    while open_ones:
        for handle, _ in poll.poll():
            worker = open_ones[handle]
            line = worker.stdout.readline()  # type: ignore[union-attr]
            if line:
                yield read_outcome(line)
                continue
            poll.unregister(handle)
            del open_ones[handle]
            if worker.wait():
                raise RuntimeError("a worker of the campaign failed; see above")


def time_left(began: float, done: int, n: int) -> float:
    """The seconds that the rest takes if it goes on as it went."""
    return (time.monotonic() - began) / max(1, done) * (n - done)
