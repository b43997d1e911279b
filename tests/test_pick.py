"""The posterior of private scores, the pick of two, and what to submit next."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cvlb_ledger import LEDGER_2025
from pick_simulations import RULES, Setting, draw_board, measure_regrets, replay_ledger
from scipy import integrate, stats
from scipy.special import logsumexp

from birdlab.errors import DataError
from birdlab.study import pick_view
from birdlab.study.board_evidence import (
    N_SCALES,
    SCALES,
    history_predictors,
    trust_grid,
    weigh_history,
)
from birdlab.study.board_model import fit_board
from birdlab.study.board_rows import lineage_likeness, widen_outlying
from birdlab.study.next_submission import rank_next, word_next
from birdlab.study.pick import draw_private, expect_best, expect_higher, pick_two
from birdlab.study.pick_figures import get_pick_info, plot_pick
from birdlab.study.pick_rows import list_board
from birdlab.study.pick_view import build_next, build_pick, judge_pick, show_picks
from birdlab.study.pick_words import PICK_COLUMNS, candidates_words
from birdlab.study.private_posterior import Posterior, posterior
from birdlab.study.tables import StudyTables


def board_of(n: int = 12, *, relation: float = 0.5, noise: float = 1.0) -> pd.DataFrame:
    """A ledger of known truth, without its private scores."""
    board = draw_board(np.random.default_rng(n), Setting(relation, noise, n))
    return board.drop(columns="private")


def post_of(mean: list[float], cov: list[list[float]], public: list[float]) -> Posterior:
    """A posterior that is one normal."""
    runs = [f"r{k}" for k in range(len(mean))]
    table = pd.DataFrame({"run": runs, "name": runs, "cv": mean, "public": public})
    m, c = np.array(mean), np.array(cov)
    return Posterior(
        *(table, m, c, np.ones(1), m[None], c[None]),
        *(np.array(public), m, np.diag(c) + 1e-4, c),
    )


def test_the_expected_higher_of_two_is_that_of_clark() -> None:
    def brute(a: float, b: float, spread: float) -> float:
        gap = stats.norm(a - b, spread)
        found, _ = integrate.quad(lambda d: max(d, 0) * gap.pdf(d), -1, 1, points=[0, a - b])
        return b + float(found)

    for a, b, spread in ((0.80, 0.81, 0.01), (0.8, 0.8, 0.02), (0.83, 0.80, 0.005)):
        found = expect_higher(np.array(a), np.array(b), np.array(spread))
        assert found == pytest.approx(brute(a, b, spread), abs=1e-9)
    assert expect_higher(np.array(0.8), np.array(0.7), np.array(0.0)) == 0.8


def test_the_best_pair_is_not_always_the_two_best() -> None:
    """The second helps where the first fails: an equal twin of it does not."""
    twins = [[4e-4, 3.9e-4, 0], [3.9e-4, 4e-4, 0], [0, 0, 4e-4]]
    post = post_of([0.82, 0.819, 0.815], twins, [0.82, 0.819, 0.815])
    assert pick_two(post).pair == ("r0", "r2")
    assert pick_two(post, 1).pair == ("r0",)
    assert set(pick_two(post, 3).pair) == {"r0", "r1", "r2"}
    apart = post_of([0.82, 0.819, 0.815], (np.eye(3) * 4e-4).tolist(), [0.82, 0.819, 0.815])
    assert pick_two(apart).pair == ("r0", "r1")
    with pytest.raises(DataError, match="cannot be picked"):
        pick_two(post, 4)


def test_the_mixture_has_the_moments_and_pairs_of_its_draws() -> None:
    post = posterior(fit_board(board_of()))
    draws = draw_private(post, 40_000)
    assert np.allclose(draws.mean(axis=0), post.mean, atol=3e-4)
    assert np.allclose(np.cov(draws.T), post.cov, atol=0.06 * post.cov.max())
    pairs = np.maximum(draws[:, :, None], draws[:, None]).mean(axis=0)
    assert np.allclose(expect_best(post), pairs, atol=4e-4)


def test_one_setting_is_the_normal_posterior() -> None:
    """A component against the joint normal of abilities and scores, written out."""
    board = board_of(8)
    board.loc[6:, "public"] = np.nan
    model = fit_board(board.assign(lineage=[*"aabbccab"]))
    sure = np.zeros_like(model.components[-1].cov)
    part = replace(model.components[-1], weight=1.0, trust=0.7, shared=0.5, cov=sure)
    post = posterior(replace(model, components=(part,), width=np.ones(8)))
    alike = 0.5 * np.eye(8) + 0.5 * model.likeness
    seen, x = np.isfinite(model.y), model.x
    real = 0.7 * part.variance * alike
    both = real + 0.3 * part.variance * alike
    follow = np.linalg.solve(both[np.ix_(seen, seen)], real[seen]).T
    expected = x @ part.beta + follow @ (model.y[seen] - x[seen] @ part.beta) + model.centre
    odds = model.public_share / (1 - model.public_share)
    cov = real - follow @ real[seen] + odds * 0.3 * part.variance * alike
    assert np.allclose(post.mean, expected)
    assert np.allclose(post.cov, cov, atol=1e-12)


def test_what_is_known_of_the_noise_moves_the_pick_from_public_to_cv() -> None:
    board = board_of(30, relation=0.7)
    quiet, loud = (posterior(fit_board(board, public_noise=noise)) for noise in (0.001, 0.03))
    public, cv = board["public"], board["cv"]
    assert np.corrcoef(quiet.mean, public)[0, 1] > 0.99
    assert np.corrcoef(loud.mean, cv)[0, 1] > np.corrcoef(quiet.mean, cv)[0, 1] + 0.1
    few, many = (posterior(fit_board(board, public_share=share)) for share in (0.1, 0.5))
    assert few.sd.mean() < many.sd.mean()


@pytest.mark.parametrize(("noise", "believed"), [(0.2, True), (3.0, False)])
def test_past_private_scores_tell_how_far_public_is_to_be_believed(
    noise: float, believed: bool
) -> None:
    past = draw_board(np.random.default_rng(5), Setting(0.3, noise, 30))
    plain = fit_board(board_of(30)).trust[0]
    model = fit_board(board_of(30), history=past)
    assert (model.trust[0] > plain + 0.15) if believed else (model.trust[0] < plain - 0.15)
    assert "30 past private scores" in model.source
    assert fit_board(board_of(30), history=past[:3]).n_history == 0


def test_history_is_weighed_as_its_normal_density_says() -> None:
    """Against the density of private given public, written out on contrasts, by lineages."""
    past = draw_board(np.random.default_rng(0), Setting(0.3, 1.0, 24, 4, 0.9))
    past = past.assign(group=["a", "b"] * 12)
    alike, shared, trust = lineage_likeness(past), np.array([0, 0.75]), trust_grid()
    free = np.linalg.svd(history_predictors(past))[0][:, 3:]
    public, private = (free.T @ past[name].to_numpy(dtype=float) for name in ("public", "private"))
    scales = np.geomspace(*SCALES, N_SCALES) * past["public"].std(ddof=0)
    found = np.zeros((len(shared), len(trust)))
    for row, part in enumerate(shared):
        cov = free.T @ ((1 - part) * np.eye(24) + part * alike) @ free
        none = np.zeros(len(cov))
        prior = [stats.multivariate_normal(none, s**2 * cov).logpdf(public) for s in scales]
        for column, t in enumerate(trust):
            part_of = (1 - t) * (t + 3 / 7)
            of = [
                stats.multivariate_normal(t * public, s**2 * part_of * cov).logpdf(private)
                for s in scales
            ]
            found[row, column] = logsumexp(np.add(prior, of)) - logsumexp(prior)
    weighed = weigh_history(past, alike, 0.3, shared)
    assert np.allclose(weighed - weighed.max(), found - found.max(), atol=1e-6)


def test_a_failed_past_submission_does_not_say_that_public_is_to_be_believed() -> None:
    past = draw_board(np.random.default_rng(5), Setting(0.3, 2.0, 20))
    failed = pd.DataFrame({"run": ["f"], "cv": [0.9], "public": [0.3], "private": [0.28]})
    board, more = board_of(20), pd.concat([past, failed.assign(lineage="f")], ignore_index=True)
    plain, after = fit_board(board, history=past), fit_board(board, history=more)
    assert after.trust == plain.trust and after.n_history == 20
    apart = past.assign(group=["a", "b"] * 10)
    apart.loc[apart["group"] == "b", ["cv", "public", "private"]] += [-0.2, 0.05, 0.05]
    assert fit_board(board, history=apart).trust[0] == pytest.approx(plain.trust[0], abs=0.15)
    assert fit_board(board, history=past[:5].assign(group=[*"abcde"])).n_history == 0


def test_a_failed_submission_moves_neither_slope_nor_scale() -> None:
    board = board_of(30)
    failed = pd.DataFrame({"run": ["failed"], "cv": [0.8], "public": [0.3], "lineage": ["x"]})
    before, after = fit_board(board), fit_board(pd.concat([board, failed], ignore_index=True))
    assert after.slope[0] == pytest.approx(before.slope[0], abs=0.002)
    assert after.noise[0] == pytest.approx(before.noise[0], rel=0.25)
    assert pick_two(posterior(after)).pair == pick_two(posterior(before)).pair
    assert posterior(after).mean[-1] < 0.5
    wide = widen_outlying(after.y, np.ones((31, 1)), np.zeros(1), np.zeros(1))
    assert wide[-1] > 100 and np.median(wide) == 1


def test_groups_and_noisier_cv_scores_and_likeness_count() -> None:
    board = board_of(24, relation=0.9)
    shifted = board.assign(group=["a", "b"] * 12)
    shifted.loc[shifted["group"] == "b", "cv"] -= 0.2
    found = posterior(fit_board(shifted))
    assert np.corrcoef(found.mean, posterior(fit_board(board)).mean)[0, 1] > 0.97
    best = int(board["cv"].argmax())
    board.loc[best, "public"] = np.nan
    errors = np.where(np.arange(24) == best, 0.008, 0.0)
    sure, unsure = (posterior(fit_board(t)).mean[best] for t in (board, board.assign(cv_se=errors)))
    assert unsure < sure
    apart = fit_board(board, likeness=np.eye(24))
    assert {part.shared for part in apart.components} == {0.0}


def test_too_few_and_odd_scores_are_refused() -> None:
    board = board_of()
    few = board.assign(public=board["public"].where(board.index < 4))
    with pytest.raises(DataError, match="not enough evidence"):
        fit_board(few)
    with pytest.raises(DataError, match="equal"):
        fit_board(board.assign(public=0.8))
    with pytest.raises(DataError, match="finite"):
        fit_board(board.assign(cv=np.nan))
    with pytest.raises(DataError, match="twice"):
        fit_board(pd.concat([board, board]))
    with pytest.raises(DataError, match="share"):
        fit_board(board, public_share=1.0)
    with pytest.raises(DataError, match="not among"):
        posterior(fit_board(board), ["nobody"])


def test_the_pick_is_the_best_of_all_pairs_and_says_what_it_cannot_part() -> None:
    pick = pick_two(posterior(fit_board(board_of())))
    assert pick.expected_best == pick.compared["expected_best"].max()
    assert pick.table["picked"].sum() == 2
    assert pick.table["chance"].sum() == pytest.approx(1)
    assert len(pick.unparted) > 1 and "Not enough evidence to part" in pick.sentences[-1]
    shown = candidates_words(pick.table, PICK_COLUMNS)
    assert list(shown.columns)[-1] == "pick" and "%" in shown["best of all"][0]
    figure = plot_pick(get_pick_info(pick.table))
    assert sum(len(trace.x) for trace in figure.data[:2]) == 12


def test_what_a_score_teaches_is_its_expected_gain() -> None:
    """Against draws of the public score, each time with a new pair."""
    board = board_of(10)
    board.loc[7:, "public"] = np.nan
    post = posterior(fit_board(board, public_noise=0.005))
    ranked = rank_next(post)
    assert set(ranked["run"]) == {"r7", "r8", "r9"}
    assert (ranked[["promise", "teaches", "worth"]] >= -1e-12).all().all()
    assert ranked["worth"].is_monotonic_decreasing
    place, pool = int(ranked["run"][0][1:]), [*range(7), int(ranked["run"][0][1:])]
    pull = post.public_cov[pool, place] / np.sqrt(post.public_var[place])
    left = post.cov[np.ix_(pool, pool)] - np.outer(pull, pull)
    i, j = np.triu_indices(8, 1)
    spread = np.sqrt(np.diag(left)[i] + np.diag(left)[j] - 2 * left[i, j])

    def best(z: float) -> float:
        mean = post.mean[pool] + z * pull
        return float(expect_higher(mean[i], mean[j], spread).max())

    after = np.mean([best(z) for z in stats.norm.ppf((np.arange(2000) + 0.5) / 2000)])
    cov = post.cov[np.ix_(range(7), range(7))]
    i7, j7 = np.triu_indices(7, 1)
    apart = np.sqrt(np.diag(cov)[i7] + np.diag(cov)[j7] - 2 * cov[i7, j7])
    now = expect_higher(post.mean[i7], post.mean[j7], apart).max()
    assert ranked["worth"][0] == pytest.approx(after - now, abs=1e-5)
    assert "the same score" in word_next(ranked, 7)[-1]
    assert "nothing left" in word_next(ranked[:0], 7)[0]
    twins = ranked.assign(name="twin", worth=[0.002, 0.002, 0.0])
    assert f"Submit twin ({ranked['run'][0]}) next" in word_next(twins, 7)[0]
    assert "The first 2 are worth the same" in word_next(twins, 7)[1]
    assert "Not enough evidence" in word_next(ranked.assign(worth=1e-5), 7)[0]


def test_simulated_boards_are_picked_better_than_by_either_score() -> None:
    settings = [Setting(0.3, 1.0, 20), Setting(0.9, 1.0, 20)]
    means = pd.concat([measure_regrets(s, 12).mean() for s in settings], axis=1)
    assert list(means.index) == list(RULES)
    better = means.loc[["by public", "by CV"]].min()
    assert (means.loc["assumed"] < better + 0.35).all()
    assert means.loc["assumed"].mean() < means.loc["by public"].mean() + 0.02
    assert means.loc["assumed"].mean() < means.loc["by CV"].mean()


def tables_of(board: pd.DataFrame, private: bool = True) -> StudyTables:
    """A board as the tables of a lab; `r0` was submitted twice, the last run not at all."""
    n = len(board)
    runs = pd.DataFrame(
        {
            "run": board["run"],
            "name": "model " + board["run"],
            "cv/macro_auc": board["cv"],
            "rows_hash": "r",
            "classes_hash": "c",
            "n_folds": 5,
            "n_seeds": 1,
            "lineage": board["lineage"],
        }
    )
    submitted = board[: n - 1]
    ledger = pd.DataFrame(
        {
            "id": "row " + submitted["run"],
            "date": [f"2025-04-{k + 1:02d}T00:00:00+00:00" for k in range(n - 1)],
            "run": submitted["run"],
            "name": submitted["run"],
            "public": submitted["public"],
            "private": submitted["private"] if private else np.nan,
            "metric": "macro_auc",
            "weights": "folds",
            "members": [[run] for run in submitted["run"]],
            "checkpoint": "",
            "postprocessing": "",
            "precision": "",
            "selected": False,
        }
    )
    again = ledger[:1].assign(id="row again", date="2025-05-01T00:00:00+00:00")
    other = again.assign(id="row of another metric", metric="padded_cmap", public=0.1, private=0.9)
    cells = pd.DataFrame(columns=["run", "fold", "seed", "macro_auc"])
    return StudyTables(runs, cells, pd.concat([ledger, again, other], ignore_index=True))


def test_a_lab_is_picked_from_without_a_look_at_private() -> None:
    board = draw_board(np.random.default_rng(3), Setting(0.5, 1.0, 12))
    tables, blind = tables_of(board), tables_of(board, private=False)
    view, unseen = (build_pick(list_board(t)) for t in (tables, blind))
    assert view.pick.pair == unseen.pick.pair
    assert view.pick.table.equals(unseen.pick.table)
    assert unseen.judged.empty and view.judged["choice"].iloc[0] == "pick"
    assert view.judged["regret"].min() >= 0
    assert "Judged by the private scores" in view.sentences[-1]
    rows = view.board.rows.set_index("run")
    assert view.submissions == tuple(rows.loc[list(view.pick.pair), "row"])
    assert rows.at["r0", "row"] == "row again" and rows.at["r0", "private"] == board["private"][0]
    learned = build_pick(list_board(tables, learn=True))
    assert "not used" not in learned.sentences[-1] and "no test" in learned.sentences[-1]
    coming = build_next(list_board(tables))
    assert list(coming.table["run"]) == ["r11"]
    named = list_board(tables, runs=["r1", "r2", "r3", "r11"])
    assert len(named.history) == 8 and named.submitted == ("r1", "r2", "r3")
    assert set(build_pick(named, unsubmitted=True).pick.table["run"]) == set(named.candidates)
    assert len(list_board(tables, learn=True).history) == 11
    with pytest.raises(DataError, match="no submission has a score"):
        list_board(tables, seen="other")
    with pytest.raises(DataError, match="cannot be the one that decides"):
        list_board(tables, seen="private")
    with pytest.raises(DataError, match="no leaderboard column"):
        list_board(tables, board="privat")
    with pytest.raises(DataError, match="no such metric"):
        list_board(tables, metric="padded_cmap")
    with pytest.raises(DataError, match="compares"):
        list_board(tables, runs=["nobody"])


def test_a_run_without_a_like_one_is_no_surer_than_the_others() -> None:
    board = draw_board(np.random.default_rng(3), Setting(0.5, 1.0, 8))
    tables = tables_of(board)
    scores = [
        {"run": run, "fold": fold, "seed": 0, "macro_auc": 0.8 + 0.01 * rng.normal()}
        for rng in [np.random.default_rng(0)]
        for run in board["run"]
        for fold in range(5)
    ]
    runs = tables.runs.assign(n_seeds=[1, *[4] * 7])
    errors = list_board(replace(tables, runs=runs, cells=pd.DataFrame(scores))).rows["cv_se"]
    assert errors[1:].nunique() == 1 and errors[0] == pytest.approx(2 * errors[1])


def test_many_waiting_runs_are_ranked_in_parts_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    board = draw_board(np.random.default_rng(3), Setting(0.5, 1.0, 20, 4, 0.6))
    board.loc[8:, "public"] = np.nan
    rows = list_board(tables_of(board))
    whole = build_next(rows).table
    monkeypatch.setattr(pick_view, "BATCH", 5)
    pd.testing.assert_frame_equal(build_next(rows).table, whole)


def test_a_page_says_why_there_is_no_pick() -> None:
    few = tables_of(draw_board(np.random.default_rng(3), Setting(0.5, 1.0, 4)))
    said = show_picks(few, seen="public", metric="macro_auc", cv="cv/macro_auc")
    assert isinstance(said, str) and "Not enough evidence" in said and "5 or more" in said
    many = tables_of(draw_board(np.random.default_rng(3), Setting(0.5, 1.0, 9)))
    shown = show_picks(many, seen="public", metric="macro_auc", cv="cv/macro_auc")
    assert not isinstance(shown, str) and len(shown[0].pick.pair) == 2
    rows = list_board(many).rows.set_index("run")
    assert judge_pick(rows, ("r0", "r1")).empty


@pytest.mark.skipif(not LEDGER_2025.is_file(), reason="the ledger of 2025 is not here")
def test_the_real_ledger_split_in_time() -> None:
    found = replay_ledger(pd.read_csv(LEDGER_2025), splits=(40, 70))
    assert list(found["n_later"]) == [68, 38]
    assert (found.iloc[:, 2:] >= 0).all().all()
    assert (found["pick 2"] <= found["2 by CV"]).all()
