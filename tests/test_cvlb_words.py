"""What a study says: ledgers of known kind, and nothing under 10 runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from cvlb_simulations import draw_pairs, judge_tops

from birdlab.errors import DataError
from birdlab.study.cvlb import CvLbStudy, study_cv_lb


def study(cv: object, lb: object, **columns: object) -> CvLbStudy:
    return study_cv_lb(pd.DataFrame({"cv": cv, "lb": lb, **columns}), metric="padded_cmap")


def test_a_strong_ledger_a_null_one_and_one_the_wrong_way_round() -> None:
    rng = np.random.default_rng(0)
    strong = study(*draw_pairs(rng, 100, 0.97))
    assert strong.answer == "CV ranks the field well, its top included."
    assert "where the cut alone would leave" in strong.sentences[1]
    null = study(*draw_pairs(rng, 100, 0.0))
    assert null.answer == "CV cannot be told from no ranking at all."
    assert null.sentences[2] == "No CV gap orders the leaderboard rightly in 80 % of the pairs."
    assert study(*draw_pairs(rng, 100, -0.9)).answer == "CV ranks the runs the wrong way round."


def test_a_field_whose_top_turns_round_and_one_whose_top_is_open() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=200)
    bent = np.where(x < 0.6, x, 0.9 - x / 2) + rng.normal(0, 0.7, 200)
    assert study(x, bent).answer == "CV ranks the field, and not its top."
    opened = study(*draw_pairs(rng, 60, 0.6))
    assert opened.answer == "CV ranks the field, and of its top nothing can be said."
    few = study(*draw_pairs(rng, 15, 0.95))
    assert few.answer.endswith("its top has too few runs to say more.") and few.top is None


def test_what_is_said_of_a_top_that_is_like_the_field_is_seldom_wrong() -> None:
    assert judge_tops(60, 0.6, 80)["not ranked"] < 0.08
    assert judge_tops(150, 0.9, 30)["ranked"] > 0.9


@pytest.mark.parametrize("n", range(10))
def test_under_ten_runs_there_is_no_verdict(n: int) -> None:
    x = np.arange(float(n))
    found = study(
        x, x, split="a", fold_scores=[[v, v] for v in x], private=x, selected=False, lineage="b"
    )
    assert found.answer.startswith(f"No verdict: {n} run") and "under 10" in found.answer
    assert found.sentences == (found.answer,) and found.top is None


def test_a_score_that_never_changes_and_a_perfect_order() -> None:
    x = np.arange(12.0)
    assert "one of the two scores (padded_cmap) never changes" in study(x, np.ones(12)).answer
    assert study(x, x**3).answer == "CV and leaderboard put the runs in the same order."
    assert "exactly the opposite" in study(x, -x).answer


def test_lineages_are_counted_and_too_few_are_said() -> None:
    rng = np.random.default_rng(0)
    lineages = np.repeat(np.arange(12), 5)
    x, y = draw_pairs(rng, 60, 0.6, lineages=lineages, icc=0.8)
    found = study(x, y, lineage=lineages.astype(str))
    low, high = found.spearman.ends
    assert found.n_lineages == 12 and "counting their 12 lineages" in found.sentences[0]
    assert low <= found.spearman.low and high >= found.spearman.high
    three = study(x, y, lineage=(lineages % 3).astype(str))
    assert "3 lineages, too few to see" in three.sentences[0]
    assert three.spearman.ends == (three.spearman.low, three.spearman.high)


def test_a_perfect_order_has_no_interval_however_many_lineages() -> None:
    x = np.arange(12.0)
    for names, said in ((x // 2, "from 6 lineages."), (x // 3, "from 4 lineages, too few")):
        assert said in study(x, x**3, lineage=names.astype(str)).sentences[0]


def test_the_top_speaks_from_lineages_where_they_are_wider() -> None:
    lineages = np.repeat(np.arange(16), 5)
    x, y = draw_pairs(np.random.default_rng(3), 80, 0.9, lineages=lineages, icc=0.8)
    top = study(x, y, lineage=lineages.astype(str)).top
    assert top is not None and top.n_lineages < top.n
    assert top.ends == (min(top.low, top.boot_low), max(top.high, top.boot_high))
    assert top.ends != (top.low, top.high)
    alone = study(x, y).top
    assert alone is not None and alone.n_lineages == alone.n
    assert alone.ends == (alone.low, alone.high)


def test_a_single_pair_far_apart_is_said_as_one() -> None:
    cv, lb = np.r_[np.linspace(0.9, 0.9097, 19), 0.9101], np.random.default_rng(0).random(20)
    said = study(cv, lb).sentences[3]
    order = "the same order" if lb[0] < lb[-1] else "the other order"
    assert said == f"The only pair of runs with a CV gap of 0.01 or more has {order} on the " + (
        "leaderboard."
    )


def test_the_shake_is_told_with_what_it_cost() -> None:
    rng = np.random.default_rng(0)
    x, y = draw_pairs(rng, 30, 0.8)
    pairs = pd.DataFrame(
        {"cv": x, "lb": y, "private": y + 0.1, "run": [f"r{i}" for i in range(30)]}
    )
    pairs["selected"] = pairs["run"] == "r0"
    first, second = study_cv_lb(pairs, metric="m", n_submissions=41).sentences[-2:]
    assert first.startswith("Over 30 runs with both scores, private is +0.1000 against public")
    assert "public-best 0.0000" in second and "selected" in second
    assert second.endswith("41 submissions had a public score to choose by.")
    days = [f"2025-05-{1 + i:02}" for i in range(30)]
    dated = study_cv_lb(pairs.sort_values("lb").assign(submitted_at=days), metric="m")
    assert dated.sentences[-1].endswith("choose by; 30 runs were a new public best on the day.")
    before = study_cv_lb(pairs.drop(columns="private"), metric="m", n_submissions=1)
    assert before.sentences[-1] == "1 submission had a public score to choose by."


def test_runs_without_folds_are_said_to_be_left_out() -> None:
    x, y = draw_pairs(np.random.default_rng(0), 20, 0.8)
    folds = [[v, v + 0.1, v - 0.1] for v in x[:18]] + [[], []]
    said = study(x, y, fold_scores=folds).sentences[4]
    assert said.startswith("The CV-best of these 18 runs")
    assert said.endswith("below. Left out: 2 runs without the scores of 3 folds.")


def test_nothing_but_cv_and_lb_is_needed_and_both_must_be_numbers() -> None:
    x = np.random.default_rng(0).random(20)
    found = study(x, x + 0.1)
    assert found.shake is None and np.isnan(found.best.probability)
    assert found.groups.empty and found.partial.empty and found.fold_noise.empty
    with pytest.raises(DataError, match="pair up"):
        study([0.1, np.nan], [0.1, 0.2])
