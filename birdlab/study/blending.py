"""Weights of an ensemble fitted on out-of-fold predictions, and whether they beat equal ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from birdlab.evaluate.blends import Blend
from birdlab.study.blending_scores import BlendScorer, Metric
from birdlab.study.blending_search import search_weights
from birdlab.study.ensemble import Members, rank_folds
from birdlab.study.ranking import Ranking

Floats = npt.NDArray[np.float64]
EQUAL, FITTED = "equal weights", "fitted weights"
NAMES: dict[Metric, str] = {"padded_cmap": "padded cmAP", "macro_auc": "macro AUC"}
BLENDS = (Blend("mean"), Blend("power", 2.0), Blend("geometric"), Blend("rank"))
"""Those that are compared with each other."""


@dataclass(frozen=True, eq=False)
class FittedShares:
    """Weights of members, fitted and to be used, with what they score.

    weights: those to use, the equal ones where `shrunk`; fitted: of the highest score on all
    folds; both sum to 1. in_sample: what the fitted weights score on the folds they were fitted
    on; nested: the mean over folds of the score of weights fitted on the other folds; equal: what
    equal weights score. interval: of nested - equal, paired by fold, 95 %, NaN under 3 folds;
    verdict: on that difference. by_fold: [F, M] the weights that were fitted without each fold.
    All scores are means over folds of `metric`.
    """

    names: tuple[str, ...]
    metric: Metric
    blend: Blend
    weights: tuple[float, ...]
    fitted: tuple[float, ...]
    by_fold: Floats
    in_sample: float
    nested: float
    equal: float
    interval: tuple[float, float]
    verdict: str
    shrunk: bool
    sentences: tuple[str, ...]

    @property
    def optimism(self) -> float:
        """By how much the score of the fitted weights on their own folds flatters them."""
        return self.in_sample - self.nested


def fit_shares(members: Members, blend: Blend, *, metric: Metric = "padded_cmap") -> FittedShares:
    """The weights of the highest fold-averaged score, or equal ones where that gain is no gain.

    Weights are fitted on all folds, and once without each fold to score them on it (nested). They
    are used when the nested score is `better` than that of equal weights, paired by fold; else all
    members weigh the same. A class is blended from the members that know it. Under 3 folds nothing
    can be said, so weights are equal; with one fold the nested score is NaN. Raises OutputsError
    for another metric, and for folds in which the metric is not defined.
    Source: nested cross-validation as in Varma and Simon (2006), BMC Bioinformatics 7, 91.
    """
    scorer = members.scorer(blend, metric)
    n, folds = scorer.n_members, range(len(scorer.folds))
    fitted = _shares(search_weights(scorer, folds))
    equal = scorer.score_folds(np.ones(n))
    by_fold, nested = _fit_nested(scorer)
    verdict, interval = _judge(equal, nested)
    shrunk = n > 1 and verdict != "better"
    found = FittedShares(
        members.names,
        metric,
        blend,
        (1 / n,) * n if shrunk else tuple(fitted.tolist()),
        tuple(fitted.tolist()),
        by_fold,
        scorer.score(fitted),
        float(nested.mean()),
        float(equal.mean()),
        interval,
        verdict,
        shrunk,
        (),
    )
    return replace(found, sentences=_sentences(found))


def compare_blends(
    members: Members, weights: Sequence[float] | None = None, *, metric: Metric = "padded_cmap"
) -> Ranking | None:
    """The verdicts on ways to blend against the mean, paired by fold, with equal or given weights.

    None for one member. Verdicts allow for the number of blends (Holm).
    """
    n = len(members.names)
    if n < 2:
        return None
    shares = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    scores = {str(b): members.scorer(b, metric).score_folds(shares) for b in BLENDS}
    return rank_folds(scores, base=str(BLENDS[0]))


def _fit_nested(scorer: BlendScorer) -> tuple[Floats, Floats]:
    """The weights fitted without each fold [F, M], and what they score on it [F]."""
    n_folds = len(scorer.folds)
    if n_folds < 2:
        return np.full((n_folds, scorer.n_members), np.nan), np.full(n_folds, np.nan)
    weights = np.stack(
        [
            _shares(search_weights(scorer, [f for f in range(n_folds) if f != fold]))
            for fold in range(n_folds)
        ]
    )
    scores = [scorer.score(own, [fold]) for fold, own in enumerate(weights)]
    return weights, np.array(scores)


def _shares(weights: npt.ArrayLike) -> Floats:
    values = np.asarray(weights, np.float64)
    return np.asarray(values / values.sum(), np.float64)


def _judge(equal: Floats, nested: Floats) -> tuple[str, tuple[float, float]]:
    """The verdict on the nested scores [F] against those of equal weights, and the interval."""
    if len(equal) < 2:
        return "no verdict", (float("nan"), float("nan"))
    table = rank_folds({EQUAL: equal, FITTED: nested}, base=EQUAL).table
    row = table[table["arm"] == FITTED].iloc[0]
    return str(row["verdict"]), (float(row["low"]), float(row["high"]))


def _sentences(f: FittedShares) -> tuple[str, ...]:
    if len(f.names) < 2:
        return (f"{f.names[0]} is the only member, so there is nothing to weigh.",)
    name = NAMES[f.metric]
    if f.nested != f.nested:
        return (
            f"Weights fitted on the one fold score {f.in_sample:.4f} there ({name}), equal ones "
            f"{f.equal:.4f}. What they score on other recordings cannot be said with one fold, so "
            "all members weigh the same.",
        )
    gain = f"{f.nested - f.equal:+.4f}"
    if f.interval[0] == f.interval[0]:
        gain += f" ({f.interval[0]:+.4f} to {f.interval[1]:+.4f}, 95 %)"
    said = [
        f"Equal weights score {f.equal:.4f} ({name}, mean over {len(f.by_fold)} folds). Fitted "
        f"ones score {f.in_sample:.4f} on the folds they were fitted on, and {f.nested:.4f} on "
        f"folds that their fit had not seen: {f.optimism:+.4f} of it is optimism.",
        f"Fitted against equal weights on unseen folds: {gain}: {f.verdict}.",
    ]
    if f.shrunk:
        why = "Under 3 folds there is no verdict" if f.verdict == "no verdict" else "No sure gain"
        return (*said, f"{why}, so the weights are shrunk to equal ones.")
    low, high = f.by_fold.min(axis=0), f.by_fold.max(axis=0)
    each = ", ".join(
        f"{name} {w:.3f} ({a:.3f} to {b:.3f})"
        for name, w, a, b in zip(f.names, f.weights, low, high, strict=True)
    )
    return (*said, f"The fitted weights are used, in brackets their range over the fits: {each}.")
