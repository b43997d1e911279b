"""What winners are worth: shrinkage against its formulas, known truth, and every place it shows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from winner_simulations import ERROR_SD, draw_scatters, simulate

from birdlab.cli.runs import _luck
from birdlab.cli.summaries import table_lines
from birdlab.cli.sweeps import _gain_metrics
from birdlab.spec.sweep import SweepSpec
from birdlab.study import figures, report
from birdlab.study.arms import rank_sweep, word_ranking
from birdlab.study.other_effects import prior_of
from birdlab.study.ranking import Ranking, rank_arms
from birdlab.study.shrinkage import (
    EffectPrior,
    expected_best,
    find_outliers,
    fit_effects,
    pull_arms,
    shrink,
)


def exact_prior(sd: float, mean: float = 0.0) -> EffectPrior:
    """Effects of a known distribution."""
    return EffectPrior(mean, sd, 100, sd, sd, "effects", np.array([sd]), np.ones(1))


def build_cells(effects: dict[str, float], *, noise: float = 0.01, seed: int = 0) -> pd.DataFrame:
    """arm, fold, seed, score of 5 folds and one seed."""
    rng = np.random.default_rng(seed)
    rows = [
        (arm, fold, 0, 0.8 + 0.01 * fold + effect + rng.normal(0, noise))
        for arm, effect in effects.items()
        for fold in range(5)
    ]
    return pd.DataFrame(rows, columns=["arm", "fold", "seed", "score"])


def many_arms(n: int = 12, noise: float = 0.01) -> pd.DataFrame:
    return build_cells({"base": 0.0, **{f"a{i}": 0.0 for i in range(n)}}, noise=noise)


def test_a_known_scatter_keeps_its_share_of_a_difference() -> None:
    found = shrink(0.0156, 0.006, exact_prior(0.004))
    assert found.expected == pytest.approx(0.0156 * 0.004**2 / (0.004**2 + 0.006**2))
    sd = 0.004 * 0.006 / np.hypot(0.004, 0.006)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * sd, rel=1e-6)
    assert found.chance_above == pytest.approx(stats.norm.cdf(found.expected / sd))
    assert shrink(0.02, 0.0, exact_prior(0.004)).expected == 0.02
    assert shrink(0.02, 0.006, exact_prior(0.0, 0.001)).expected == pytest.approx(0.001)
    rough = shrink(0.0156, 0.006, exact_prior(0.004), df=4)
    assert rough.high - rough.low > found.high - found.low


@pytest.mark.parametrize("variances", [[1.0] * 40, [1.0, 4.0, 0.25], [0.0, 1.0]])
def test_the_best_by_luck_is_the_mean_of_a_maximum(variances: list[float]) -> None:
    draws = np.random.default_rng(0).normal(0, np.sqrt(variances), (100_000, len(variances)))
    assert expected_best(np.array(variances)) == pytest.approx(draws.max(axis=1).mean(), abs=0.01)
    assert expected_best(np.ones(1)) == 0


def test_pulled_arms_are_the_mixture_over_scatters_that_a_plain_sum_gives() -> None:
    rng = np.random.default_rng(3)
    values, errors = rng.normal(0, 0.01, 6), np.full(6, 0.006**2)
    share = (np.arange(4000) + 0.5) / 4000
    total = errors[0] / share
    squares = ((values - values.mean()) ** 2).sum()
    weights = total ** (-5 / 2) * np.exp(-squares / total / 2)
    kept = (weights * (1 - share)).sum() / weights.sum()
    pulled = pull_arms(values, errors)
    expected = values.mean() + kept * (values - values.mean())
    assert [g.expected for g in pulled.gains()] == pytest.approx(list(expected), abs=2e-5)
    against = [g.expected for g in pulled.gains(2)]
    assert against == pytest.approx(list(expected - expected[2]), abs=2e-5) and against[2] == 0
    assert pulled.lead(2).expected == pytest.approx(expected[2] - expected.mean(), abs=2e-5)


def test_a_shared_error_widens_and_does_not_move() -> None:
    values, errors = np.array([0.0, 0.01, 0.02, 0.03]), np.full(4, 1e-4)
    alone, wide = (pull_arms(values, errors).gains(fixed_variance=v) for v in (0.0, 1e-4))
    assert [g.expected for g in alone] == [g.expected for g in wide]
    assert all(w.high - w.low > a.high - a.low for a, w in zip(alone, wide, strict=True))


def test_an_arm_far_from_all_others_stays_and_widens_nothing() -> None:
    values, errors = np.array([0.001, -0.002, 0.003, 0.0, -0.3]), np.full(5, 0.003**2)
    assert list(find_outliers(values, errors)) == [False] * 4 + [True]
    pulled = pull_arms(values, errors)
    assert pulled.gains()[4].expected == pytest.approx(-0.3)
    assert pulled.prior("").sd < 0.01 and pulled.prior("").n == 4
    assert not find_outliers(values[-3:], errors[-3:]).any(), "too few would be left"


def test_effects_that_share_a_base_are_not_taken_for_independent() -> None:
    """A base's own luck moves all effects of its sweep: that is no agreement about the scatter."""
    rng = np.random.default_rng(1)
    found: dict[str, list[float]] = {"sweeps": [], "apart": []}
    for _ in range(60):
        true, noise = rng.normal(0, 0.006, (4, 9)), rng.normal(0, 0.006, (4, 9))
        effects = ((true + noise)[:, 1:] - (true + noise)[:, :1]).ravel()
        ses, sweeps = np.full(32, 0.006 * np.sqrt(2)), np.repeat(np.arange(4), 8)
        for name, groups in (("sweeps", list(sweeps)), ("apart", None)):
            prior = fit_effects(effects, ses, groups=groups)
            assert prior is not None and prior.n >= 30
            found[name].append(prior.sd)
    truth = 0.006 * np.sqrt(2)
    assert np.mean(found["sweeps"]) == pytest.approx(truth, rel=0.1)
    assert np.std(found["sweeps"]) < np.std(found["apart"])
    assert fit_effects(np.zeros(3), np.ones(3)) is None


def test_a_winner_of_forty_is_worth_a_third_of_what_it_shows() -> None:
    found = simulate([0.004] * 150, 40, seed=0)
    assert found.shown == pytest.approx(0.0156, abs=0.001)
    assert found.expected == pytest.approx(found.true, abs=0.1 * (found.shown - found.true))
    assert found.true == pytest.approx(0.0048, abs=0.0008) and 0.9 <= found.inside <= 0.99
    assert found.by_luck == pytest.approx(2.1608 * ERROR_SD, rel=0.03)


@pytest.mark.parametrize("picked", [False, True], ids=["control", "picked"])
def test_what_winners_are_worth_is_right_on_average(picked: bool) -> None:
    found = simulate(draw_scatters(250, 1), 10, seed=2, picked=picked)
    assert abs(found.left) < 0.15 and 0.9 <= found.inside <= 0.98


def test_few_arms_are_weighed_by_the_lab() -> None:
    found = simulate([0.004] * 150, 2, seed=5, lab_effects=30)
    assert abs(found.left) < 0.25 < (found.shown - found.true) / abs(found.shown)


def test_a_ranking_has_what_its_arms_are_worth() -> None:
    ranking = rank_arms(many_arms(), base="base")
    table = ranking.table.set_index("arm").drop("base")
    winner = ranking.winner
    assert winner is not None and ranking.prior is not None and winner.n_arms == 12
    assert winner.arm == table["delta"].idxmax() and winner.shown == table["delta"].max()
    row = table.loc[winner.arm]
    assert (winner.worth.expected, winner.worth.low) == (row.expected, row.expected_low)
    assert table["delta"].mean() < row.expected < row.delta
    assert (table["expected"].rank() == table["delta"].rank()).all()
    assert f"{winner.arm} shows {row.delta:+.4f} over base; the best of 12 by chance" in " ".join(
        ranking.sentences
    )
    assert winner.sentence in word_ranking(ranking)
    assert winner.arm in report.ranking_words(ranking)["arm"].tolist()
    shown = report.ranking_words(ranking).set_index("arm")["expected gain"]
    assert shown[winner.arm].startswith(f"{row.expected:+.4f} (") and shown["base"] == ""
    (line,) = [text for text in table_lines(ranking) if text.split()[0] == winner.arm]
    assert f"{row.delta:+.4f}   {row.expected:+.4f}" in line
    assert max(len(text) for text in table_lines(ranking)) <= 100


def test_the_forest_and_the_summary_show_what_arms_are_worth() -> None:
    ranking = rank_arms(many_arms(), base="base")
    winner = ranking.winner
    assert winner is not None
    figure = figures.plot_ranking(figures.get_ranking_info(ranking))
    (drawn,) = [trace for trace in figure.data if trace.name == "expected"]
    worth = ranking.table.set_index("arm")["expected"].dropna()
    assert dict(zip(drawn.customdata, drawn.x, strict=True)) == worth.to_dict()
    assert _gain_metrics(ranking) == {
        "cv/best_gain": winner.shown,
        "cv/best_expected_gain": winner.worth.expected,
    }
    assert _gain_metrics(rank_arms(build_cells({"a": 0.0, "b": 0.0}), base="a")) == {}


def test_a_list_by_score_says_that_its_first_had_luck() -> None:
    runs = pd.DataFrame(
        {"run": ["a", "b"], "cv/padded_cmap": [0.7, 0.8], "sweeps": [["lr"], ["drop"]]}
    )
    (said,) = _luck(runs, "score")
    assert "highest of 2 scores" in said and said.endswith("birdlab report drop")
    assert _luck(runs.assign(sweeps=[[], []]), "score")[0].endswith("birdlab compare RUN b")
    assert _luck(runs, "date") == [] and _luck(runs[:1], "score") == []


def test_a_picked_base_is_pulled_down_too() -> None:
    ranking = rank_arms(many_arms(), base=None)
    table = ranking.table.set_index("arm").drop(ranking.base)
    winner = ranking.winner
    assert winner is not None and winner.arm == ranking.base
    assert 0 < winner.worth.expected < winner.shown
    assert winner.shown == pytest.approx(-table["delta"].sum() / 13)
    assert (table["expected"] > table["delta"]).all() and (table["expected"] < 0).all()


def test_a_base_that_scatters_unlike_its_arms_keeps_its_noise() -> None:
    cells = many_arms(6, noise=0.001)
    wild = cells["arm"] == "base"
    cells.loc[wild, "score"] += [0.05, -0.05, 0.04, -0.06, 0.02]
    ranking = rank_arms(cells, base="base")
    winner = ranking.winner
    assert winner is not None and winner.by_luck < 0.002
    assert winner.worth.high - winner.worth.low > 0.05


def test_few_arms_are_not_weighed_without_a_lab() -> None:
    cells = build_cells({"base": 0.0, "a": 0.01, "b": 0.0})
    without, known = (rank_arms(cells, base="base", prior=p) for p in (None, exact_prior(0.004)))
    assert without.table["expected"].isna().all() and without.prior is None
    (said,) = [s for s in without.sentences if "Not enough evidence to say" in s]
    assert "2 arms say too little" in said and "expected" not in table_lines(without)[0]
    assert "expected gain" not in report.ranking_words(without)
    pulled = known.table.set_index("arm").loc["a"]
    se = pulled.delta - pulled.own_low
    assert 0 < pulled.expected < pulled.delta and se > 0
    assert not any("Not enough" in s for s in known.sentences) and "effects scatter" in " ".join(
        known.sentences
    )
    few = rank_arms(build_cells({"a": 0.0, "b": 0.01}), base=None, prior=exact_prior(0.004, 0.003))
    assert few.winner is not None and 0 < few.winner.worth.expected < few.winner.shown


def test_a_lab_where_all_went_well_lends_no_gain_to_few_arms() -> None:
    cells = build_cells({"base": 0.0, "a": 0.01, "b": 0.0})
    plain, high, low = (
        rank_arms(cells, base="base", prior=exact_prior(0.004, mean)) for mean in (0.0, 0.03, -0.01)
    )
    assert high.winner is not None and plain.winner is not None and low.winner is not None
    assert (
        high.winner.worth == plain.winner.worth and high.winner.worth.expected < high.winner.shown
    )
    assert low.winner.worth.expected < plain.winner.worth.expected
    assert "around +0.0300; that mean is not lent to an arm." in " ".join(high.sentences)
    assert not any("lent" in said for said in (*plain.sentences, *low.sentences))


def test_equal_arms_are_worth_nothing_and_count_once() -> None:
    cells = many_arms(5)
    copies = [
        cells[cells["arm"] == old].assign(arm=new)
        for old, new in (("base", "idle"), ("a0", "twin"), ("a0", "twin2"))
    ]
    ranking = rank_arms(pd.concat([cells, *copies]), base="base")
    alone = rank_arms(cells, base="base").table.set_index("arm")["expected"]
    table = ranking.table.set_index("arm")["expected"]
    assert table["idle"] == 0 and table["twin"] == table["twin2"] == table["a0"]
    assert table["a0"] == pytest.approx(alone["a0"])
    assert ranking.winner is not None and ranking.winner.n_arms == 5


def test_without_noise_a_difference_is_worth_itself() -> None:
    cells = build_cells({"base": 0.0, **{f"a{i}": i / 100 for i in range(1, 6)}}, noise=0.0)
    table = rank_arms(cells, base="base").table.set_index("arm").drop("base")
    assert table["expected"].to_numpy() == pytest.approx(table["delta"].to_numpy())


def test_under_three_folds_nothing_is_worth_anything() -> None:
    cells = many_arms(6)
    ranking = rank_arms(cells[cells["fold"] < 2], base="base")
    assert ranking.table["expected"].isna().all() and ranking.winner is None


def test_steps_of_one_number_are_named_as_such() -> None:
    values = [0.0001, 0.0003, 0.001, 0.003, 0.01]
    spec = SweepSpec.model_validate(
        {"name": "lr", "base": "b.yaml", "grid": {"train.optimizer.lr": values}}
    )
    cells = build_cells({f"lr={value}": 0.0 for value in values})
    ranking = rank_sweep(spec, cells)
    assert isinstance(ranking, Ranking) and "steps of train.optimizer.lr" in ranking.sentences[-1]


def effects_table(n: int, *, rows_hash: str = "r", sweep: str = "old") -> pd.DataFrame:
    rng = np.random.default_rng(n)
    return pd.DataFrame(
        {
            "sweep": sweep,
            "run": [f"{sweep}{i}" for i in range(n)],
            "base_run": f"{sweep}-base",
            "effect": rng.normal(0, 0.01, n),
            "se": 0.005,
            "df": 20,
            "n_folds": 5,
            "metric": "padded_cmap",
            "rows_hash": rows_hash,
            "chosen": False,
        }
    )


def test_the_lab_counts_without_the_sweep_itself() -> None:
    own, other = effects_table(6), effects_table(5, rows_hash="s", sweep="other")
    both = pd.concat([own, other], ignore_index=True)
    found = prior_of(both, "r")
    assert found is not None and "6 effects of other sweeps" in found.source
    assert "on these recordings" in found.source
    rest = prior_of(both, "r", besides="old")
    assert rest is not None and rest.n == 5 and "on any recordings" in rest.source
    assert prior_of(own, "r", besides="old") is None
    assert prior_of(own, "r", runs=["old-base", "old0", "old1", "old2"]) is None
    assert prior_of(own.assign(chosen=True), "r") is None
    assert prior_of(own.assign(n_folds=2), "r") is None
    again = pd.concat([own, own.assign(sweep="again")])
    repeated = prior_of(again, "r")
    assert repeated is not None and repeated.n == 6
