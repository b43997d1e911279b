"""Which runs may be compared on the leaderboard; and the tables other tests work on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from birdlab.errors import DataError
from birdlab.study.ablation_view import build_ablation_view
from birdlab.study.chosen import MARK
from birdlab.study.cvlb_choice import CvLbChoice
from birdlab.study.cvlb_view import build_cv_lb_view
from birdlab.study.ledger_row import COLUMNS
from birdlab.study.submission_kinds import KIND_FIELDS
from birdlab.study.tables import PAIR_COLUMNS, StudyTables, cv_columns, pair_cv_lb


def build_synthetic(n_runs: int = 24, *, agreement: float = 0.8, seed: int = 0) -> StudyTables:
    """A sweep over learning rates and other runs, five folds each, with two leaderboard columns."""
    rng = np.random.default_rng(seed)
    run = [f"{i:012x}" for i in rng.choice(2**40, n_runs, replace=False)]
    truth = rng.normal(0.75, 0.02, n_runs)
    folds = truth[:, None] + rng.normal(0, 0.008, 5) + rng.normal(0, 0.003, (n_runs, 5))
    public = agreement * truth + (1 - agreement) * rng.normal(0.75, 0.02, n_runs)
    runs = build_runs(run, [f"run {i}" for i in range(n_runs)])
    runs["cv/padded_cmap"] = folds.mean(axis=1)
    runs["cv/padded_cmap_sd"] = folds.std(axis=1, ddof=1)
    runs["cv/padded_cmap_pooled"] = folds.mean(axis=1) - 0.1
    runs["cv/macro_auc"] = 0.9 + folds.mean(axis=1) / 10
    rates = ["base", *(f"train.optimizer.lr={10.0**-k:g}" for k in (2, 3, 4, 5))]
    runs["delta"] = [*rates, *runs["delta"]][:n_runs]
    runs["sweeps"] = [["lr"] if i < len(rates) else [] for i in range(n_runs)]
    cells = build_cells(run, folds.tolist(), "padded_cmap")
    cells["macro_auc"] = 0.9 + cells["padded_cmap"] / 10
    ledger = build_ledger(run, list(public), "padded_cmap")
    ledger["private"] = public - 0.05 + rng.normal(0, 0.01, n_runs)
    return StudyTables(runs, cells, ledger)


def build_runs(run: list[str], names: list[str]) -> pd.DataFrame:
    n = len(run)
    return pd.DataFrame(
        {
            "run": run,
            "name": names,
            "project": "demo",
            "delta": [f"model.width={i}" for i in range(n)],
            "sweeps": [[] for _ in range(n)],
            "status": "finished",
            "stopped_at": "",
            "created_at": pd.Timestamp("2025-04-01", tz="UTC"),
            "mlflow_run_id": [f"{value}{value[:8]}" for value in run],
            "metric": "padded_cmap",
            "n_folds": 5,
            "n_seeds": 1,
            "n_rows": 300,
            "n_classes": 12,
            "rows_hash": "rows",
            "classes_hash": "classes",
            "floor": 0.44,
        }
    )


def build_cells(run: list[str], folds: list[list[float]], column: str) -> pd.DataFrame:
    rows = [
        {"run": r, "name": r, "fold": f, "seed": 0, "cell_id": f"{r}-{f}", column: score}
        for r, scores in zip(run, folds, strict=True)
        for f, score in enumerate(scores)
    ]
    return pd.DataFrame(rows).assign(floor=0.44, n_rows=60, seconds=10.0, device="cpu")


def build_ledger(run: list[str], public: list[float], metric: str) -> pd.DataFrame:
    table = pd.DataFrame({"run": run, "public": public, "private": np.nan, "metric": metric})
    table["id"] = [f"row{i}" for i in range(len(run))]
    table["date"] = "2025-04-01T12:00:00"
    for name in ("name", "source", "note", "weights", *KIND_FIELDS[1:], "bundle"):
        table[name] = ""
    table["members"] = [[name] for name in run]
    table["selected"] = False
    return table[table["public"].notna()][list(COLUMNS)].reset_index(drop=True)


def test_pairs_hold_both_scores() -> None:
    tables = build_synthetic()
    pairs = pair_cv_lb(tables, metric="padded_cmap")
    assert len(pairs) == 24 and pairs.attrs["left_out"] == []
    assert tuple(pairs.columns) == PAIR_COLUMNS
    folds = np.array(pairs["fold_scores"].tolist())
    np.testing.assert_allclose(folds.mean(axis=1), pairs["cv"])
    np.testing.assert_allclose(folds.std(axis=1, ddof=1), pairs["cv_sd"])
    auc = pair_cv_lb(tables, metric="padded_cmap", cv="cv/macro_auc", lb="private")
    assert auc["cv_sd"].notna().all() and (auc["lb"] < pairs["lb"]).mean() > 0.9
    pooled = pair_cv_lb(tables, metric="padded_cmap", cv="cv/padded_cmap_pooled")
    assert pooled["cv_sd"].isna().all() and all(scores == [] for scores in pooled["fold_scores"])
    assert cv_columns(tables.runs) == ["cv/padded_cmap", "cv/padded_cmap_pooled", "cv/macro_auc"]


def test_seeds_are_averaged_within_folds() -> None:
    tables = build_synthetic(3)
    again = tables.cells.assign(seed=1, padded_cmap=tables.cells["padded_cmap"] + 0.02)
    both = replace(tables, cells=pd.concat([tables.cells, again]))
    first, second = (pair_cv_lb(t, metric="padded_cmap") for t in (tables, both))
    np.testing.assert_allclose(
        np.array(second["fold_scores"].tolist()), np.array(first["fold_scores"].tolist()) + 0.01
    )


def test_what_cannot_be_compared_is_left_out_in_words() -> None:
    tables = build_synthetic(12)
    tables.runs.loc[0:2, "rows_hash"] = "other rows"
    tables.runs.loc[3, "n_folds"] = 3
    tables.runs.loc[4, "cv/padded_cmap"] = np.nan
    ledger = tables.ledger
    ledger.loc[5, "metric"] = "macro_auc"
    ledger.loc[6, "run"] = "unknown"
    newer = ledger.loc[[7]].assign(public=0.123, date="2025-04-01T12:00:01+00:00")
    tables = replace(tables, ledger=pd.concat([newer, ledger], ignore_index=True))
    pairs = pair_cv_lb(tables, metric="padded_cmap")
    assert len(pairs) == 5 and pairs.set_index("name")["lb"]["run 7"] == 0.123
    words = " ".join(pairs.attrs["left_out"])
    for part in (
        "1 leaderboard score of another metric (macro_auc)",
        "1 older leaderboard score",
        "1 leaderboard run not among the runs: unknown",
        "1 run without cv/padded_cmap: run 4",
        "4 runs scored on other rows, classes or folds than the 5 compared here: run 0, run 1",
    ):
        assert part in words
    everything = pair_cv_lb(tables, metric="padded_cmap", group=None)
    assert sorted(everything["comparable_group"]) == [0] * 5 + [1] * 3 + [2]
    assert len(pair_cv_lb(tables, metric="padded_cmap", group=1)) == 3
    assert len(pair_cv_lb(tables, metric="macro_auc")) == 1


def add_rows(tables: StudyTables, *rows: dict[str, Any]) -> StudyTables:
    """The tables with further submissions: each like the first one but for what is given."""
    first = tables.ledger.iloc[0].to_dict()
    more = [{**first, "id": f"more{i}", **row} for i, row in enumerate(rows)]
    return replace(tables, ledger=pd.concat([tables.ledger, pd.DataFrame(more)], ignore_index=True))


def test_only_submissions_of_one_kind_are_paired() -> None:
    """Twelve runs with fold models; five of them, newer, with models of all data."""
    tables = build_synthetic(12)
    tables.ledger["weights"] = "folds"
    ids = tables.ledger["run"]
    full = [
        {"run": run, "public": 0.1 * i, "weights": "full", "date": "2025-05-01T12:00:00"}
        for i, run in enumerate(ids[:5])
    ]
    half = {"run": ids[0], "public": 0.9, "weights": "folds", "precision": "bf16"}
    tables = add_rows(tables, *full, half)
    pairs = pair_cv_lb(tables, metric="padded_cmap")
    assert len(pairs) == 12 and pairs.attrs["like"] == "fold models"
    assert list(pairs["lb"]) == list(tables.ledger["public"][:12])
    assert [(k.words, k.n_runs, k.n_submissions) for k in pairs.attrs["kinds"]] == [
        ("fold models", 12, 12),
        ("models of all data", 5, 5),
        ("fold models, bf16", 1, 1),
    ]
    words = " ".join(pairs.attrs["left_out"])
    assert "6 submissions of another kind than fold models" in words
    assert "5 models of all data; 1 fold models, bf16" in words
    assert pairs.attrs["n_submissions"] == 18
    assert list(pairs["n_submissions"]) == [3, 2, 2, 2, 2, *[1] * 7]
    whole = pair_cv_lb(tables, metric="padded_cmap", like="models of all data")
    assert list(whole["lb"]) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert set(whole["submitted_at"]) == {"2025-05-01T12:00:00"}
    with pytest.raises(DataError, match="'models of all data'"):
        pair_cv_lb(tables, metric="padded_cmap", like="models of all date")


def test_a_checkpoint_makes_a_kind_where_it_is_not_that_of_the_run() -> None:
    tables = build_synthetic(4)
    rules = ["last", "best epoch", "last", "last"]
    tables = replace(tables, runs=tables.runs.assign(checkpoint=rules))
    tables.ledger["checkpoint"] = ["Last", "best epoch", "", "average of the last 3"]
    pairs = pair_cv_lb(tables, metric="padded_cmap")
    assert list(pairs["name"]) == ["run 0", "run 1", "run 2"]
    assert list(pairs["checkpoint"]) == ["last", "best epoch", "last"]
    assert "1 weights not said, checkpoint average of the last 3" in pairs.attrs["left_out"][0]


def test_a_blend_is_no_run_and_a_final_submission_marks_its_run() -> None:
    tables = build_synthetic(4)
    ids = list(tables.ledger["run"])
    blend = {"members": ids[:2], "name": "the blend", "public": 0.99, "selected": True}
    other = {"members": ids[3:], "run": ids[3], "precision": "fp16", "selected": True}
    pairs = pair_cv_lb(add_rows(tables, blend, other), metric="padded_cmap")
    assert list(pairs["lb"]) == list(tables.ledger["public"])
    assert list(pairs["selected"]) == [False, False, False, True]
    assert any("1 submission of several runs" in w and "the blend" in w for w in left_out(pairs))
    assert pairs.attrs["n_submissions"] == 6
    assert pairs["private"].equals(tables.ledger["private"])


def left_out(pairs: pd.DataFrame) -> list[str]:
    return list(pairs.attrs["left_out"])


def test_pairs_say_what_runs_are_one_of() -> None:
    tables = build_synthetic(3)
    told = {"split": "noleak", "family": "convnext", "checkpoint": "last", "lineage": "lr"}
    known = pair_cv_lb(replace(tables, runs=tables.runs.assign(**told)), metric="padded_cmap")
    assert known[list(told)].drop_duplicates().to_dict("records") == [told]
    assert set(pair_cv_lb(tables, metric="padded_cmap")["split"]) == {""}


def test_empty_tables_pair_to_nothing() -> None:
    tables = build_synthetic(3)
    empty = StudyTables(tables.runs.iloc[:0], tables.cells.iloc[:0], tables.ledger.iloc[:0])
    assert pair_cv_lb(empty, metric="padded_cmap").empty
    assert pair_cv_lb(replace(tables, ledger=empty.ledger), metric="padded_cmap").empty


@pytest.mark.parametrize("wrong", [{"lb": "privat"}, {"lb": "run"}, {"cv": "cv/nothing"}])
def test_unknown_columns_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(DataError, match=r"no .* column"):
        pair_cv_lb(build_synthetic(3), metric="padded_cmap", **wrong)


def test_chosen_scores_are_marked_and_scores_on_soundscapes_are_not() -> None:
    """Recordings of a fold may pick weights, soundscapes never do."""
    tables = build_synthetic(12)
    runs = tables.runs.assign(
        chosen=["best epoch 7 of 30", *[""] * 11],
        soundscapes_hash=["a"] * 10 + ["b"] * 2,
        soundscapes_floor=0.3,
        **{"cv/soundscapes_macro_auc": tables.runs["cv/padded_cmap"]},
    )
    tables = replace(tables, runs=runs)
    view = build_cv_lb_view(tables, CvLbChoice())
    marked = [name for name in view.runs["name"] if name.endswith(MARK)]
    assert marked == [f"{runs['name'].iloc[0]} (chosen)"]
    assert view.figure is not None and set(marked) <= set(view.figure.names)
    assert "best epoch 7 of 30" in view.chosen[0] and "part of a difference" in view.chosen[1]
    heard = build_cv_lb_view(tables, CvLbChoice(cv="cv/soundscapes_macro_auc"))
    assert heard.choice.cv == "cv/soundscapes_macro_auc" and not heard.chosen
    assert len(heard.runs) == 10, "only runs with equal soundscapes compare"
    assert "2 runs scored on other" in " ".join(heard.left_out)


def test_arms_with_chosen_scores_say_so() -> None:
    tables = build_synthetic(6)
    runs = tables.runs.assign(
        sweeps=[["s"]] * 6, delta=["base", *[f"lr={i}" for i in range(1, 6)]], chosen=""
    )
    runs.loc[runs.index[2], "chosen"] = "best epoch 3 of 4"
    view = build_ablation_view(replace(tables, runs=runs), "s", "padded_cmap")
    assert view.ranking is not None
    arms = view.ranking.table["arm"].tolist()
    assert [arm for arm in arms if arm.endswith(MARK)] == ["lr=2 (chosen)"]
    assert view.ranking.base == "base"
    assert any("lr=2: the recordings" in sentence for sentence in view.sentences)
