"""Which submissions may stand side by side: those that were made alike, one of each run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from birdlab.errors import DataError
from birdlab.spec.kinds import nearest
from birdlab.study.ledger import sort_by_date
from birdlab.words import count_words, list_some

KIND_FIELDS = ("weights", "checkpoint", "postprocessing", "precision")
_WEIGHTS = {"": "weights not said", "folds": "fold models", "full": "models of all data"}


@dataclass(frozen=True)
class SubmissionKind:
    """A kind of submission in words, how many runs have one, and how many there are."""

    words: str
    n_runs: int
    n_submissions: int


@dataclass(frozen=True)
class PickedSubmissions:
    """One submission of each run, all of one kind.

    `picked`: rows of the ledger, oldest first, with `n_submissions` of the run, and `selected`
    where any of them was. `like` is their kind, "" where there is none; `kinds` are all that
    there are, `n_submissions` counts all in this column and metric, and `left_out` says in words
    which of them are not here.
    """

    picked: pd.DataFrame
    like: str
    kinds: tuple[SubmissionKind, ...]
    n_submissions: int
    left_out: tuple[str, ...]


def pick_submissions(
    ledger: pd.DataFrame, rules: Mapping[str, str], lb: str, metric: str, like: str | None = None
) -> PickedSubmissions:
    """The newest submission of each run that has a score in `lb`, of this metric and kind.

    `like` is the kind, by default the first of `count_kinds`; see `name_kinds` for `rules`.
    Submissions of several runs at once are of no run. Raises DataError for a kind that no
    submission has.
    """
    scored = ledger[ledger[lb].notna()]
    here = scored[scored["metric"] == metric]
    single = here[here["members"].map(len) == 1]
    kinds = name_kinds(single, rules)
    counted = count_kinds(kinds, single["run"])
    if like is None:
        like = counted[0].words if counted else ""
    elif like not in [kind.words for kind in counted]:
        raise DataError(
            "no submission is of this kind",
            got=like,
            expected=nearest(like, [kind.words for kind in counted]),
        )
    alike = single[kinds == like]
    newest = sort_by_date(alike).drop_duplicates("run", keep="last")
    chosen = set(single.loc[single["selected"], "run"])
    newest = newest.assign(
        n_submissions=newest["run"].map(single["run"].value_counts()),
        selected=newest["run"].isin(chosen),
    )
    left_out = _left_out(scored, here, counted, like, len(alike) - len(newest), metric)
    return PickedSubmissions(newest, like, tuple(counted), len(here), left_out)


def _left_out(
    scored: pd.DataFrame,
    here: pd.DataFrame,
    kinds: list[SubmissionKind],
    like: str,
    n_older: int,
    metric: str,
) -> tuple[str, ...]:
    words = []
    foreign = scored.loc[scored["metric"] != metric, "metric"]
    if len(foreign):
        names = ", ".join(sorted(set(foreign)))
        words.append(
            f"{count_words(len(foreign), 'leaderboard score')} of another metric ({names})."
        )
    blends = here.loc[here["members"].map(len) > 1, "name"]
    if len(blends):
        what = count_words(len(blends), "submission")
        words.append(
            f"{what} of several runs at once, with no CV of their own: {list_some(blends)}."
        )
    others = [kind for kind in kinds if kind.words != like]
    if others:
        n = sum(kind.n_submissions for kind in others)
        told = "; ".join(f"{kind.n_submissions} {kind.words}" for kind in others)
        words.append(f"{count_words(n, 'submission')} of another kind than {like}: {told}.")
    if n_older:
        words.append(
            f"{count_words(n_older, 'older leaderboard score')} of runs that have a newer one."
        )
    return tuple(words)


def name_kinds(ledger: pd.DataFrame, rules: Mapping[str, str]) -> pd.Series:
    """The kind of each row of a ledger, in words; rows with equal words are alike.

    `rules` are the checkpoint rules of the runs. A checkpoint counts only where it is another
    one than that of the run: CV is scored with the run's own.
    """
    kinds = [
        _word_kind(row, rules.get(row["run"], ""))
        for row in ledger[["run", *KIND_FIELDS]].to_dict("records")
    ]
    return pd.Series(kinds, index=ledger.index, dtype=object)


def count_kinds(kinds: pd.Series, runs: pd.Series) -> list[SubmissionKind]:
    """The kinds that there are, those of most runs first, then of most submissions."""
    counted = [
        SubmissionKind(str(words), int(runs[part.index].nunique()), len(part))
        for words, part in kinds.groupby(kinds)
    ]
    return sorted(counted, key=lambda kind: (-kind.n_runs, -kind.n_submissions, kind.words))


def _word_kind(row: Mapping[str, str], rule: str) -> str:
    parts = [_WEIGHTS[row["weights"]]]
    if row["checkpoint"] and row["checkpoint"].lower() != rule.lower():
        parts.append(f"checkpoint {row['checkpoint']}")
    if row["postprocessing"]:
        parts.append(f"post-processing {row['postprocessing']}")
    if row["precision"]:
        parts.append(row["precision"])
    return ", ".join(parts)
