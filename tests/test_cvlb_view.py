"""The page of CV against leaderboard: what it shows for a choice, and what it says it left out."""

from __future__ import annotations

import numpy as np
from test_study_tables import build_synthetic

from birdlab.study import cvlb_figures as figures
from birdlab.study import cvlb_tables as words
from birdlab.study.cvlb_choice import POOL_WARNING, POOLED, CvLbChoice
from birdlab.study.cvlb_view import build_cv_lb_view, compare_view_estimators, study_view
from birdlab.study.tables import StudyTables, cv_columns, pair_cv_lb


def test_scatter_info_holds_the_fold_spread() -> None:
    pairs = pair_cv_lb(build_synthetic(6), metric="padded_cmap")
    info = figures.get_cv_lb_info(pairs, cv_label="CV", lb_label="LB")
    for low, cv, high, folds in zip(
        info.fold_low, info.cv, info.fold_high, pairs["fold_scores"], strict=True
    ):
        assert low == min(folds) <= cv <= high == max(folds)
    trace = figures.plot_cv_lb(info).data[1]
    np.testing.assert_allclose(np.array(trace.error_x.array) + trace.x, info.fold_high)
    np.testing.assert_allclose(np.array(trace.x) - trace.error_x.arrayminus, info.fold_low)
    bare = pairs.assign(fold_scores=[[] for _ in pairs.index], cv_sd=[0.01] * 3 + [np.nan] * 3)
    info = figures.get_cv_lb_info(bare, cv_label="CV", lb_label="LB")
    np.testing.assert_allclose(np.subtract(info.fold_high, info.cv), [0.01] * 3 + [0.0] * 3)


def build_splits() -> StudyTables:
    """Forty runs on two splits of other rows, in two families; the newer split scores higher."""
    tables = build_synthetic(40)
    split = np.array(["old"] * 15 + ["new"] * 25)
    family = np.array(["resnet", "eca_nfnet"] * 20)
    tables.runs["split"], tables.runs["rows_hash"] = split, split
    tables.runs["family"], tables.runs["checkpoint"], tables.runs["lineage"] = family, "last", ""
    return tables


def test_the_view_answers_and_counts_what_the_filter_takes() -> None:
    tables = build_synthetic(24)
    view = build_cv_lb_view(tables, CvLbChoice())
    known = CvLbChoice(
        lb="public", metric="padded_cmap", cv="cv/padded_cmap", like="weights not said"
    )
    assert view.choice == known and view.options["lb"] == ["public", "private"]
    study = study_view(tables, view.choice)
    assert view.answer == study.answer and len(view.runs) == study.n == 24
    assert view.left_out == ()
    assert "floor" in view.runs
    assert "floor" not in build_cv_lb_view(tables, CvLbChoice(cv="cv/macro_auc")).runs
    few = build_cv_lb_view(tables, CvLbChoice(runs=" RUN 23 "))
    assert set(few.runs["name"]) == {"run 23"}
    eleven = build_cv_lb_view(tables, CvLbChoice(runs="run 1"))
    assert len(eleven.runs) == 11 and "13 of 24 runs by the filter" in eleven.left_out[0]
    assert "pure noise" in eleven.left_out[0]
    none = build_cv_lb_view(tables, CvLbChoice(runs="no such run"))
    assert none.answer.startswith("No verdict: 0 runs") and none.runs.empty
    odd = build_cv_lb_view(tables, CvLbChoice(lb="x", metric="y", cv="z", split="?", band="b"))
    assert odd.choice == view.choice


def test_other_rows_are_left_out_until_pooled() -> None:
    tables = build_splits()
    usual = build_cv_lb_view(tables, CvLbChoice())
    assert study_view(tables, usual.choice).n == len(usual.pairs) == 25
    assert "15 runs scored on other rows" in usual.left_out[0]
    pooled = build_cv_lb_view(tables, CvLbChoice(pool=POOLED))
    assert len(pooled.pairs) == 40 and POOL_WARNING in pooled.left_out
    old = build_cv_lb_view(tables, CvLbChoice(split="old"))
    assert set(old.pairs["split"]) == {"old"} and len(old.pairs) == 15, "the filter comes first"
    assert "25 of 40 runs by the filter" in old.left_out[0]
    both = build_cv_lb_view(tables, CvLbChoice(pool=POOLED, family="resnet", colour="split"))
    assert len(both.pairs) == 20 and both.figure is not None
    assert sorted(set(both.figure.groups)) == ["new", "old"]
    assert both.options["colour"] == ["split", "family"], "one checkpoint rule tells nothing apart"


def test_a_band_keeps_the_top_and_says_so() -> None:
    view = build_cv_lb_view(build_synthetic(24), CvLbChoice(band="top quarter by CV"))
    every = build_cv_lb_view(build_synthetic(24), CvLbChoice())
    top = every.pairs.sort_values("cv").tail(6)
    assert set(view.pairs["run"]) == set(top["run"])
    assert any("18 of 24 runs below the top quarter by CV" in text for text in view.left_out)
    assert view.answer.startswith("No verdict: 6 runs")


def test_the_line_of_equal_rank_goes_from_last_to_first() -> None:
    view = build_cv_lb_view(build_synthetic(24), CvLbChoice())
    assert view.figure is not None and view.ranks is not None
    line = figures.plot_cv_lb(view.figure).data[0]
    assert list(line.x) == sorted(view.pairs["cv"]) and list(line.y) == sorted(view.pairs["lb"])
    first = view.pairs["cv"].idxmax()
    assert view.ranks.names[0] == view.pairs["name"][first] and view.ranks.by_cv[0] == 1
    assert view.ranks.by_lb[0] == 1 + (view.pairs["lb"] > view.pairs["lb"][first]).sum()
    drawn = figures.plot_ranks(view.ranks).data
    lines = {trace.name: sum(x == 0 for x in trace.x) for trace in drawn}
    moves = np.sign(np.subtract(view.ranks.by_lb, view.ranks.by_cv))
    assert lines.get("rises", 0) == (moves < 0).sum() and lines["falls"] == (moves > 0).sum()


def test_small_groups_share_a_colour() -> None:
    pairs = pair_cv_lb(build_synthetic(24), metric="padded_cmap")
    pairs["family"] = [f"family {min(i % 12, 8)}" for i in range(24)]
    info = figures.get_cv_lb_info(pairs, cv_label="CV", lb_label="LB", colour="family")
    assert len(set(info.groups)) == 6 and "family 8" in info.groups
    assert figures.plot_cv_lb(info).data[-1].name == figures.OTHERS


def test_every_table_of_the_study_has_words() -> None:
    tables = build_splits()
    study = study_view(tables, build_cv_lb_view(tables, CvLbChoice(pool=POOLED)).choice)
    assert study.shake is not None
    assert list(words.statistics_words(study)["statistic"]) == [
        "Spearman",
        "Kendall tau-b",
        "Pearson",
    ]
    bands = words.bands_words(study)
    assert (
        "lineages resampled" in bands
        and len(bands) == len(study.bands)
        and "top half by CV of new" in list(bands["runs"])
    )
    groups = words.groups_words(study)
    assert len(groups) == len(study.groups) + len(study.partial)
    assert "40" in str(groups.loc[groups["by"] == "within family", "n"].tolist())
    assert len(words.influence_words(study)) == 10
    assert words.noise_words(study)["split"].tolist() == ["all", "old", "new"]
    tables.runs["split"] = ["lone", *tables.runs["split"][1:]]
    lone = study_view(tables, build_cv_lb_view(tables, CvLbChoice(pool=POOLED)).choice)
    assert "nan" not in words.noise_words(lone).to_string().lower()
    assert (words.shares_words(study)["n"] > 0).all()
    assert set(words.regrets_words(study.shake)["choice"]) == {"CV-best", "public-best"}
    assert len(words.moves_words(study.shake)) == 40
    best = words.best_words(study.best)
    assert len(best) == len(study.best.candidates) and best["CV-best in"].str.endswith("%").all()


def test_estimators_are_compared_over_the_runs_of_the_choice() -> None:
    tables = build_splits()
    choice = build_cv_lb_view(tables, CvLbChoice(pool=POOLED, family="resnet")).choice
    comparison = compare_view_estimators(tables, choice)
    assert comparison.n == 20
    assert set(comparison.table["estimator"]) == set(cv_columns(tables.runs))
    shown = words.estimators_words(comparison)
    assert list(shown["estimator"]) == list(comparison.table["estimator"])
    drawn = figures.plot_estimators(comparison).data[0]
    assert list(drawn.y)[-1] == shown["estimator"][0], "the best is on top"


def test_a_band_is_cut_once_for_all_estimators() -> None:
    tables = build_synthetic(40)
    rng = np.random.default_rng(0)
    tables.runs["cv/padded_cmap_pooled"] = rng.random(40)
    choice = build_cv_lb_view(tables, CvLbChoice(band="top half by CV")).choice
    assert compare_view_estimators(tables, choice).table["n_runs"].tolist() == [20, 20, 20]


def test_private_scores_are_held_against_public_ones_and_all_submissions_count() -> None:
    tables = build_synthetic(24)
    private = build_cv_lb_view(tables, CvLbChoice(lb="private")).choice
    assert private.lb == "private" and study_view(tables, private).shake is None
    few = build_cv_lb_view(tables, CvLbChoice(runs="run 1")).choice
    shake = study_view(tables, few).shake
    assert shake is not None and (shake.n, shake.n_submissions) == (11, 24)


def test_views_without_scores_say_what_to_do() -> None:
    tables = build_synthetic(3)
    no_lb = StudyTables(tables.runs, tables.cells, tables.ledger.iloc[:0])
    assert "birdlab lb add" in build_cv_lb_view(no_lb, CvLbChoice()).answer
    nothing = StudyTables(tables.runs.iloc[:0], tables.cells.iloc[:0], tables.ledger.iloc[:0])
    assert "birdlab run" in build_cv_lb_view(nothing, CvLbChoice()).answer
