"""Blends as candidates of a final pick: their CV, and what is left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fold_tables import build_tables
from likeness_simulations import AlikeSetting, measure_alike

from birdlab.errors import DataError
from birdlab.evaluate.blends import Blend
from birdlab.evaluate.score import score_run
from birdlab.infer.models import PromotedModel
from birdlab.study.blend_recipes import Recipe
from birdlab.study.output_likeness import Likeness, list_gains, measure_likeness
from birdlab.study.pick_rows import add_likeness, list_board
from birdlab.study.pick_view import build_pick, fit_rows
from birdlab.study.species import FoldTables
from birdlab.study.submission_blends import BlendedTables, add_blends, blend_cells, score_blend
from birdlab.study.tables import StudyTables

RUNS = [f"r{k}" for k in range(7)]


def read(run: str) -> FoldTables:
    """Held-out tables of a run; `r6` was split otherwise."""
    number = int(run[1:])
    return build_tables(60, seeds=(0, 1), skill=0.1 + 0.03 * number, run=number, flip=run == "r6")


def board_tables(*rows: dict[str, object]) -> StudyTables:
    """A lab of seven submitted runs, and more rows of its ledger."""
    scores = {run: score_run(read(run)) for run in RUNS}
    runs = pd.DataFrame(
        {
            "run": RUNS,
            "name": RUNS,
            "n_folds": 3,
            "n_seeds": 2,
            "n_rows": 60,
            "n_classes": 4,
            "rows_hash": "r",
            "classes_hash": "c",
            "lineage": "",
            "family": ["a", "a", "b", "b", "b", "b", "b"],
            "checkpoint": "last",
            **{f"cv/{m}": [scores[run][f"cv/{m}"] for run in RUNS] for m in ("padded_cmap",)},
        }
    )
    common = {
        "metric": "padded_cmap",
        "private": np.nan,
        "weights": "folds",
        "checkpoint": "",
        "postprocessing": "",
        "precision": "",
        "bundle": "",
        "selected": False,
    }
    singles = [
        {"id": f"id{k}", "run": run, "name": run, "members": [run], "public": 0.6 + 0.01 * k}
        for k, run in enumerate(RUNS)
    ]
    listed = [
        {**common, "date": f"2025-04-{day:02d}T00:00:00+00:00", **row}
        for day, row in enumerate([*singles, *rows], 1)
    ]
    cells = pd.DataFrame(columns=["run", "name", "fold", "seed", "padded_cmap", "macro_auc"])
    return StudyTables(runs, cells, pd.DataFrame(listed))


def blend_row(name: str, members: list[str], **more: object) -> dict[str, object]:
    return {
        "id": f"row {name}",
        "run": members[0],
        "name": name,
        "members": members,
        "public": 0.7,
        **more,
    }


def promoted(name: str, runs: tuple[str, ...], **blending: object) -> PromotedModel:
    said = {"kind": "mean", "power": 2.0, "shares": None, **blending}
    return PromotedModel(name, runs, "", Path(), {"blending": said})


def test_a_blend_of_equal_members_is_that_member_and_each_seed_counts_by_itself() -> None:
    recipe = Recipe("twice", ("r1", "r1"), (0.5, 0.5), Blend())
    found = score_blend(recipe, [read("r1"), read("r1")])
    means = found.groupby("fold")[["padded_cmap", "macro_auc"]].mean().mean()
    alone = score_run(read("r1"))
    assert means["padded_cmap"] == pytest.approx(alone["cv/padded_cmap"], abs=1e-12)
    assert means["macro_auc"] == pytest.approx(alone["cv/macro_auc"], abs=1e-12)
    assert len(found) == 6


def test_shares_and_the_way_to_blend_decide_the_score_and_the_id() -> None:
    parts = [read("r1"), read("r5")]
    recipes = [
        Recipe("all of one", ("r1", "r5"), (1.0, 0.0), Blend()),
        Recipe("mean", ("r1", "r5"), (0.5, 0.5), Blend()),
        Recipe("power", ("r1", "r5"), (0.5, 0.5), Blend("power", 4)),
        Recipe("rank", ("r1", "r5"), (0.5, 0.5), Blend("rank")),
    ]
    scores = [score_blend(recipe, parts)["padded_cmap"].mean() for recipe in recipes]
    assert scores[0] == pytest.approx(score_run(parts[0])["cv/padded_cmap"])
    assert len({round(score, 9) for score in scores}) == 4
    assert len({recipe.run for recipe in recipes}) == 4
    turned = Recipe("turned", ("r5", "r1"), (0.5, 0.5), Blend())
    assert turned.run == recipes[1].run
    few = {cell: table for cell, table in parts[1].items() if cell[1] == 0}
    assert set(score_blend(recipes[1], [parts[0], few])["seed"]) == {0}


def test_members_on_other_rows_have_no_common_cv() -> None:
    recipe = Recipe("x", ("r1", "r6"), (0.5, 0.5), Blend())
    with pytest.raises(DataError, match="same recordings"):
        score_blend(recipe, [read("r1"), read("r6")])
    own = read("r1")
    other = {cell: replace(t, targets=~t.targets) for cell, t in own.items()}
    with pytest.raises(DataError, match="same recordings") as caught:
        score_blend(recipe, [own, other])
    assert "labels" in str(caught.value.got)
    with pytest.raises(DataError, match="same recordings"):
        score_blend(recipe, [own, {c: t for c, t in own.items() if c[0] < 2}])
    with pytest.raises(DataError, match="no stored"):
        score_blend(recipe, [own, {}])


def blended_board() -> BlendedTables:
    tables = board_tables(
        blend_row("pair", ["r3", "r5"]),
        blend_row("card", ["r5", "r3"], bundle="m1", public=0.71),
        blend_row("gone", ["r3", "r4"], bundle="m9"),
        blend_row("split", ["r3", "r6"]),
        blend_row("strange", ["r3", "nobody"]),
    )
    models = [
        promoted("m1", ("r3", "r5"), shares=[3, 1]),
        promoted("waiting", ("r2", "r5"), kind="geometric"),
        promoted("one", ("r2",)),
    ]
    return add_blends(tables, models, read)


def test_blends_are_candidates_and_what_is_left_out_says_why() -> None:
    blended = blended_board()
    recipes = {recipe.name: recipe for recipe in blended.recipes}
    assert set(recipes) == {"pair", "card", "waiting"}
    assert recipes["card"].shares == (0.75, 0.25) and not recipes["card"].assumed
    assert "equal shares" in blended.told[1] and "pair" in blended.told[1]
    words = {text.partition(",")[0]: text for text in blended.left_out}
    assert "not in this lab" in words["gone"] and "--bundle" in words["gone"]
    assert "same recordings" in words["split"] and "nobody" in words["strange"]
    board = list_board(blended)
    rows = board.rows.set_index("name")
    pair = score_blend(recipes["pair"], [read("r3"), read("r5")])
    assert rows.at["pair", "cv"] == pytest.approx(pair["padded_cmap"].mean())
    assert rows.at["pair", "row"] == "row pair" and rows.at["pair", "public"] == 0.7
    assert rows.at["pair", "family"] == "b" and rows["cv_se"].notna().sum() >= 3
    assert np.isnan(rows.at["waiting", "public"])
    assert recipes["waiting"].run in board.candidates
    assert recipes["waiting"].run not in board.submitted
    view = build_pick(board)
    assert set(view.pick.pair) & {recipes["pair"].run, recipes["card"].run}
    assert any("equal shares" in text for text in view.sentences)
    plain = list_board(board_tables(blend_row("pair", ["r3", "r5"])))
    assert "several runs at once" in " ".join(plain.left_out)


def test_blends_are_found_by_name_and_row_and_bounded() -> None:
    blended = blended_board()
    by_name = {recipe.name: recipe.run for recipe in blended.recipes}
    assert blended.find("pair") == blended.find("row pair") == by_name["pair"]
    assert blended.find("nothing") is None and blended.find("") is None
    assert blended.find("row") is None
    tables = board_tables(blend_row("old", ["r1", "r2"]), blend_row("new", ["r3", "r4"]))
    bounded = add_blends(tables, [], read, most_work=2 * 60 * 4 * 2)
    assert [recipe.name for recipe in bounded.recipes] == ["new"]
    assert "too many" in bounded.left_out[0] and bounded.left_out[0].startswith("old")
    broken = replace(promoted("m", ("r1", "r2")), card={})
    told = add_blends(board_tables(), [broken], read)
    assert not told.recipes and "does not say" in told.left_out[0]


def test_likeness_is_one_for_equal_outputs_and_falls_with_what_errors_share() -> None:
    tables = {run: read(run) for run in RUNS[:5]} | {"twin": read("r2")}
    halfway = Recipe("half", ("r1", "r2"), (0.5, 0.5), Blend())
    tables["half"] = blend_cells(halfway, [read("r1"), read("r2")])
    found = measure_likeness(list(tables), tables.__getitem__)
    at = {run: place for place, run in enumerate(found.runs)}
    assert found.twins == {"twin": "r2"}
    assert found.values[at["r2"], at["twin"]] == pytest.approx(1)
    assert np.allclose(found.values, found.values.T) and (np.diag(found.values) == 1).all()
    others = found.values[at["half"], [at["r3"], at["r4"], at["r0"]]]
    assert found.values[at["half"], at["r2"]] > others.max()
    gains = list_gains(read("r1"))
    total = score_run(read("r1"))["cv/padded_cmap"]
    own = read("r1")
    constant = np.mean([(5 / (5 + own[f, 0].targets.sum(axis=0))).mean() for f in range(3)])
    assert gains.sum() / 3 + constant == pytest.approx(total)
    with pytest.raises(DataError, match="other recordings"):
        measure_likeness(["r1", "r2", "r6"], read)
    with pytest.raises(DataError, match="no stored"):
        measure_likeness(["r1", "r2", "r3"], lambda run: {} if run == "r3" else read(run))
    with pytest.raises(DataError, match="3 to 80"):
        measure_likeness(["r1", "r2"], read)


def test_two_equal_candidates_are_not_picked_together() -> None:
    blended = blended_board()
    board = list_board(blended, runs=["r2", "r3", "r4", "r5"])
    runs = tuple(board.rows["run"])
    first, second = (runs.index(run) for run in ("r5", "r4"))
    alike = np.eye(len(runs))
    plain = build_pick(replace(board, likeness=Likeness(runs, alike, {})))
    assert set(plain.pick.pair) == {"r5", "r4"}
    twins = {"r5": "r4"}
    rows = board.rows.assign(public=board.rows["public"].where(board.rows["run"] != "r5", 0.64))
    same = replace(board, rows=rows)
    together = build_pick(replace(same, likeness=Likeness(runs, alike, twins)))
    assert set(together.pick.pair) == {"r4", "r3"}
    assert any("predicts the same as r4" in text for text in together.sentences)
    unequal = build_pick(replace(board, likeness=Likeness(runs, alike, twins)))
    assert set(unequal.pick.pair) == {"r5", "r4"}
    alike[first, second] = alike[second, first] = 0.99
    model = fit_rows(replace(board, likeness=Likeness(runs, alike, {})))
    assert model.likeness[first, second] == pytest.approx(0.99)
    assert {part.shared for part in model.components} != {0.0}


def test_a_board_says_what_likeness_rests_on() -> None:
    blended = blended_board()
    board = list_board(blended)
    reader = blended.reader(read)
    told = add_likeness(board, lambda runs: measure_likeness(runs, reader))
    assert told.likeness is None and "Lineages say" in told.told[-1]
    named = replace(board, rows=board.rows[board.rows["run"] != "r6"].reset_index(drop=True))
    measured = add_likeness(named, lambda runs: measure_likeness(runs, reader))
    assert measured.likeness is not None
    assert measured.likeness.runs == tuple(named.rows["run"])
    assert "stored held-out outputs" in measured.told[-1]
    assert len(build_pick(measured).pick.pair) == 2


def test_a_look_at_outputs_costs_nothing_where_they_say_nothing() -> None:
    for counts in (True, False):
        means = measure_alike(AlikeSetting(1.0, 4, counts), 10).mean()
        assert means["outputs known"] < means["outputs unknown"] + 0.2
