"""Whether a difference is shown well enough for its split to explain anything but noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from birdlab.errors import DataError
from birdlab.study.compare import Comparison
from birdlab.study.contrasts import MIN_FOLDS
from birdlab.study.delta_split import DeltaSplit
from birdlab.study.recordings import MIN_RECORDISTS, RecordingInterval
from birdlab.words import count_words

SHOWN = ("better", "worse")


@dataclass(frozen=True)
class SplitEvidence:
    """Whether the difference is shown over folds and over recordings, and in words why (not)."""

    enough: bool
    sentences: tuple[str, ...]


def weigh_evidence(split: DeltaSplit, comparison: Comparison) -> SplitEvidence:
    """Whether the difference that was split is shown by the comparison it comes from.

    It is where the verdict is better or worse and, for padded cmAP, the interval over recordists
    leaves 0 out; without that interval the verdict alone decides. Raises DataError where the
    comparison is of another metric or does not hold the arm.
    """
    if comparison.metric != split.metric:
        raise DataError(
            "the split and the comparison are of two metrics",
            got=f"{split.metric} and {comparison.metric}",
            fix="compare by the metric that is split",
        )
    lacking: list[str] = []
    shown: list[str] = []
    row = _verdict_row(split, comparison)
    (shown if row["verdict"] in SHOWN else lacking).append(_verdict_words(row))
    over = comparison.recordings.get(split.arm) if split.metric == "padded_cmap" else None
    if over is not None:
        (lacking if _hangs_on(over) else shown).append(_recording_words(over))
    if not lacking:
        return SplitEvidence(True, (f"The difference is shown: {'; '.join(shown)}.",))
    said = [
        f"Not enough evidence that {split.arm} and {split.base} differ: {'; '.join(lacking)}.",
        "What follows then explains noise as much as a difference: take it for a list of where to "
        "listen, and choose no species and no recording by it.",
    ]
    if row["more_seeds"]:
        said.insert(1, f"To decide it: {row['more_seeds']}, if the difference is as seen.")
    return SplitEvidence(False, tuple(said))


def _verdict_row(split: DeltaSplit, comparison: Comparison) -> Mapping[Any, Any]:
    """verdict, low, high, folds (in words) and more_seeds of the arm."""
    if comparison.ranking is not None:
        table = comparison.ranking.table
        for row in table[table["arm"] == split.arm].to_dict("records"):
            return {**row, "folds": count_words(int(row["n_folds"]), "fold")}
    for crossed in comparison.crossed:
        if crossed.arm == split.arm:
            row = {name: getattr(crossed, name) for name in ("verdict", "low", "high")}
            folds = "the pieces of {} by {} folds".format(*crossed.n_folds)
            return {**row, "more_seeds": "", "folds": folds, "n_empty": crossed.n_empty}
    raise DataError("the comparison does not hold the run", got=split.arm)


def _verdict_words(row: Mapping[Any, Any]) -> str:
    if row["verdict"] == "no verdict" and row.get("n_empty"):
        return f"no verdict on {row['folds']}, of which {row['n_empty']} are empty"
    if row["verdict"] == "no verdict":
        return f"no verdict on {row['folds']}, where it takes {MIN_FOLDS} folds of both"
    return f"{row['verdict']} on {row['folds']} ({row['low']:+.4f} to {row['high']:+.4f})"


def _hangs_on(over: RecordingInterval) -> bool:
    return over.n_recordists < MIN_RECORDISTS or over.low <= 0 <= over.high


def _recording_words(over: RecordingInterval) -> str:
    people = f"{over.n_recordists:,} recordist" + ("" if over.n_recordists == 1 else "s")
    if over.n_recordists < MIN_RECORDISTS:
        be = "is" if over.n_recordists == 1 else "are"
        return f"{people} {be} too few to say what other recordings would do"
    turns = "other recordings could turn it round"
    told = turns if _hangs_on(over) else "and it does not hang on which recordings these are"
    return f"{told} ({over.low:+.4f} to {over.high:+.4f} over {people})"
