"""A greedy choice of members under a limit of CPU time, with what of its score is luck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.errors import DataError
from birdlab.evaluate.blends import Blend
from birdlab.study.blending_scores import BlendScorer, Metric
from birdlab.study.blending_search import HIGHER
from birdlab.study.ensemble import Members, rank_folds
from birdlab.words import list_some

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
COLUMNS = (
    *("step", "member", "score", "nested", "cost_ms", "total_ms"),
    *("delta", "low", "high", "verdict", "chosen"),
)
MOST_STEPS = 50


@dataclass(frozen=True, eq=False)
class GreedyChoice:
    """Members picked one after the other, and how far to go.

    steps: a row per step: step from 1, member, score (of the members so far, on the folds by which
    they were picked), nested (the mean over folds of the score of members that were picked by the
    other folds), cost_ms, total_ms (a window, each member once), delta, low, high, verdict (nested
    against `best`, paired by fold, NaN under 3 folds), chosen. best: the best single member that
    fits the limit. chosen: the members up to the step of the highest nested score, a member twice
    where it was picked twice; weights: by their counts, one per member of the ensemble, summing
    to 1.
    """

    steps: pd.DataFrame
    best: str
    chosen: tuple[str, ...]
    weights: tuple[float, ...]
    sentences: tuple[str, ...]


def select_greedy(
    members: Members,
    costs_ms: Sequence[float],
    budget_ms: float,
    blend: Blend,
    *,
    metric: Metric = "padded_cmap",
    replacement: bool = False,
) -> GreedyChoice:
    """The members that forward selection picks within `budget_ms` a window.

    Each step adds the member that lifts the fold-averaged score most, and the last one is that
    after which none lifts it. `costs_ms`: of each member, in their order; `replacement`: a member
    may be picked again, which costs nothing and gives it more weight. The selection is repeated
    without each fold to score it there; one that ended earlier keeps its members. Raises DataError
    for costs that do not fit, unknown ones (NaN) under a limit, and a limit below the cheapest.
    Source: Caruana et al. (2004), Ensemble selection from libraries of models, ICML.
    """
    costs = _check_costs(members.names, costs_ms, budget_ms)
    scorer = members.scorer(blend, metric)
    folds = range(len(scorer.folds))
    path = _pick(scorer, folds, costs, budget_ms, replacement)
    nested = np.full((len(path), len(folds)), np.nan)
    for fold in folds if len(folds) > 1 else ():
        others = [f for f in folds if f != fold]
        own = _pick(scorer, others, costs, budget_ms, replacement)
        for step in range(len(path)):
            nested[step, fold] = scorer.score(_counts(own[: step + 1], len(costs)), [fold])
    singles = np.stack([scorer.score_folds(row) for row in np.eye(scorer.n_members)])
    fits = ~(costs > budget_ms)
    best = int(np.where(fits, singles.mean(axis=1), -np.inf).argmax())
    steps = _table(members, scorer, path, nested, costs, singles[best])
    chosen = path[: int(steps["chosen"].sum())]
    counts = _counts(chosen, len(costs))
    return GreedyChoice(
        steps,
        members.names[best],
        tuple(members.names[m] for m in chosen),
        tuple((counts / counts.sum()).tolist()),
        _sentences(members, steps, counts, members.names[best]),
    )


def _check_costs(names: tuple[str, ...], costs_ms: Sequence[float], budget_ms: float) -> Floats:
    costs = np.asarray(costs_ms, np.float64)
    if costs.shape != (len(names),) or (costs < 0).any() or not budget_ms > 0:
        raise DataError(
            "costs and limit do not fit the members",
            got=f"{len(costs)} costs, limit {budget_ms:g} ms",
            expected=f"{len(names)} costs of 0 ms or more, a limit above 0",
        )
    if not np.isfinite(budget_ms):
        return costs
    if np.isnan(costs).any():
        lacking = [name for name, ms in zip(names, costs, strict=True) if np.isnan(ms)]
        raise DataError(
            "the time of a member is not known, so no limit can be held",
            got=", ".join(lacking),
            fix="leave the limit out, or train one more cell of it here, which times it: "
            "birdlab extend RUN --seeds 2",
        )
    if costs.min() > budget_ms:
        cheapest = int(costs.argmin())
        raise DataError(
            "no member fits the limit",
            got=f"{costs[cheapest]:g} ms a window for {names[cheapest]}, the cheapest",
            expected=f"at most {budget_ms:.3g} ms a window",
        )
    return costs


def _pick(
    scorer: BlendScorer, folds: Sequence[int], costs: Floats, budget_ms: float, again: bool
) -> list[int]:
    """The members in the order in which they are picked by these folds."""
    path: list[int] = []
    value = -np.inf
    while len(path) < MOST_STEPS:
        open_ = [
            m
            for m in range(scorer.n_members)
            if (again or m not in path) and _cost([*path, m], costs) <= budget_ms
        ]
        scores = [scorer.score(_counts([*path, m], scorer.n_members), folds) for m in open_]
        if not scores or max(scores) <= value + HIGHER:
            break
        best = int(np.argmax(scores))
        path.append(open_[best])
        value = scores[best]
    return path


def _cost(path: Sequence[int], costs: Floats) -> float:
    """What the members cost together, 0 where none was measured: then there is no limit."""
    return float(np.nansum(costs[sorted(set(path))]))


def _counts(path: Sequence[int], n: int) -> Ints:
    return np.bincount(np.asarray(path, np.int64), minlength=n)


def _table(
    members: Members,
    scorer: BlendScorer,
    path: Sequence[int],
    nested: Floats,
    costs: Floats,
    base: Floats,
) -> pd.DataFrame:
    means = nested.mean(axis=1)
    best = int(np.argmax(means)) if not np.isnan(means).any() else len(path) - 1
    rows = []
    for i, member in enumerate(path):
        rows.append(
            {
                "step": i + 1,
                "member": members.names[member],
                "score": scorer.score(_counts(path[: i + 1], scorer.n_members)),
                "nested": float(means[i]),
                "cost_ms": 0.0 if member in path[:i] else float(costs[member]),
                "total_ms": float(costs[sorted(set(path[: i + 1]))].sum()),
                **_judge(base, nested[i]),
                "chosen": i <= best,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _judge(base: Floats, nested: Floats) -> dict[str, object]:
    """The verdict on nested scores [F] against those of the best single member."""
    nan = float("nan")
    if np.isnan(nested).any():
        return {"delta": nan, "low": nan, "high": nan, "verdict": "no verdict"}
    table = rank_folds({"best": base, "greedy": nested}, base="best").table
    row = table[table["arm"] == "greedy"].iloc[0]
    return {key: row[key] for key in ("delta", "low", "high", "verdict")}


def _sentences(members: Members, steps: pd.DataFrame, counts: Ints, best: str) -> tuple[str, ...]:
    last = steps[steps["chosen"]].iloc[-1]
    names = [name for name, n in zip(members.names, counts, strict=True) if n]
    what, they = (f"{names[0]} alone is", "It scores") if len(names) == 1 else ("", "They score")
    said = [f"{what or f'{len(names)} members are'} chosen."]
    if last["nested"] == last["nested"]:
        lucky = last["score"] - last["nested"]
        said.append(
            f"{they} {last['score']:.4f} on the folds that chose, and {last['nested']:.4f} where "
            "the other folds chose. The first number was picked to be high (the winner's curse, "
            f"here {lucky:+.4f}); expect the second one of other recordings."
        )
    else:
        said.append(
            f"{they} {last['score']:.4f} on the one fold that chose; of other recordings nothing "
            "can be said."
        )
    if len(names) > 1 and last["nested"] == last["nested"]:
        ends = "" if last["low"] != last["low"] else f" ({last['low']:+.4f} to {last['high']:+.4f})"
        said.append(
            f"Against {best}, the best single member that fits: {last['delta']:+.4f}{ends}: "
            f"{last['verdict']}. That one was picked by the scores it is judged on, which favours "
            "it."
        )
    left = len(steps) - int(steps["chosen"].sum())
    if left:
        said.append(
            f"{'The last step' if left == 1 else f'The last {left} steps'} gained only on the "
            "folds that chose: shown and not taken."
        )
    unknown = ~(members.known[counts > 0].any(axis=0))
    if unknown.any():
        codes = list_some(np.asarray(members.codes)[unknown])
        said.append(f"None of the chosen knows {codes}: promotion asks for a member that does.")
    return tuple(said)
