"""People who bet on sweeps whose truth is known: is who is as sure as right told from who is not?

A lab of sweeps: five arms and a control, 3 folds x 3 seeds. Before each, somebody who has seen the
true differences through a haze bets four times and says how sure that makes him: `as right` says
what the haze leaves, `doubled` has twice those log odds, `halved` half of them. What he is told of
himself is what `birdlab bets` says of the lab.

    python tests/bet_simulations.py
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special, stats

from birdlab.spec.bets import BetSpec, build_claim
from birdlab.study.bet_claims import margin
from birdlab.study.bets import BetEvidence, PlacedBet, score_bets, score_table
from birdlab.study.contrasts import Floats

ARMS = ("a", "b", "c", "d", "e")
MEAN, SPREAD, HAZE = -0.004, 0.012, 0.010
"""True differences to the control, and the SD of what hides them from who bets."""
FOLD_ARM, SEED = 0.006, 0.010
"""SD of an arm in a fold beyond both, and of a cell about that."""
N_FOLDS, N_SEEDS = 3, 3
PEOPLE: Mapping[str, float] = {"as right": 1.0, "halved": 0.5, "doubled": 2.0, "tripled": 3.0}
CLAIMS = (
    {"arm": "a", "better_by": 0.0},
    {"arm": "b", "worse_by": 0.005},
    {"arm": "c", "within": 0.01},
    {"best": ["d", "e"]},
)
DRAWS = 2_000


@dataclass(frozen=True, eq=False)
class SimulatedLab:
    """Judged bets of whoever is as sure as right, and whether each is true."""

    judged: pd.DataFrame
    truth: list[bool]


def simulate_lab(
    rng: np.random.Generator, n_sweeps: int, *, heavy: bool = False, haze: float = HAZE
) -> SimulatedLab:
    """A lab of so many sweeps; `heavy`: true differences have the tails of t with 3 df."""
    evidence: dict[str, BetEvidence] = {}
    bets: dict[str, list[PlacedBet]] = {}
    truth: list[bool] = []
    for n in range(n_sweeps):
        name = f"sweep {n}"
        draw = (
            rng.standard_t(3, len(ARMS)) / np.sqrt(3) if heavy else rng.standard_normal(len(ARMS))
        )
        true = MEAN + SPREAD * draw
        scores = simulate_scores(rng, true)
        evidence[name] = BetEvidence(scores, {arm: {} for arm in ("base", *ARMS)}, "base")
        sure, came = judge_beforehand(rng, true, haze, heavy)
        truth += came
        bets[name] = [
            PlacedBet(BetSpec.model_validate({**claim, "sure": float(p)}), "2026-01-01")
            for claim, p in zip(CLAIMS, sure, strict=True)
        ]
    return SimulatedLab(score_bets(bets, evidence).table, truth)


def simulate_scores(rng: np.random.Generator, true: Floats) -> pd.DataFrame:
    """arm, fold, seed, score of a sweep whose arms differ from the base by `true`."""
    rows = []
    folds = 0.7 + 0.02 * rng.standard_normal(N_FOLDS)
    for arm, effect in zip(("base", *ARMS), (0.0, *true), strict=True):
        for fold in range(N_FOLDS):
            place = folds[fold] + effect + FOLD_ARM * rng.standard_normal()
            for seed in range(N_SEEDS):
                rows.append((arm, fold, seed, place + SEED * rng.standard_normal()))
    return pd.DataFrame(rows, columns=["arm", "fold", "seed", "score"])


def judge_beforehand(
    rng: np.random.Generator, true: Floats, haze: float, heavy: bool
) -> tuple[Floats, list[bool]]:
    """How sure the haze leaves one of each claim, by weighted draws of the truth; what is true."""
    shape = (10 * DRAWS, len(true))
    draws = rng.standard_t(3, shape) / np.sqrt(3) if heavy else rng.standard_normal(shape)
    draws = MEAN + SPREAD * draws
    seen = true + haze * rng.standard_normal(len(true))
    places = {"base": np.zeros(DRAWS)}
    for column, arm in enumerate(ARMS):  # arms are independent, so each is drawn anew by weight
        weights = special.softmax(-0.5 * ((draws[:, column] - seen[column]) / haze) ** 2)
        places[arm] = rng.choice(draws[:, column], DRAWS, p=weights)
    points: dict[str, dict[str, object]] = {arm: {} for arm in places}
    sure, came = [], []
    for raw in CLAIMS:
        claim = build_claim(BetSpec.model_validate(raw), points, "base")
        assert claim is not None
        sure.append(((margin(claim, places) > 0).sum() + 0.5) / (DRAWS + 1))
        values = {"base": np.zeros(1)} | {a: true[[i]] for i, a in enumerate(ARMS)}
        came.append(bool(margin(claim, values)[0] > 0))
    return np.clip(sure, 0.03, 0.97), came


def score_person(lab: SimulatedLab, person: str) -> dict[str, object]:
    """What a person is told, and what counting decided bets alone would have told."""
    log_odds = special.logit(lab.judged["sure"].to_numpy(float))
    table = lab.judged.assign(sure=special.expit(PEOPLE[person] * log_odds))
    found = score_table(table)
    decided = found.table[found.table["outcome"] != "open"]
    sure = decided["sure"].to_numpy(float)
    right = (decided["outcome"] == "true").to_numpy() == (sure > 0.5)
    surely = np.maximum(sure, 1 - sure)
    counted = stats.binomtest(int(right.sum()), len(right)).proportion_ci() if len(right) else None
    naive = "too few"
    if counted is not None and len(right) >= 10:
        naive = "fits"
        naive = "over" if counted.high < surely.mean() else naive
        naive = "under" if counted.low > surely.mean() else naive
    said = found.table["sure"].to_numpy(float)
    judged = found.table["outcome"].to_numpy()
    wrong = (judged != "open") & ((judged == "true") != np.array(lab.truth))
    calibration = found.calibration
    return {
        "verdict": "too few" if calibration is None else calibration.verdict,
        "naive": naive,
        "sure": float(np.maximum(said, 1 - said).mean()),
        "came true": float(((said > 0.5) == np.array(lab.truth)).mean()),
        "told": float("nan") if calibration is None else calibration.right,
        "width": float("nan") if calibration is None else calibration.high - calibration.low,
        "decided": float((judged != "open").mean()),
        "wrongly decided": float(wrong.sum() / max(1, (judged != "open").sum())),
    }


def run_study(
    n_labs: int, n_sweeps: int, *, seed: int = 1, heavy: bool = False, haze: float = HAZE
) -> pd.DataFrame:
    """A row per person: shares of labs with each verdict, means of the rest."""
    rows = []
    for n in range(n_labs):
        lab = simulate_lab(np.random.default_rng([seed, n]), n_sweeps, heavy=heavy, haze=haze)
        rows += [{"person": person, **score_person(lab, person)} for person in PEOPLE]
    table = pd.DataFrame(rows)
    out = []
    for person, own in table.groupby("person", sort=False):
        means = own.drop(columns=["person", "verdict", "naive"]).astype(float).mean()
        shares = {
            f"said {name}": float((own["verdict"] == said).mean())
            for name, said in (("over", "overconfident"), ("under", "underconfident"))
        }
        counting = {
            f"counting {name}": float((own["naive"] == name).mean()) for name in ("over", "under")
        }
        out.append({"person": person, "bets": 4 * n_sweeps, **shares, **counting, **means})
    return pd.DataFrame(out)


def main(n_labs: int) -> None:
    """Print the tables of docs/bets.md."""
    pd.set_option("display.width", 250, "display.max_columns", 30)
    cases = [(8, False), (20, False), (20, True)]
    for n_sweeps, heavy in cases:
        table = run_study(n_labs, n_sweeps, heavy=heavy).round(3)
        table.insert(1, "effects", "t with 3 df" if heavy else "normal")
        print(table.to_string(index=False), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
