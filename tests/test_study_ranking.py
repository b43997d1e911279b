"""Verdicts on ablations: closed forms, honest error rates, and what is left out."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from birdlab.errors import DataError
from birdlab.study.contrasts import Contrast, _most_apart, residual
from birdlab.study.judging import judge_holm
from birdlab.study.manytests import range_tail
from birdlab.study.ranking import Ranking, rank_arms


def build_scores(
    effects: dict[str, float],
    *,
    n_folds: int = 5,
    n_seeds: int = 1,
    noise_sd: float = 0.004,
    rng: np.random.Generator | int = 0,
) -> pd.DataFrame:
    draw = np.random.default_rng(rng)
    folds = draw.normal(0.8, 0.02, n_folds)
    return pd.DataFrame(
        [
            (arm, fold, seed, folds[fold] + effect + draw.normal(0, noise_sd))
            for arm, effect in effects.items()
            for fold in range(n_folds)
            for seed in range(n_seeds)
        ],
        columns=["arm", "fold", "seed", "score"],
    )


def verdicts(ranking: Ranking) -> dict[str, str]:
    return dict(zip(ranking.table["arm"], ranking.table["verdict"], strict=True))


def test_two_arms_are_the_paired_t_test() -> None:
    scores = build_scores({"a": 0.0, "b": 0.006}, n_seeds=3)
    ranking = rank_arms(scores, base="a")
    means = scores.groupby(["arm", "fold"]).score.mean()
    expected = stats.ttest_rel(means["b"], means["a"])
    row = ranking.table.set_index("arm").loc["b"]
    interval = expected.confidence_interval()
    assert row.p == pytest.approx(expected.pvalue)
    assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
    assert row.delta == pytest.approx((means["b"] - means["a"]).mean())
    assert row.n_folds == 5 and row.n_seeds == 3
    assert row.sd == pytest.approx(means["b"].std())


def test_the_residual_is_pooled_over_arms() -> None:
    scores = build_scores(dict.fromkeys("abcd", 0.0), rng=3)
    ranking = rank_arms(scores, base="a")
    table = scores.pivot(index="arm", columns="fold", values="score").to_numpy()
    rest = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    sd = np.sqrt((rest**2).sum() / (3 * 4))
    assert ranking.residual_sd == pytest.approx(sd)
    row = ranking.table.set_index("arm").loc["c"]
    raw = 2 * stats.t.sf(abs(row.delta) / (sd * np.sqrt(2 / 5)), 12)
    assert raw <= row.p <= min(1, 3 * raw) + 1e-12
    se, critical = sd * np.sqrt(2 / 5), stats.t.isf(0.05 / 6, 12)
    found = stats.nct.sf(critical, 12, ranking.minimum_detectable_delta / se)
    assert found == pytest.approx(0.8)


@given(st.lists(st.floats(-6, 6), min_size=1, max_size=8))
def test_holm_against_its_definition(statistics: list[float]) -> None:
    tested = [Contrast(str(i), 5, t, 1.0, 20, 0, False, 1.0) for i, t in enumerate(statistics)]
    judged = judge_holm(tested, 0.05)
    raw = {c.arm: 2 * stats.t.sf(abs(c.delta), 20) for c in tested}
    for c in tested:
        adjusted = max(
            sum(q >= p for q in raw.values()) * p for p in raw.values() if p <= raw[c.arm]
        )
        found = judged[c.arm]
        assert found.p == pytest.approx(min(1.0, adjusted))
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.parametrize("base", ["0", None])
def test_null_studies_rarely_find_anything(base: str | None) -> None:
    rng = np.random.default_rng(0)
    n_studies, found = (150, 0) if base else (40, 0)
    for _ in range(n_studies):
        scores = build_scores({str(i): 0.0 for i in range(6)}, rng=rng)
        found += any(
            v in ("better", "worse") for v in verdicts(rank_arms(scores, base=base)).values()
        )
    assert stats.binomtest(found, n_studies, 0.05, alternative="greater").pvalue > 0.01
    assert found > 0, "a test that never errs tests nothing"


def test_pooling_finds_what_a_single_pair_does_not() -> None:
    rng = np.random.default_rng(1)
    pooled = alone = 0
    effects = {str(i): 0.0 for i in range(9)} | {"gain": 0.010}
    for _ in range(30):
        scores = build_scores(effects, rng=rng, noise_sd=0.004)
        pooled += verdicts(rank_arms(scores, base="0"))["gain"] == "better"
        pair = scores[scores.arm.isin(["0", "gain"])].pivot(
            index="fold", columns="arm", values="score"
        )
        alone += stats.ttest_rel(pair["gain"], pair["0"]).pvalue < 0.05 / 9
    assert pooled > 1.5 * alone and pooled >= 0.55 * 30


def test_every_verdict_can_be_reached() -> None:
    effects = {"base": 0.0, "up": 0.03, "down": -0.03, "same": 0.0}
    quiet = rank_arms(build_scores(effects, noise_sd=0.0005), base="base")
    assert verdicts(quiet) == {
        "up": "better",
        "base": "base",
        "same": "within noise",
        "down": "worse",
    }
    noisy = rank_arms(build_scores({"base": 0.0, "same": 0.0}, noise_sd=0.02), base="base")
    assert verdicts(noisy)["same"] == "undecided"
    short = rank_arms(build_scores(effects, n_folds=2), base="base")
    assert set(verdicts(short).values()) == {"base", "no verdict"}
    assert np.isnan(short.minimum_detectable_delta) and "no verdict under 3" in short.sentences[0]
    assert quiet.table.arm[0] == "up" and "under 1 % is noise" in quiet.sentences[0]


def test_only_common_cells_are_compared() -> None:
    scores = build_scores({"base": 0.0, "finalist": 0.0, "early": 0.0}, n_seeds=2, rng=5)
    lucky = (scores.arm == "finalist") & (scores.seed == 1)
    scores.loc[lucky, "score"] += 0.5
    scores = scores[(scores.arm == "finalist") | (scores.seed == 0)]
    scores = scores[(scores.arm != "early") | (scores.fold < 2)]
    ranking = rank_arms(scores, base="base")
    rows = ranking.table.set_index("arm")
    assert abs(rows.delta["finalist"]) < 0.02 and rows["mean"]["finalist"] > 1.0
    assert rows.verdict["early"] == "no verdict" and rows.n_seeds["finalist"] == 2
    words = " ".join(ranking.sentences)
    assert "finalist: 5 cells are left out" in words and "early: 3 cells are left out" in words


def test_arms_without_common_cells_are_not_compared() -> None:
    scores = build_scores({"base": 0.0, "other": 0.0})
    scores.loc[scores.arm == "other", "seed"] = 7
    ranking = rank_arms(scores, base="base")
    assert np.isnan(ranking.table.delta.iloc[1]) and "shares no cell" in ranking.sentences[0]


def test_a_diverged_arm_does_not_hide_the_others() -> None:
    effects = {str(i): 0.0 for i in range(5)} | {"gain": 0.012, "wild": -0.2}
    scores = build_scores(effects, noise_sd=0.002)
    wild = scores.arm == "wild"
    scores.loc[wild, "score"] += np.array([0.2, -0.2, 0.1, -0.15, 0.05])
    ranking = rank_arms(scores, base="0")
    assert verdicts(ranking)["gain"] == "better" and verdicts(ranking)["wild"] == "undecided"
    assert ranking.residual_sd < 0.004
    assert any("wild and 0 scatter unlike" in s for s in ranking.sentences)
    from_wild = rank_arms(scores, base="wild")
    assert set(verdicts(from_wild).values()) == {"base", "undecided"}


def test_the_highest_arm_is_the_base_when_none_is_named() -> None:
    ranking = rank_arms(build_scores({"a": 0.0, "b": 0.03, "c": 0.0}), base=None)
    assert ranking.base == "b" and verdicts(ranking)["a"] == "worse"
    assert any("because its mean is the highest" in s for s in ranking.sentences)
    named = rank_arms(build_scores({"a": 0.0, "b": 0.03, "c": 0.0}), base="b")
    assert (ranking.table.p.dropna() >= named.table.p.dropna()).all(), "picking costs power"


def test_equal_arms_differ_by_nothing() -> None:
    scores = build_scores({"a": 0.0})
    ranking = rank_arms(pd.concat([scores, scores.assign(arm="twin")]), base="a")
    row = ranking.table.set_index("arm").loc["twin"]
    assert (row.delta, row.p, row.verdict) == (0.0, 1.0, "within noise")
    assert row.noise_share == "no difference"


@given(st.integers(2, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_order_of_rows_and_a_shift_change_nothing(
    n_arms: int, n_folds: int, n_seeds: int, seed: int
) -> None:
    scores = build_scores({str(i): 0.0 for i in range(n_arms)}, n_folds=n_folds, n_seeds=n_seeds)
    moved = scores.sample(frac=1, random_state=seed).assign(score=lambda t: t.score - 0.3)
    first, second = (rank_arms(t, base="0").table.set_index("arm") for t in (scores, moved))
    second = second.loc[first.index]
    for name in ("delta", "low", "high", "p"):
        np.testing.assert_allclose(first[name], second[name], atol=1e-12)
    assert list(first.verdict) == list(second.verdict)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda t: t.drop(columns="seed"), "lack a column"),
        (lambda t: t.assign(score=np.nan), "no score"),
        (lambda t: pd.concat([t, t.head(1)]), "occurs twice"),
        (lambda t: t[t.arm == "a"], "two arms"),
        (lambda t: t.replace("a", "z"), "none of the arms"),
    ],
)
def test_tables_that_cannot_be_ranked_are_refused(spoil, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=says):
        rank_arms(spoil(build_scores({"a": 0.0, "b": 0.0})), base="a")


# ---------------------------------------------------------------- many arms


@pytest.mark.parametrize("n_arms", [2, 5, 60, 1000])
@pytest.mark.parametrize("df", [2, 3, 8, 2000])
def test_the_tail_of_the_studentized_range_is_scipys(n_arms: int, df: int) -> None:
    q = np.array([0, 0.01, 0.7, 2, 3.5, 6, 12, 80])
    expected = stats.studentized_range.sf(q, n_arms, df)
    np.testing.assert_allclose(range_tail(q, n_arms, df), expected, rtol=0, atol=1e-10)
    assert range_tail(np.array([np.inf]), n_arms, df) == 0


@pytest.mark.parametrize("seed", range(12))
def test_the_arm_that_is_tested_first_is_the_one_that_fits_worst(seed: int) -> None:
    draw = np.random.default_rng(seed)
    n_arms, n_folds = draw.integers(3, 9), draw.integers(3, 6)
    means = draw.normal(size=(n_arms, n_folds)) * draw.choice([0.004, 0.05], size=(n_arms, 1))
    ratios = []
    for arm in range(n_arms):
        others = np.delete(means, arm, axis=0)
        own = np.var(means[arm] - others.mean(axis=0), ddof=1) / (1 + 1 / len(others))
        ratios.append(own / residual(others)[0] ** 2)
    assert _most_apart(means) == int(np.argmax(ratios))


def test_a_thousand_arms_are_ranked_in_seconds() -> None:
    draw = np.random.default_rng(0)
    scores = pd.DataFrame(
        [
            (f"arm {arm}", fold, 0, 0.5 + 0.01 * fold + 1e-5 * arm + draw.normal() * 0.004)
            for arm in range(1000)
            for fold in range(3)
        ],
        columns=["arm", "fold", "seed", "score"],
    )
    began = time.process_time()
    ranking = rank_arms(scores, base=None)
    assert time.process_time() - began < 5
    assert len(ranking.table) == 1000
    assert ranking.table["p"].dropna().between(0, 1).all()
