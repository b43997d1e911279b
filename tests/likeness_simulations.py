"""Final picks of boards on which submissions are alike, with and without a look at their outputs.

python tests/likeness_simulations.py [boards]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import pandas as pd
from pick_simulations import CV_LEVEL, CV_SD, LEVEL, SHARE, TAU

from birdlab.study.board_model import fit_board
from birdlab.study.output_likeness import compare_gains
from birdlab.study.pick import expect_best, top_by
from birdlab.study.private_posterior import posterior

Floats = npt.NDArray[np.float64]
N_LABELS = 400
SHARED = 0.8
RULES = ("by public", "by CV", "outputs unknown", "outputs known")


@dataclass(frozen=True)
class AlikeSetting:
    """A board of n candidates in families of alike outputs; SD of public noise in SDs of ability.

    counts: whether alike outputs are alike on the board too, or only look so.
    """

    noise: float
    family: int
    counts: bool
    n: int = 24
    relation: float = 0.5


def draw_alike(rng: np.random.Generator, setting: AlikeSetting) -> tuple[pd.DataFrame, Floats]:
    """A ledger with cv, public and private, and what each label adds to the score of each run."""
    n = setting.n
    families = np.arange(n) // setting.family
    on_board = SHARED if setting.counts else 0.0

    def deviate(shared: float) -> Floats:
        together, own = rng.normal(size=n)[families], rng.normal(size=n)
        return np.asarray(np.sqrt(shared) * together + np.sqrt(1 - shared) * own)

    cv = deviate(on_board)
    open_part = np.sqrt(1 - setting.relation**2)
    ability = LEVEL + TAU * (setting.relation * cv + open_part * deviate(on_board))
    noise = TAU * setting.noise
    private = ability + noise * np.sqrt(SHARE / (1 - SHARE)) * deviate(on_board)
    board = pd.DataFrame(
        {
            "run": [f"r{i}" for i in range(n)],
            "cv": CV_LEVEL + CV_SD * cv,
            "public": np.round(ability + noise * deviate(on_board), 3),
            "private": private,
        }
    )
    return board, np.column_stack([deviate(SHARED) for _ in range(N_LABELS)])


def measure_alike(setting: AlikeSetting, n_boards: int, seed: int = 0) -> pd.DataFrame:
    """By how much the better of the picked two stays behind the best of all, in SDs of ability: a
    row per board, a column per rule."""
    key = [seed, round(setting.noise * 10), setting.family, int(setting.counts)]
    rng, rows = np.random.default_rng(key), []
    for _ in range(n_boards):
        board, gains = draw_alike(rng, setting)
        likeness = compare_gains(tuple(board["run"]), gains).values
        private = board["private"].to_numpy()
        pairs = {
            "by public": top_by(board["public"].to_numpy(), 2),
            "by CV": top_by(board["cv"].to_numpy(), 2),
        }
        for rule, alike in (("outputs unknown", np.eye(setting.n)), ("outputs known", likeness)):
            shown = board.drop(columns="private")
            values = expect_best(posterior(fit_board(shown, public_share=SHARE, likeness=alike)))
            np.fill_diagonal(values, -np.inf)
            pairs[rule] = np.array(np.unravel_index(int(values.argmax()), values.shape))
        rows.append({r: (private.max() - private[pairs[r]].max()) / TAU for r in RULES})
    return pd.DataFrame(rows)


def main(n_boards: int) -> None:
    rows = []
    for counts, family, noise in product((True, False), (2, 4, 8), (0.3, 1.0, 2.0)):
        setting = AlikeSetting(noise, family, counts)
        regrets = measure_alike(setting, n_boards)
        apart = regrets["outputs known"] - regrets["outputs unknown"]
        row = {"counts": counts, "family": family, "noise": noise, **regrets.mean()}
        rows.append(row | {"known less unknown": apart.mean(), "se": apart.sem()})
    table = pd.DataFrame(rows)
    print(table.round(3).to_string(index=False))
    print(table.groupby("counts").mean().round(3).to_string())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
