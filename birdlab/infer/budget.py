"""What a submission takes on a machine that was measured: minutes, by part, against the limit."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from birdlab.errors import PredictError
from birdlab.evaluate.passes import count_passes
from birdlab.infer.jsontext import parse_json

FORMAT = 1
"""Of a machine file; raised when its numbers come to mean something else."""
MARGIN = 0.2
"""The share that is kept free: predictions hold to 20 %, and machines of one kind differ."""


@dataclass(frozen=True)
class Workload:
    """The soundscapes of a competition and the minutes that it gives for them.

    hop_s: seconds from one window to the next; None for windows one after the other.
    """

    files: int
    file_minutes: float
    limit_minutes: float
    name: str = ""
    hop_s: float | None = None

    def __post_init__(self) -> None:
        numbers = self.files, self.file_minutes, self.limit_minutes
        if not all(math.isfinite(n) and n > 0 for n in numbers):
            raise PredictError(
                "a workload needs files, their length and a limit",
                got=f"{self.files} files of {self.file_minutes:g} min, limit "
                f"{self.limit_minutes:g} min",
                expected="numbers above 0",
            )

    def count_windows(self, window_s: float, per_pass: int = 1) -> int:
        """The windows of all files, those between them too; the last of a file may be cut short.

        Each pass counts as `per_pass` windows, also where the last of a file has fewer.
        """
        each = max(1, math.ceil(round(self.file_minutes * 60 / window_s, 6)))
        hops = 1 if self.hop_s is None else round(window_s / self.hop_s)
        return self.files * count_passes((each - 1) * hops + 1, per_pass, hops) * per_pass


@dataclass(frozen=True)
class BudgetLine:
    """The minutes of a submission by part; `member_minutes` in the order of the members.

    `total_minutes` is what the clock should show, `margin` the share that is kept free on top.
    """

    decode_minutes: float
    mel_minutes: float
    member_minutes: tuple[float, ...]
    startup_minutes: float
    total_minutes: float
    margin: float
    limit_minutes: float

    @property
    def needed_minutes(self) -> float:
        """The total with its margin: what must lie within the limit."""
        return self.total_minutes * (1 + self.margin)

    @property
    def fits(self) -> bool:
        """Whether the total and its margin lie within the limit."""
        return self.needed_minutes <= self.limit_minutes


def predict_minutes(
    machine: Mapping[str, Any],
    workload: Workload,
    members: Sequence[int] | None = None,
    *,
    cores: int | None = None,
    margin: float = MARGIN,
) -> BudgetLine:
    """What a submission of some `members` (places; default all) takes on a measured machine.

    All cores work all the time, on sound or in the network, so that their seconds add up and are
    divided by `cores` (default: those that were measured; more or fewer is a guess that they are
    alike). `crowding` is how much more of a core a window takes when all work than when one does.
    Files above `decoded_once_minutes` are decoded twice. PredictError for a member that the
    machine file does not have.
    """
    known = machine["members"]
    chosen = range(len(known)) if members is None else members
    if any(not 0 <= i < len(known) for i in chosen) or len(set(chosen)) < len(chosen):
        raise PredictError(
            "these are no members of the measured model",
            got=list(chosen),
            expected=f"places from 0 to {len(known) - 1}, each once",
        )
    n_cores = cores or machine["cores"]
    windows = workload.count_windows(machine["window_s"], machine.get("windows_per_pass", 1))
    per_ms = windows * machine["crowding"] / n_cores / 60_000
    decode = workload.files * workload.file_minutes * machine["decode_s_per_audio_minute"]
    decode *= 1 + (workload.file_minutes > machine["decoded_once_minutes"])
    decode /= 60 * n_cores
    mel = per_ms * machine["mel_ms_per_window"] if len(chosen) else 0.0
    each = tuple(per_ms * known[i]["ms_per_window"] for i in chosen)
    startup = machine["startup_s"] / 60
    total = startup + decode + mel + sum(each)
    return BudgetLine(decode, mel, each, startup, total, margin, workload.limit_minutes)


@dataclass(frozen=True)
class Fit:
    """Which members fit: so many of the first, the most of them (cheapest first), and of each
    how many more of its kind fit beside all that were asked for (0 when those do not fit)."""

    prefix: int
    most: tuple[int, ...]
    more: tuple[int, ...]


def fit_members(
    machine: Mapping[str, Any],
    workload: Workload,
    *,
    cores: int | None = None,
    margin: float = MARGIN,
) -> Fit:
    """What of a measured model fits a workload, see Fit."""
    times = [member["ms_per_window"] for member in machine["members"]]

    def line(members: Sequence[int]) -> BudgetLine:
        return predict_minutes(machine, workload, members, cores=cores, margin=margin)

    prefix = 0
    while prefix < len(times) and line(range(prefix + 1)).fits:
        prefix += 1
    most: list[int] = []
    for i in sorted(range(len(times)), key=lambda i: (times[i], i)):
        if not line([*most, i]).fits:
            break
        most.append(i)
    whole = line(range(len(times)))
    free = max(0.0, whole.limit_minutes - whole.needed_minutes) / (1 + margin)
    more = [int(min(free / m, sys.maxsize)) if m > 0 else 0 for m in whole.member_minutes]
    return Fit(prefix, tuple(sorted(most)), tuple(more))


_NUMBERS = (
    "cores",
    "window_s",
    "decode_s_per_audio_minute",
    "decoded_once_minutes",
    "mel_ms_per_window",
    "crowding",
    "startup_s",
)


def read_machine(path: Path) -> dict[str, Any]:
    """The machine file at `path`, checked; PredictError when it is none."""
    try:
        machine = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _no_machine(path, str(error)) from None
    if not isinstance(machine, dict) or machine.get("birdlab_machine") != FORMAT:
        raise _no_machine(path, "no birdlab_machine, or one of another format")
    wrong = [key for key in _NUMBERS if not _is_amount(machine.get(key))]
    per_pass = machine.get("windows_per_pass", 1)
    if not isinstance(per_pass, int) or per_pass < 1:
        wrong.append("windows_per_pass")
    members = machine.get("members")
    if not isinstance(members, list) or not all(
        isinstance(m, dict)
        and isinstance(m.get("name"), str)
        and _is_amount(m.get("ms_per_window"))
        for m in members or [None]
    ):
        wrong.append("members")
    wrong += [
        key for key in ("cores", "window_s", "crowding") if key not in wrong and not machine[key]
    ]
    if not isinstance(machine.get("processor"), str):
        wrong.append("processor")
    if wrong:
        raise _no_machine(path, f"nothing that can be used for {', '.join(wrong)}")
    return machine


def _is_amount(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= cast(float, value) <= sys.float_info.max


def _no_machine(path: Path, got: str) -> PredictError:
    return PredictError(
        "this is no machine file",
        where=str(path),
        got=got,
        expected="the JSON that the benchmark of a bundle writes",
        fix="run there: python predictor.pyz benchmark -o machine.json",
    )
