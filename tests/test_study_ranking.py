"""Verdicts on ablations: closed forms, honest error rates, and what is left out."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from simulations import (
    assumed_noise,
    draw_scores,
    found_share,
    inside_shares,
    judge_means,
    judge_studies,
)

from birdlab.errors import DataError
from birdlab.study.contrasts import (
    Contrast,
    _most_apart,
    build_contrasts,
    residual,
)
from birdlab.study.judging import Judgement, judge_holm, on_new_data
from birdlab.study.manytests import dunnett_critical, dunnett_tail, range_tail, tukey_critical
from birdlab.study.noise import NoiseFloor, Spread, paired_se
from birdlab.study.noise import detectable_delta as foretold_delta
from birdlab.study.power import chance_to_decide, more_seeds
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


@pytest.mark.parametrize("n_arms", [1, 3])
@pytest.mark.parametrize("n_seeds", [1, 2, 3, 5])
def test_of_equal_arms_five_percent_are_better_or_worse(n_arms: int, n_seeds: int) -> None:
    """Recipes that rank differently by fold, folds that all arms share, seeds within folds."""
    rng = np.random.default_rng(100 * n_seeds + n_arms)
    scores = draw_scores(rng, 5_000, [0.0] * (n_arms + 1), 5, n_seeds)
    assert 0.035 < found_share(judge_studies(scores.mean(axis=-1))) < 0.065


def test_dunnett_keeps_to_five_percent_where_holm_is_strict() -> None:
    means = draw_scores(np.random.default_rng(1), 400, [0.0] * 11, 5, 2).mean(axis=-1)
    holm, dunnett = (judge_studies(means, method=m) for m in ("holm", "dunnett"))
    assert stats.binomtest(round(400 * found_share(dunnett)), 400, 0.05).pvalue > 0.01
    assert found_share(holm) <= found_share(dunnett)


def test_the_core_of_the_simulations_is_what_ranks_arms() -> None:
    scores = draw_scores(np.random.default_rng(2), 1, [0.0, 0.012, 0.0, -0.02, 0.004], 4, 2)[0]
    scores[3] += np.random.default_rng(3).normal(0, 0.1, (4, 1))
    rows = [(str(a), f, s, scores[a, f, s]) for a, f, s in np.ndindex(*scores.shape)]
    frame = pd.DataFrame(rows, columns=["arm", "fold", "seed", "score"])
    for method in ("holm", "dunnett"):
        table = rank_arms(frame, base="0", correction=method).table.set_index("arm")
        assert [verdict for _, verdict in sorted(table["verdict"].items())][1:] == list(
            judge_studies(scores.mean(axis=-1)[None], method=method)[0]
        )
        for c, said in judge_means(scores.mean(axis=-1), method=method):
            row = table.loc[c.arm]
            assert (row.p, row.low, row.low90) == pytest.approx((said.p, said.low, said.low90))


@pytest.mark.parametrize(("n_arms", "n_seeds"), [(1, 1), (1, 5), (3, 2), (3, 3)])
def test_a_true_difference_is_found_as_often_as_foretold(n_arms: int, n_seeds: int) -> None:
    n, delta = 3_000, foretold_delta(assumed_noise(), 5, n_seeds, n_arms)
    effects = [0.0, delta, *[0.0] * (n_arms - 1)]
    means = draw_scores(np.random.default_rng(n_seeds), n, effects, 5, n_seeds).mean(axis=-1)
    assert (judge_studies(means)[:, 0] == "better").mean() == pytest.approx(0.8, abs=0.03)


def test_folds_that_move_together_inflate_the_verdict_and_not_the_interval_for_new_data() -> None:
    means = draw_scores(np.random.default_rng(4), 2_000, [0.0, 0.0], 5, 2, correlation=0.2)
    judged = [judge_means(study)[0] for study in means.mean(axis=-1)]
    assert np.mean([said.p < 0.05 for _, said in judged]) > 0.10
    new = np.array([on_new_data(c, 5) for c, _ in judged])
    assert np.mean((new[:, 0] > 0) | (new[:, 1] < 0)) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("picked", [False, True])
def test_a_difference_that_matters_is_within_noise_in_at_most_five_percent(picked: bool) -> None:
    each, _, called = inside_shares(700 if picked else 1_500, 4, picked=picked)
    assert 0.03 < each < 0.07 and called <= each


def test_picking_the_base_finds_nothing_more() -> None:
    means = draw_scores(np.random.default_rng(5), 150, [0.0] * 6, 5, 1).mean(axis=-1)
    found = 0
    for study in means:
        base = int(study.mean(axis=1).argmax())
        found += any(s.p < 0.05 for _, s in judge_means(study, base=base, method="tukey"))
    assert stats.binomtest(found, len(means), 0.05, alternative="greater").pvalue > 0.01
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
    assert any("wild scatters unlike" in s for s in ranking.sentences)
    from_wild = rank_arms(scores, base="wild")
    assert set(verdicts(from_wild).values()) == {"base", "undecided"}
    (said,) = [s for s in from_wild.sentences if "unlike" in s]
    assert said.startswith("wild scatters unlike the other arms: each is tested on the variance")


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


def test_dunnett_against_scipy_and_the_published_table() -> None:
    """Two-sided 5 % points: Dunnett (1964), Biometrics 20, table II."""
    published = {
        5: [2.57, 3.03, 3.29, 3.48, 3.62, 3.73, 3.82, 3.90, 3.97],
        10: [2.23, 2.57, 2.76, 2.89, 2.99, 3.07, 3.14, 3.19, 3.24],
        20: [2.09, 2.38, 2.54, 2.65, 2.73, 2.80, 2.86, 2.90, 2.95],
    }
    for df, values in published.items():
        found = [dunnett_critical(0.05, n, df) for n in range(1, 10)]
        np.testing.assert_allclose(found, values, atol=0.0051)
    draw = np.random.default_rng(0)
    control, *arms = (draw.normal(mean, 1, 6) for mean in (0, 0.5, 1.0, 1.5))
    expected = stats.dunnett(*arms, control=control, rng=np.random.default_rng(0))
    found = dunnett_tail(np.abs(expected.statistic), 3, 20)
    np.testing.assert_allclose(found, expected.pvalue, atol=2e-4)
    assert dunnett_tail(np.array([2.0]), 1, 7) == pytest.approx(2 * stats.t.sf(2.0, 7))


def test_tukeys_critical_value_is_scipys() -> None:
    expected = stats.studentized_range.ppf(0.95, 5, 12) / np.sqrt(2)
    assert tukey_critical(0.05, 5, 12) == pytest.approx(expected, abs=1e-7)


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


# ---------------------------------------------------------------- beside the verdict


def test_the_narrow_interval_decides_what_is_within_noise() -> None:
    scores = build_scores({"a": 0.0, "b": 0.0}, noise_sd=0.002, rng=16)
    row = rank_arms(scores, base="a").table.set_index("arm").loc["b"]
    means = scores.pivot(index="fold", columns="arm", values="score")
    narrow = stats.ttest_rel(means["b"], means["a"]).confidence_interval(0.9)
    assert (row.low90, row.high90) == pytest.approx((narrow.low, narrow.high))
    limit = max(abs(row.low90), abs(row.high90))
    assert max(abs(row.low), abs(row.high)) > limit
    for smallest, verdict in ((limit * 1.001, "within noise"), (limit * 0.999, "undecided")):
        said = rank_arms(scores, base="a", smallest_effect=smallest)
        assert verdicts(said)["b"] == verdict


def test_a_sure_but_tiny_difference_is_better_and_said_to_be_tiny() -> None:
    ranking = rank_arms(build_scores({"a": 0.0, "b": 0.002}, noise_sd=0.0003), base="a")
    assert verdicts(ranking)["b"] == "better"
    assert "better by less than 0.005" in ranking.sentences[0]


def test_own_variance_stands_beside_the_pooled_one() -> None:
    scores = build_scores({"a": 0.0, "b": 0.006, "c": 0.0, "d": 0.001}, n_seeds=2, rng=7)
    table = rank_arms(scores, base="a").table.set_index("arm")
    means = scores.groupby(["arm", "fold"]).score.mean().unstack("arm")
    raw = {arm: stats.ttest_rel(means[arm], means["a"]).pvalue for arm in "bcd"}
    smallest = min(raw, key=lambda arm: raw[arm])
    assert table.loc[smallest, "own_p"] == pytest.approx(min(1, 3 * raw[smallest]))
    largest = max(raw, key=lambda arm: raw[arm])
    assert table.loc[largest, "own_p"] >= raw[largest] - 1e-12
    inside = (table["own_low"] < table["delta"]) & (table["delta"] < table["own_high"])
    assert inside.drop("a").all() and table.loc["a"].isna()["own_p"]


def test_dunnett_is_the_single_step_test_over_the_table() -> None:
    scores = build_scores(dict.fromkeys("abcd", 0.0) | {"e": 0.01}, rng=8)
    ranking = rank_arms(scores, base="a", correction="dunnett")
    holm = rank_arms(scores, base="a")
    table = ranking.table.set_index("arm")
    se = ranking.residual_sd * np.sqrt(2 / 5)
    t = np.abs(table["delta"].drop("a")) / se
    np.testing.assert_allclose(table["p"].drop("a"), dunnett_tail(t.to_numpy(), 4, 16))
    width = dunnett_critical(0.05, 4, 16) * se
    np.testing.assert_allclose(table["high"].drop("a") - table["delta"].drop("a"), width)
    assert ranking.minimum_detectable_delta < holm.minimum_detectable_delta
    assert ((table["p"] < 0.05) == ((table["low"] > 0) | (table["high"] < 0))).drop("a").all()


def test_the_interval_for_new_data_is_that_of_nadeau_and_bengio() -> None:
    scores = build_scores({"a": 0.0, "b": 0.01}, rng=9)
    means = scores.pivot(index="fold", columns="arm", values="score")
    d = (means["b"] - means["a"]).to_numpy()
    for split, ratio in ((None, 1 / 4), (10, 1 / 9)):
        row = rank_arms(scores, base="a", split_folds=split).table.set_index("arm").loc["b"]
        width = stats.t.ppf(0.975, 4) * np.sqrt((1 / 5 + ratio) * d.var(ddof=1))
        assert (row.nb_low, row.nb_high) == pytest.approx((d.mean() - width, d.mean() + width))


def test_differences_in_multiples_of_the_noise_floor() -> None:
    scores = build_scores({"a": 0.0, "b": 0.01}, n_seeds=2, rng=10)
    noise = assumed_noise()
    ranking = rank_arms(scores, base="a", noise=noise)
    row = ranking.table.set_index("arm").loc["b"]
    assert row.noise_multiples == pytest.approx(row.delta / paired_se(noise, 5, 2))
    assert paired_se(noise, 5, 2) == pytest.approx(np.sqrt(2 * (0.004**2 + 0.006**2 / 2) / 5))
    assert f"{row.noise_multiples:.1f} times the noise floor" in ranking.sentences[0]
    assert not any("moves all folds" in s for s in ranking.sentences)
    moved = replace(noise, seed=Spread(0.005, 0.001, 0.02))
    told = rank_arms(scores, base="a", noise=moved).sentences
    assert any("a seed moves all folds together" in s for s in told)
    assert rank_arms(scores, base="a").table["noise_multiples"].isna().all()


# ---------------------------------------------------------------- more evidence


@pytest.mark.parametrize(
    ("delta", "se", "smallest"),
    [(0.01, 0.004, 0.005), (0.0, 0.0015, 0.005), (0.003, 0.001, 0.005), (0.004, 0.003, 0.02)],
)
def test_the_chance_to_decide_is_that_of_simulated_studies(
    delta: float, se: float, smallest: float
) -> None:
    rng, n, df, critical, narrow = np.random.default_rng(0), 200_000, 8, 2.9, 1.86
    found = rng.normal(delta, se, n)
    error = se * np.sqrt(rng.chisquare(df, n) / df)
    decided = (np.abs(found) > critical * error) | (np.abs(found) + narrow * error <= smallest)
    chance = chance_to_decide(delta, np.array([se]), df, critical, narrow, smallest)
    assert chance[0] == pytest.approx(decided.mean(), abs=0.004)


def undecided(
    delta: float, *, residual_sd: float, repeat_sd: float, n_seeds: int = 2, df: int = 20
) -> tuple[Contrast, Judgement]:
    se = residual_sd * np.sqrt(2 / 5)
    c = Contrast("x", 5, delta, se, df, 0, False, residual_sd, n_seeds, repeat_sd)
    c = replace(c, repeat_df=44)
    return c, judge_holm([c], 0.05)["x"]


def test_the_seeds_that_are_missing_decide_in_eighty_percent() -> None:
    c, judged = undecided(0.006, residual_sd=0.006, repeat_sd=0.006 * np.sqrt(2))
    n = int(more_seeds(c, judged, 0.001).split()[0])
    chances = [
        chance_to_decide(
            0.006,
            np.array([0.006 * np.sqrt(2 / 5 * 2 / (2 + more))]),
            20,
            judged.critical,
            judged.narrow,
            0.001,
        )[0]
        for more in (n - 1, n)
    ]
    assert n > 1 and chances[0] < 0.8 <= chances[1]


def test_where_no_number_of_seeds_suffices_it_takes_folds() -> None:
    c, judged = undecided(0.006, residual_sd=0.006, repeat_sd=0.001)
    assert more_seeds(c, judged, 0.001) == "needs more folds"
    alone = replace(c, repeat_sd=float("nan"), repeat_df=0)
    assert more_seeds(alone, judged, 0.001).startswith("at least ")
    noise: NoiseFloor = assumed_noise(fold_arm_sd=0.006)
    assert more_seeds(alone, judged, 0.001, noise) == "needs more folds"
    assert "at least" not in more_seeds(alone, judged, 0.001, assumed_noise(fold_arm_sd=0.0))


def test_folds_are_asked_for_only_where_chance_does_not_look_like_it() -> None:
    """The part that seeds do not change is estimated as most of it, from few degrees of freedom."""
    c, judged = undecided(0.006, residual_sd=0.006, repeat_sd=0.006, df=4)
    assert more_seeds(replace(c, repeat_df=40), judged, 0.001).endswith("more seeds, or more folds")
    many, judged = undecided(0.006, residual_sd=0.006, repeat_sd=0.006, df=200)
    assert more_seeds(replace(many, repeat_df=400), judged, 0.001) == "needs more folds"


def test_a_difference_of_nothing_is_decided_by_seeds_too() -> None:
    c, judged = undecided(0.0, residual_sd=0.006, repeat_sd=0.006 * np.sqrt(2))
    assert more_seeds(c, judged, 0.005).endswith("more seeds")
    assert more_seeds(c, judged, 0.0003) == "over 100 more seeds"


def test_seeds_and_recipe_by_fold_are_told_apart_in_a_table() -> None:
    effects = [0.0, 0.004] + [0.0] * 10
    for fold_arm_sd in (0.0, 0.012):
        scores = draw_scores(
            np.random.default_rng(12), 1, effects, 5, 3, seed_sd=0.012, fold_arm_sd=fold_arm_sd
        )[0]
        rows = [(f"{a}", f, s, scores[a, f, s]) for a, f, s in np.ndindex(*scores.shape)]
        frame = pd.DataFrame(rows, columns=["arm", "fold", "seed", "score"])
        cells = frame.pivot(index="arm", columns=["fold", "seed"], values="score")
        paired = scores - scores.mean(axis=0)
        rest = paired - paired.mean(axis=2, keepdims=True)
        c = build_contrasts(cells, ["1"], "0")["1"]
        assert c.repeat_sd == pytest.approx(np.sqrt((rest**2).sum() / (11 * 5 * 2)))
        assert c.n_seeds == 3
        table = rank_arms(frame, base="0", smallest_effect=0.001).table
        undecided_arms = table["verdict"] == "undecided"
        assert c.repeat_df == 11 * 5 * 2
        folds = table.loc[undecided_arms, "more_seeds"] == "needs more folds"
        assert folds.all() if fold_arm_sd else not folds.all()
        assert undecided_arms.any() and (table.loc[~undecided_arms, "more_seeds"] == "").all()


def test_arms_that_are_equal_to_another_tell_nothing_of_the_scatter() -> None:
    """Copies of the base, or of one another, leave the intervals of the others as they are."""
    rng = np.random.default_rng(3)
    base = rng.normal(0.7, 0.01, 9)
    scores = {
        "base": base,
        "a": base + rng.normal(0, 0.004, 9),
        "b": base + rng.normal(0, 0.004, 9),
    }
    copies = {"same": base, "same too": base, "a again": scores["a"]}

    def rank(arms: dict[str, np.ndarray]) -> Ranking:
        rows = [(arm, i // 3, i % 3, s) for arm, own in arms.items() for i, s in enumerate(own)]
        columns = ["arm", "fold", "seed", "score"]
        return rank_arms(pd.DataFrame(rows, columns=columns), base="base")

    alone, beside = rank(scores), rank(scores | copies)
    assert beside.residual_sd == pytest.approx(alone.residual_sd)
    table = beside.table.set_index("arm")
    assert list(table.loc["a again", ["low", "high"]]) == list(table.loc["a", ["low", "high"]])
    told = "\n".join(beside.sentences)
    for arm in ("same", "same too"):
        assert f"{arm}: equal to base in every fold, to the last digit." in told
        assert table.loc[arm, "verdict"] in ("within noise", "undecided")
    assert "a again: equal" not in told
