"""The real ledger of 2025: every figure that the domain notes hold, and what is said of it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from cvlb_ledger import ESTIMATORS, LEDGER_2025, MAIN_SPLIT, NOLEAK_SPLIT, build_pairs

from birdlab.study.cvlb import CvLbStudy, answer_cv_lb, compare_estimators, study_cv_lb

NEAR = 0.005


@pytest.fixture(scope="module")
def ledger() -> pd.DataFrame:
    if not LEDGER_2025.exists():
        pytest.skip("the 2025 ledger does not lie beside this checkout")
    return pd.read_csv(LEDGER_2025)


@pytest.fixture(scope="module")
def study(ledger: pd.DataFrame) -> CvLbStudy:
    return study_cv_lb(build_pairs(ledger), metric="macro AUC", lb_from=0.9)


def near(value: float) -> object:
    return pytest.approx(value, abs=NEAR)


def test_the_whole_field(study: CvLbStudy) -> None:
    assert (study.n, study.n_lineages) == (108, 108)
    assert study.spearman.value == near(0.50)
    assert (study.spearman.boot_low, study.spearman.boot_high) == (near(0.32), near(0.65))
    assert study.rounding.digits == 3
    assert study.rounding.low < study.spearman.value < study.rounding.high
    assert study.rounding.high - study.rounding.low < 0.02


def test_the_two_large_splits(study: CvLbStudy) -> None:
    groups = study.groups[study.groups["by"] == "split"].set_index("group")
    assert groups.loc[MAIN_SPLIT, ["n", "spearman"]].tolist() == [71, near(0.557)]
    assert groups.loc[NOLEAK_SPLIT, ["n", "spearman"]].tolist() == [24, near(0.137)]
    assert groups["few"].tolist() == [False, False, *[True] * 7]


def test_the_bands(study: CvLbStudy) -> None:
    bands = study.bands.set_index(["cut", "part", "split"])
    row = bands.loc[("lb", "from 0.9", "")]
    assert row["n"] == 67 and row["spearman"] == near(-0.047)
    assert row[["alone", "alone_low", "alone_high"]].tolist() == [
        near(0.35),
        near(0.12),
        near(0.55),
    ]
    assert bands.loc[("cv", "top quarter", ""), ["n", "spearman"]].tolist() == [27, near(-0.397)]
    for split, n, value in ((MAIN_SPLIT, 36, -0.395), (NOLEAK_SPLIT, 12, -0.551)):
        row = bands.loc[("cv", "top half", split)]
        assert row["n"] == n and row["spearman"] == near(value)


def test_pairs_and_folds(study: CvLbStudy) -> None:
    shares = study.shares.set_index(["scope", "gap"])["share"]
    assert shares["all pairs", 0.002] == near(0.791)
    assert shares["all pairs", 0.005] == near(0.951)
    assert shares[NOLEAK_SPLIT, 0.001] == near(0.557)
    assert study.resolution.gap == pytest.approx(0.0021, abs=0.0001)
    assert 0.001 < study.resolution.low < 0.0021 < study.resolution.high < 0.0035
    noise = study.fold_noise.set_index("split")
    assert noise.loc["", "fold_sd"] == pytest.approx(0.0041, abs=0.0001)
    assert noise.loc[NOLEAK_SPLIT, "paired_sd"] == pytest.approx(0.0014, abs=0.0001)
    assert noise.loc[MAIN_SPLIT, "paired_sd"] == pytest.approx(0.0025, abs=0.0001)


def test_it_says_that_cv_ranks_the_field_and_not_its_top(study: CvLbStudy) -> None:
    assert study.answer == "CV ranks the field, and not its top."
    field, top, resolution, claim, best = study.sentences
    assert field.startswith("Over 108 runs (macro AUC) Spearman is +0.50 (95 % +0.34 to +0.64)")
    assert "In the top quarter by CV (27 runs) it is -0.40 (95 % -0.68 to -0.00)" in top
    assert "-0.40 over 36 runs" in top and "-0.55 over 12 runs" in top
    assert resolution.startswith("From a CV gap of 0.0021 on, 80 % of the pairs or more")
    assert claim.startswith("Of the 187 pairs within a split with a CV gap of 0.01 or more")
    assert "orders 99 % alike" in claim and "one run is in 30 % of them" in claim
    assert "leaderboard-best in under 1 % of resampled folds" in best


def test_pooled_predicts_worse_than_the_mean_of_folds(ledger: pd.DataFrame) -> None:
    tables = {name: build_pairs(ledger, name) for name in ("pooled", "mean of folds")}
    found = compare_estimators(tables)
    rows = found.table.set_index("estimator")
    assert rows.index.tolist() == ["mean of folds", "pooled"]
    assert rows["spearman"].tolist() == [near(0.503), near(0.346)]
    assert rows.loc["pooled", "behind_low"] > 0
    assert found.sentences[0].endswith("and better than each of the others.")
    many = compare_estimators({name: build_pairs(ledger, name) for name in ESTIMATORS})
    assert 0 < many.optimism < 0.1 and found.chance < many.chance < many.chance_high
    assert "cannot be told from" in many.sentences[0] and "is itself a fit" in many.sentences[1]


def test_a_part_of_the_ledger_shuffled_or_small_says_nothing(ledger: pd.DataFrame) -> None:
    pairs = build_pairs(ledger)
    rng = np.random.default_rng(0)
    shuffled = [pairs.assign(lb=rng.permutation(pairs["lb"])) for _ in range(4)]
    answers = [answer_cv_lb(null, metric="macro AUC") for null in shuffled]
    # An interval of 95 % leaves out the truth now and then, and one of four here does.
    assert answers.count("CV cannot be told from no ranking at all.") == 3
    nine = study_cv_lb(pairs[:9], metric="macro AUC")
    assert nine.answer.startswith("No verdict: 9 runs have both") and len(nine.sentences) == 1
