"""The rounds of an experiment side by side: scores, and what each gained over the one before."""

from __future__ import annotations

import pandas as pd

from birdlab.rounds import RoundsResult
from birdlab.runresult import RunResult
from birdlab.study.ranking import rank_arms

COLUMNS = (
    "round",
    "stage",
    "padded_cmap",
    "score",
    "delta",
    "low",
    "high",
    "verdict",
    "more_seeds",
)


def compare_rounds(found: RoundsResult, split_folds: int | None = None) -> pd.DataFrame:
    """COLUMNS of each round: delta to verdict are of `score`, the declared one, to the one before.

    Differences are paired by fold and seed; each is judged alone, as a pair. NaN and "" in the
    first row, and where the declared score is no mean over folds. `split_folds` is how many folds
    the split has.
    """
    rows, before = [], None
    for cut, result, score in zip(found.cuts, found.results, found.scores, strict=True):
        row = {"round": cut.number, "stage": cut.stage, "padded_cmap": result.cv, "score": score}
        rows.append(row | _gain(found.rule.by, before, result, split_folds))
        before = result
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _gain(
    by: str, before: RunResult | None, now: RunResult, split_folds: int | None
) -> dict[str, object]:
    said: dict[str, object] = dict.fromkeys(("delta", "low", "high"), float("nan"))
    if before is None:
        return said | {"verdict": "", "more_seeds": ""}
    said["delta"] = now.scores[f"cv/{by}"] - before.scores[f"cv/{by}"]
    if by not in now.cells.columns or by not in before.cells.columns:
        return said | {"verdict": "no verdict", "more_seeds": ""}
    scores = pd.concat(
        run.cells[["fold", "seed", by]].set_axis(["fold", "seed", "score"], axis=1).assign(arm=arm)
        for arm, run in (("before", before), ("now", now))
    )
    ranking = rank_arms(scores.dropna(), base="before", split_folds=split_folds)
    row = ranking.table.set_index("arm").loc["now"]
    return {name: row[name] for name in ("delta", "low", "high", "verdict", "more_seeds")}
