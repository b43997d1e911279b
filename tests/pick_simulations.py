"""Final picks of simulated boards of known truth; as a script it prints the tables of the docs.

python tests/pick_simulations.py [boards]
python tests/pick_simulations.py --ledger [birdclef2025_cv_lb_ledger.csv]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd
from cvlb_ledger import LEDGER_2025, build_pairs

from birdlab.study.board_rows import spread_of
from birdlab.study.next_submission import rank_next
from birdlab.study.pick import expect_best, pick_two, top_by
from birdlab.study.private_posterior import Component, fit_board, posterior

Floats = npt.NDArray[np.float64]
Pair = tuple[int, int]
TAU, LEVEL, SHARE = 0.01, 0.8, 0.3
CV_LEVEL, CV_SD = 0.9, 0.008
"""SD of the abilities and their mean; the public share of the files."""
RELATIONS = (0.0, 0.3, 0.5, 0.7, 0.9)
NOISES = (0.3, 1.0, 2.0)
SIZES = (10, 40, 100)
SPLITS = (20, 30, 40, 50, 60, 70, 80, 90, 100)
NOISE_ERROR = 1.5
N_PAST = 15
OURS = ("assumed", "noise given", "15 past")
RULES = ("by public", "by CV", "one of each", *OURS, "truth known")


@dataclass(frozen=True)
class Setting:
    """A board: correlation of CV and ability, SD of public noise in SDs of ability, candidates,
    how many share a lineage and which part of their deviations."""

    relation: float
    noise: float
    n: int
    family: int = 1
    shared: float = 0.0


def draw_board(rng: np.random.Generator, setting: Setting, n: int | None = None) -> pd.DataFrame:
    """A ledger with cv, public (rounded to .001), private and lineage of each candidate."""
    n = n or setting.n
    lineage = np.arange(n) // setting.family

    def deviate() -> Floats:
        together, own = rng.normal(size=n)[lineage], rng.normal(size=n)
        return np.asarray(np.sqrt(setting.shared) * together + np.sqrt(1 - setting.shared) * own)

    cv = deviate()
    open_part = np.sqrt(1 - setting.relation**2)
    ability = LEVEL + TAU * (setting.relation * cv + open_part * deviate())
    noise = TAU * setting.noise
    private = ability + noise * np.sqrt(SHARE / (1 - SHARE)) * deviate()
    return pd.DataFrame(
        {
            "run": [f"r{i}" for i in range(n)],
            "cv": CV_LEVEL + CV_SD * cv,
            "public": np.round(ability + noise * deviate(), 3),
            "private": private,
            "lineage": [f"l{k}" for k in lineage],
        }
    )


def pick_pairs(rng: np.random.Generator, setting: Setting, board: pd.DataFrame) -> dict[str, Pair]:
    """The pair that each rule picks, none of which sees a private score of the board."""
    public, cv = board["public"].to_numpy(), board["cv"].to_numpy()
    noise = TAU * setting.noise * NOISE_ERROR ** rng.normal()
    shown = board.drop(columns="private")
    by_public, by_cv = top_by(public, 2).tolist(), top_by(cv, 2).tolist()
    other = next(place for place in by_cv if place != by_public[0])
    plain = fit_board(shown, public_share=SHARE)
    models = {
        "assumed": plain,
        "noise given": fit_board(shown, public_share=SHARE, public_noise=noise),
        "15 past": fit_board(shown, public_share=SHARE, history=draw_board(rng, setting, N_PAST)),
        "truth known": replace(plain, components=(_know(setting, board),)),
    }
    pairs: dict[str, Sequence[int]] = {
        "by public": by_public,
        "by CV": by_cv,
        "one of each": (by_public[0], other),
    }
    for name, model in models.items():
        values = expect_best(posterior(model))
        np.fill_diagonal(values, -np.inf)
        pairs[name] = [int(k) for k in np.unravel_index(int(values.argmax()), values.shape)]
    return {rule: (pairs[rule][0], pairs[rule][1]) for rule in RULES}


def _know(setting: Setting, board: pd.DataFrame) -> Component:
    """The truth as the only component."""
    left = TAU**2 * (1 - setting.relation**2)
    variance = left + (TAU * setting.noise) ** 2
    middle = float(board["cv"].median())
    spread = spread_of((board["cv"] - middle).to_numpy())
    per_cv = setting.relation * TAU / CV_SD
    level = LEVEL + per_cv * (middle - CV_LEVEL) - float(board["public"].median())
    beta = np.array([level, per_cv * spread, 0.0])
    return Component(1.0, left / variance, setting.shared, variance, beta, np.zeros((3, 3)))


def measure_regrets(setting: Setting, n_boards: int, seed: int = 0) -> pd.DataFrame:
    """By how much the better of the picked two stays behind the best of all, in SDs of ability: a
    row per board, a column per rule."""
    rng, rows = np.random.default_rng([seed, hash_of(setting)]), []
    for _ in range(n_boards):
        board = draw_board(rng, setting)
        private = board["private"].to_numpy()
        pairs = pick_pairs(rng, setting, board)
        rows.append({r: (private.max() - private[list(p)].max()) / TAU for r, p in pairs.items()})
    return pd.DataFrame(rows)


def hash_of(setting: Setting) -> int:
    """A number of its own for each setting."""
    parts = (setting.relation * 10, setting.noise * 10, setting.n, setting.family)
    return int(sum(round(part) * 1000**k for k, part in enumerate(parts)))


def list_settings() -> list[Setting]:
    """All boards of the report: those without lineages, then lineages of four."""
    alone = [Setting(*parts) for parts in product(RELATIONS, NOISES, SIZES)]
    alike = [Setting(r, k, 40, 4, 0.6) for r, k in product(RELATIONS, NOISES)]
    return [*alone, *alike]


def main(n_boards: int) -> None:
    rows = []
    for setting in list_settings():
        regrets = measure_regrets(setting, n_boards)
        better = min(("by public", "by CV"), key=lambda rule: regrets[rule].mean())
        row = {"relation": setting.relation, "noise": setting.noise, "n": setting.n}
        row |= {"family": setting.family, **regrets.mean()}
        for ours in OURS:
            apart = regrets[ours] - regrets[better]
            row |= {f"{ours} +": apart.mean(), f"{ours} se": apart.sem()}
        rows.append(row)
    table = pd.DataFrame(rows)
    print(table.round(2).to_string(index=False))
    print("\nmean over settings", table[list(RULES)].mean().round(3).to_dict())
    for by in ("relation", "noise", "n", "family"):
        print(f"\n{table.groupby(by)[list(RULES)].mean().round(2).to_string()}")
    for ours in OURS:
        worst = table.loc[table[f"{ours} +"].idxmax()]
        where = worst[["relation", "noise", "n", "family"]].to_dict()
        excess = f"{worst[f'{ours} +']:+.3f} (SE {worst[f'{ours} se']:.3f})"
        print(f"{ours}: worst excess {excess} at {where}")


def replay_ledger(table: pd.DataFrame, splits: Sequence[int] = SPLITS) -> pd.DataFrame:
    """A real ledger split in time: the first experiments have their public score, of the later
    ones only CV is known, and their public score is what a choice is judged by.

    n_later, and by how much each choice stays behind the best of the later ones: one submission
    (next, CV-best, a random one on average) and two (pick, the two highest by CV, a random pair).
    """
    pairs = build_pairs(table).rename(columns={"lb": "public", "split": "group"})
    rows = []
    for n_first in splits:
        later = pairs[n_first:]
        seen = pairs.assign(public=pairs["public"].where(pairs.index < n_first))
        model = fit_board(seen)
        post = posterior(model)
        scores, cv = (later[name].to_numpy(dtype=float) for name in ("public", "cv"))
        scored = later.set_index("run")["public"]
        first = rank_next(post)["run"].iloc[0]
        pair = pick_two(posterior(model, list(later["run"]))).pair
        i, j = np.triu_indices(len(later), 1)
        got = {
            "next": scored[first],
            "CV-best": scores[cv.argmax()],
            "random": scores.mean(),
            "pick 2": scored[list(pair)].max(),
            "2 by CV": scores[top_by(cv, 2)].max(),
            "random 2": np.maximum(scores[i], scores[j]).mean(),
        }
        behind = {name: scores.max() - value for name, value in got.items()}
        rows.append({"n_first": n_first, "n_later": len(later), **behind})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    if "--ledger" in sys.argv:
        given = sys.argv[sys.argv.index("--ledger") + 1 :]
        found = replay_ledger(pd.read_csv(given[0] if given else LEDGER_2025))
        print(found.round(4).to_string(index=False))
        print("mean", found.iloc[:, 2:].mean().round(4).to_dict())
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
