"""The posterior of private scores, the pick of two, and what to submit next."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pick_simulations import Setting, draw_board
from scipy import integrate, stats

from birdlab.errors import DataError
from birdlab.study.pick import expect_higher, pick_two
from birdlab.study.private_posterior import fit_board, posterior


def board_of(seed: int = 0, **kwargs: float) -> pd.DataFrame:
    """A ledger of known truth, without its private scores."""
    setting = Setting(0.5, 1.0, 12)
    return draw_board(np.random.default_rng(seed), setting).drop(columns="private")


def test_the_expected_higher_of_two_is_that_of_clark() -> None:
    def brute(a: float, b: float, spread: float) -> float:
        gap = stats.norm(a - b, spread)
        found, _ = integrate.quad(lambda d: max(d, 0) * gap.pdf(d), -1, 1, points=[0, a - b])
        return b + float(found)

    for a, b, spread in ((0.80, 0.81, 0.01), (0.8, 0.8, 0.02), (0.83, 0.80, 0.005)):
        found = expect_higher(np.array(a), np.array(b), np.array(spread))
        assert found == pytest.approx(brute(a, b, spread), abs=1e-9)
    assert expect_higher(np.array(0.8), np.array(0.7), np.array(0.0)) == 0.8


def test_too_few_scores_are_refused() -> None:
    board = board_of()
    board.loc[4:, "public"] = np.nan
    with pytest.raises(DataError, match="not enough evidence"):
        fit_board(board)


def test_the_pick_is_the_best_of_all_pairs() -> None:
    post = posterior(fit_board(board_of()))
    pick = pick_two(post)
    assert pick.expected_best == pick.compared["expected_best"].max()
    assert pick.table["picked"].sum() == 2
