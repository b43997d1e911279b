"""Passes member by member until the time is up: whole members or none of them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from birdlab.errors import PredictError
from birdlab.infer.card import ModelCard
from birdlab.infer.job import Plan
from birdlab.infer.passes import Engine, run_pass
from birdlab.infer.progress import Progress, as_time
from birdlab.infer.rows import count_heard
from birdlab.infer.store import WorkStore

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_TIME = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")

PROBE_SHARE, PROBE_AT_MOST = 0.02, 0.1
"""A member is given up for its speed only after the first share of the time and of the windows,
or after the second of the time."""
TOLERANCE, CAUTION = 1.1, 0.9
"""A member is given up when its forecast is beyond this share of the time left: the first batches
are the slow ones; but while no member has finished, and others may be faster, one that would just
make it is put off."""


def read_seconds(text: str) -> float:
    """The seconds that `110m`, `6600s`, `6600`, `1h50m` or `1.5h` mean; PredictError for others."""
    match = _TIME.fullmatch(text.strip().lower())
    parts = match.groups() if match else (None, None, None)
    seconds = sum(
        float(part) * unit for part, unit in zip(parts, _UNITS.values(), strict=True) if part
    )
    if not seconds > 0:
        raise PredictError(
            "a length of time that cannot be read",
            got=text,
            expected="a time above 0 such as 110m, 1h50m or 6600s",
        )
    return seconds


def order_members(card: ModelCard) -> list[int]:
    """The members that count, the one of the highest weight first; of equal ones the faster."""

    def urgency(i: int) -> tuple[float, float, int]:
        member = card.members[i]
        return -member.weight, member.ms_per_window or float("inf"), i

    counting = [i for i, member in enumerate(card.members) if member.weight > 0]
    return sorted(counting, key=urgency)


@dataclass(frozen=True)
class MemberEnd:
    """How far a member came: whether it heard every window, in how long, else why not."""

    member: int
    name: str
    backbone: str
    finished: bool
    n_windows: int
    seconds: float
    reason: str = ""


@dataclass(eq=False)
class Timer:
    """What is left of the time: seconds since `began`, and what is kept back for writing.

    `writes`: for how many times of writing the CSV there must be room at the end.
    """

    deadline_s: float
    began: float
    writes: int = 2
    reserve_s: float = 0.0
    clock: Callable[[], float] = time.monotonic

    def left_s(self) -> float:
        """The seconds left to hear windows in."""
        return self.deadline_s - (self.clock() - self.began) - self.reserve_s

    def hold_back(self, write_s: float) -> None:
        """Keep room for writing, which took `write_s` this time."""
        self.reserve_s = max(self.reserve_s, self.writes * write_s)


@dataclass(eq=False)
class Race:
    """The members of a model against the time."""

    plan: Plan
    engine: Engine
    store: WorkStore
    card: ModelCard
    timer: Timer
    progress: Progress
    seconds_per_input: dict[int, float] = field(default_factory=dict)
    spent_s: dict[int, float] = field(default_factory=dict)

    def run(self, publish: Callable[[Sequence[int]], float]) -> list[MemberEnd]:
        """How each member ended. `publish(members)` writes the blend of all that finished so far,
        after each, and gives the seconds it took.

        If no member can finish, the one that comes farthest goes on until the time is up; its
        windows count as they are, and the caller says so.
        """
        ends: dict[int, MemberEnd] = {}
        finished: list[int] = []

        def hear(member: int, allowance: float | None) -> None:
            ends[member] = self._end(member, self._hear(member, allowance))
            if ends[member].finished:
                finished.append(member)
                self.timer.hold_back(publish(finished))

        order = order_members(self.card)
        for member in order:
            hear(member, TOLERANCE if finished or member == order[-1] else CAUTION)
        for member in order:
            forecast_s = self._forecast_s(member) or 0.0
            if member not in finished and 0 < forecast_s <= self.timer.left_s() * TOLERANCE:
                hear(member, TOLERANCE)
        if not finished:
            hear(min(order, key=lambda m: self._forecast_s(m) or float("inf")), None)
        return list(ends.values())

    def _end(self, member: int, reason: str) -> MemberEnd:
        heard = count_heard(self.store, self.store.members[member].n_rows)
        spent = self.spent_s.get(member, 0.0)
        card = self.card.members[member]
        return MemberEnd(member, card.name, card.backbone, not reason, heard, spent, reason)

    def _hear(self, member: int, allowance: float | None) -> str:
        """Why the member did not hear every window; nothing when it did.

        It is given up when its forecast is beyond `allowance` times the time left; None: never.
        """
        if self.store.is_whole(member, len(self.plan.course.files)):
            return ""
        clock, began = self.timer.clock, self.timer.clock()
        first = self.store.members[member].n_rows
        forecast_s, left_s = self._forecast_s(member), self.timer.left_s()
        if allowance is not None and forecast_s is not None and forecast_s > left_s * allowance:
            return _too_slow(forecast_s, left_s)
        self.progress.begin(first)
        reason, last = "", began
        since, n_since = began, first

        def go_on(done: int) -> bool:
            nonlocal reason, last, since, n_since
            now = clock()
            batch_s, last = now - last, now
            self.seconds_per_input[member] = (now - since) / (done - n_since)
            waited = n_since == first  # for the first file to be decoded, which tells no speed
            if waited:
                since, n_since = now, done
            self.progress.update(self._title(member), done, self.plan.n_inputs)
            left_s = self.timer.left_s()
            forecast_s = self._forecast_s(member) or 0.0
            time_share = (now - began) / self.timer.deadline_s
            probed = (
                not waited
                and time_share >= PROBE_SHARE
                and (
                    (done - first) / self.plan.n_inputs >= PROBE_SHARE
                    or time_share >= PROBE_AT_MOST
                )
            )
            if left_s <= batch_s:
                reason = "the time was up"
            elif allowance is not None and probed and forecast_s > left_s * allowance:
                reason = _too_slow(forecast_s, left_s)
            return not reason

        if left_s <= 0:
            return "the time was up"
        whole = run_pass(self.plan.course, self.engine, self.store, [member], go_on)
        self.spent_s[member] = self.spent_s.get(member, 0.0) + clock() - began
        return "" if whole else reason

    def _title(self, member: int) -> str:
        return f"member {member + 1} of {len(self.card.members)}"

    def _forecast_s(self, member: int) -> float | None:
        """How long the member would still take, from its own speed or that of another; None if
        nothing is known."""
        left = max(0, self.plan.n_inputs - self.store.members[member].n_rows)
        if member in self.seconds_per_input:
            return self.seconds_per_input[member] * left
        ms = self.card.members[member].ms_per_window
        for other, seconds in self.seconds_per_input.items():
            other_ms = self.card.members[other].ms_per_window
            if ms and other_ms:
                return seconds * ms / other_ms * left
        return None


def _too_slow(forecast_s: float, left_s: float) -> str:
    return f"it would take {as_time(forecast_s)} more, and {as_time(max(0, left_s))} were left"
