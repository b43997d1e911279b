"""A final pick, and what to submit next, from a lab's tables: tables, sentences, and the judgement
of a pick whose private scores are known by now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from birdlab.errors import DataError
from birdlab.study.board_model import PUBLIC_SHARE, BoardModel, fit_board
from birdlab.study.next_submission import COLUMNS, rank_next, sort_worth, word_next
from birdlab.study.output_likeness import Likeness
from birdlab.study.pick import Pick, pick_two, top_by
from birdlab.study.pick_rows import BoardRows, add_likeness, list_board
from birdlab.study.private_posterior import posterior
from birdlab.study.submission_blends import BlendedTables
from birdlab.study.tables import StudyTables
from birdlab.words import name_apart

BATCH = 200
"""So many runs without a score are looked at at once: what they share among them is not needed."""
JUDGED = ("choice", "names", "best", "regret")


@dataclass(frozen=True, eq=False)
class PickView:
    """A pick as it is shown.

    submissions: of the pick, the ids of their rows in the ledger, where they have one. judged:
    choice, names, best (private score of the better one), regret (what the best of all candidates
    has more), for the pick and the highest by public and by CV; no rows where a private score of
    a candidate is unknown. sentences say all of it.
    """

    board: BoardRows
    model: BoardModel
    pick: Pick
    submissions: tuple[str, ...]
    judged: pd.DataFrame
    sentences: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class NextView:
    """What to submit next: the table of `rank_next`, what it says, and that after what was found
    about the board."""

    board: BoardRows
    model: BoardModel
    table: pd.DataFrame
    said: tuple[str, ...]
    sentences: tuple[str, ...]


def fit_rows(
    board: BoardRows, *, public_share: float = PUBLIC_SHARE, public_noise: float | None = None
) -> BoardModel:
    """The model of a lab's board; DataError where the evidence does not suffice."""
    history = board.history[["run", "cv", "public", "private", "lineage", "group"]]
    rows = board.rows.drop(columns="private")
    return fit_board(
        rows,
        history=history,
        public_share=public_share,
        public_noise=public_noise,
        likeness=None if board.likeness is None else board.likeness.values,
    )


def build_pick(
    board: BoardRows,
    *,
    n: int = 2,
    unsubmitted: bool = False,
    public_share: float = PUBLIC_SHARE,
    public_noise: float | None = None,
) -> PickView:
    """The pick of `n` among the submitted candidates, or among all of them.

    Raises DataError under 5 runs with both scores, and for fewer candidates than `n`.
    """
    model = fit_rows(board, public_share=public_share, public_noise=public_noise)
    runs, twins = _part_twins(board, board.candidates if unsubmitted else board.submitted)
    pick = pick_two(posterior(model, runs), n)
    rows = board.rows.set_index("run").loc[list(runs)]
    judged = judge_pick(rows, pick.pair)
    ids = tuple(str(rows.at[run, "row"]) for run in pick.pair if rows.at[run, "row"])
    told = _word_judged(board, judged, len(rows))
    sentences = (*word_model(board, model), *twins, *pick.sentences, *told)
    return PickView(board, model, pick, ids, judged, sentences)


def build_next(
    board: BoardRows, *, public_share: float = PUBLIC_SHARE, public_noise: float | None = None
) -> NextView:
    """What to submit next among the candidates without a score; DataError as for a pick."""
    model = fit_rows(board, public_share=public_share, public_noise=public_noise)
    scored = board.rows.loc[board.rows["public"].notna(), "run"]
    runs, twins = _part_twins(board, list(dict.fromkeys([*scored, *board.candidates])))
    kept, submitted = set(runs), set(board.submitted)
    waiting = [run for run in board.candidates if run in kept and run not in submitted]
    seen = [run for run in scored if run in kept]
    parts = [
        rank_next(posterior(model, [*seen, *waiting[start : start + BATCH]]))
        for start in range(0, len(waiting), BATCH)
    ]
    table = sort_worth(pd.concat(parts) if parts else pd.DataFrame(columns=list(COLUMNS)))
    said = (*twins, *word_next(table, len(scored)))
    return NextView(board, model, table, said, (*word_model(board, model), *said))


def _part_twins(board: BoardRows, runs: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The runs without those whose outputs equal another's, and in words which these are.

    Two that have public scores which differ are not equal, whatever their stored outputs say.
    """
    if board.likeness is None:
        return list(runs), ()
    rows = board.rows.set_index("run")
    public, kept, words = rows["public"], list(runs), []
    names = dict(zip(rows.index, name_apart(rows["name"], rows.index), strict=True))
    for run, first in board.likeness.twins.items():
        differ = public[[run, first]].notna().all() and public[run] != public[first]
        if run in kept and first in kept and not differ:
            scored = public[[run]].notna().all() and not public[[first]].notna().all()
            kept.remove(first if scored else run)
            words.append(
                f"{names[run]} predicts the same as {names[first]}: one of them is enough."
            )
    return kept, tuple(words)


def show_picks(
    tables: StudyTables | BlendedTables,
    measure: Callable[[tuple[str, ...]], Likeness] | None = None,
    *,
    seen: str,
    metric: str,
    cv: str,
) -> tuple[PickView, NextView] | str:
    """The pick of two and the next submission of a lab, or why there is neither.

    `measure`: how alike runs are by their outputs; their lineages say it by default.
    """
    try:
        board = list_board(tables, seen=seen, metric=metric, cv=cv)
        board = board if measure is None else add_likeness(board, measure)
        return build_pick(board), build_next(board)
    except DataError as error:
        wanted = f" (expected: {error.expected})" if error.expected else ""
        return f"{error.what[0].upper()}{error.what[1:]}: {error.got}{wanted}."


def judge_pick(rows: pd.DataFrame, picked: tuple[str, ...]) -> pd.DataFrame:
    """What a pick, the highest by public and the highest by CV got in the end, in JUDGED.

    `rows` are the candidates by run, with name, cv, public and private; no rows come back where
    a private score is missing.
    """
    private = rows["private"].to_numpy(dtype=float)
    if not len(rows) or not np.isfinite(private).all():
        return pd.DataFrame(columns=list(JUDGED))
    choices = {"pick": np.flatnonzero(rows.index.isin(picked))}
    for choice, column in (("highest public", "public"), ("highest CV", "cv")):
        choices[choice] = top_by(rows[column].to_numpy(dtype=float), len(picked))
    found = [
        (choice, tuple(rows["name"].iloc[at]), private[at].max(), private.max() - private[at].max())
        for choice, at in choices.items()
        if len(at)
    ]
    return pd.DataFrame(found, columns=list(JUDGED))


def word_model(board: BoardRows, model: BoardModel) -> tuple[str, ...]:
    """What was found about CV, the public score and its noise, and what was assumed."""
    trust, noise, slope = model.trust, model.noise, model.slope
    return (
        f"{model.n_scored} runs have {board.cv} and a {board.seen} score. In the upper half "
        f"by CV one SD of it is worth {slope[0]:+.4f} there (80 % {slope[1]:+.4f} to "
        f"{slope[2]:+.4f}).",
        f"Of what CV leaves open in a {board.seen} score, {100 * trust[0]:.0f} % is taken as real "
        f"(80 % {100 * trust[1]:.0f} to {100 * trust[2]:.0f} %) and the rest as noise of SD "
        f"{noise[0]:.4f} ({noise[1]:.4f} to {noise[2]:.4f}).",
        f"That rests on {model.source}.",
        *board.told,
    )


def _word_judged(board: BoardRows, judged: pd.DataFrame, n: int) -> tuple[str, ...]:
    if judged.empty:
        return ()
    told = ", ".join(
        f"{row.choice} {row.best:.4f} ({row.regret:.4f} behind)" for row in judged.itertuples()
    )
    learned = board.history["run"].isin(board.candidates).any()
    used = "from which the noise was learned: no test" if learned else "which were not used"
    return (f"Judged by the {board.board} scores of these {n}, {used}: {told}.",)
