"""Racing: levels against published ones, honest rates in simulation, and a race of real cells."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeLab
from scipy import stats
from simulations import cells_used, draw_scores, race_rounds, uncorrected_rate

from birdlab.run import run_experiments
from birdlab.runresult import RunNote, RunResult
from birdlab.spec import load_spec
from birdlab.study.contrasts import build_contrasts
from birdlab.study.racing import SeedRace, look_at, look_level, saved_cells
from birdlab.tasks import InProcess

N = 5_000
POCOCK = {2: 1.875, 4: 2.067}
"""One-sided critical values for 5 % in all, by number of looks: Jennison and Turnbull (2000)."""


DOCS = (Path(__file__).parents[1] / "docs" / "statistics.md").read_text(encoding="utf-8")


def table_of(scores: np.ndarray, rounds: int) -> pd.DataFrame:
    """[arm, fold, seed] as the table that a campaign hands to a race."""
    rows = [(*place, scores[place]) for place in np.ndindex(scores.shape) if place[2] < rounds]
    return pd.DataFrame(rows, columns=["run", "fold", "seed", "score"])


# ---------------------------------------------------------------- levels


@pytest.mark.parametrize("n_looks", POCOCK)
def test_levels_come_down_from_those_of_pocock(n_looks: int) -> None:
    normal = float(stats.norm.sf(POCOCK[n_looks]))
    levels = [look_level(n_looks, df, 0.05) for df in (4, 8, 32)]
    assert levels == sorted(levels)
    assert normal - 0.003 < levels[-1] <= normal
    assert levels[0] < normal - 0.001


def test_one_look_is_a_plain_test_and_three_looks_are_the_known_figure() -> None:
    assert look_level(1, 4, 0.05) == 0.05
    assert look_level(3, 8, 0.05) == 0.022


# ---------------------------------------------------------------- error rates


@pytest.mark.parametrize("arms", [1, 2, 3, 4])
def test_equal_arms_are_stopped_at_most_at_the_stated_rate(arms: int) -> None:
    scores = draw_scores(np.random.default_rng(arms), N, [0.0] * (arms + 1), 5, 3)
    stopped = (race_rounds(scores)[:, 1:] > 0).mean(axis=0)
    error = np.sqrt(0.05 * 0.95 / N)
    assert (stopped < 0.05 + 2.5 * error).all()
    assert (stopped > 0.03).all()


def test_the_rate_holds_where_looks_depend_least_on_each_other() -> None:
    scores = draw_scores(np.random.default_rng(0), N, [0.0, 0.0], 5, 5, fold_arm_sd=0)
    assert (race_rounds(scores)[:, 1] > 0).mean() < 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / N)


def test_looking_without_a_correction_would_stop_more() -> None:
    assert uncorrected_rate(N, 3) > 0.06 and uncorrected_rate(N, 10) > 0.1


@pytest.mark.parametrize("arms", [1, 3])
def test_an_arm_worse_by_20_thousandths_uses_at_most_6_of_15_cells(arms: int) -> None:
    effects = [0.0, -0.020, *[0.0] * (arms - 1)]
    scores = draw_scores(np.random.default_rng(arms), 2_000, effects, 5, 3)
    assert cells_used(race_rounds(scores)[:, 1], 5, 3) < 6


def test_a_better_arm_stays() -> None:
    scores = draw_scores(np.random.default_rng(1), 2_000, [0.0, 0.010], 5, 3)
    assert (race_rounds(scores)[:, 1] > 0).mean() < 0.001


@pytest.mark.parametrize("arms", [1, 3])
def test_the_table_of_the_docs_is_what_the_rule_does(arms: int) -> None:
    rows = (line for line in DOCS.splitlines() if " cells |" in line)
    row = next(line for line in rows if line.startswith(f"| {arms} |"))
    told = [float(x) for x in re.findall(r"([\d.]+) (?:%|cells)", row)]
    for worse, share, cells in zip((0, 0.005, 0.01, 0.02), told[::2], told[1::2], strict=True):
        effects = [0.0, -worse, *[0.0] * (arms - 1)]
        stopped = race_rounds(draw_scores(np.random.default_rng(9), 1_000, effects, 5, 3))[:, 1]
        assert 100 * (stopped > 0).mean() == pytest.approx(share, abs=5)
        assert cells_used(stopped, 5, 3) == pytest.approx(cells, abs=0.6)


# ---------------------------------------------------------------- the rule


def test_a_look_is_the_one_sided_test_of_the_final_verdict() -> None:
    scores = draw_scores(np.random.default_rng(5), 1, [0.0, -0.004, 0.003], 5, 2)[0]
    looks = look_at(scores.mean(axis=-1), 0)
    cells = table_of(scores, 2).pivot(index="run", columns=["fold", "seed"], values="score")
    for arm, look in looks.items():
        verdict = build_contrasts(cells, [arm], 0)[arm]
        p = stats.t.cdf(verdict.delta / verdict.se, verdict.df)
        assert (look.delta, look.p, look.df) == pytest.approx((verdict.delta, p, 8))
    pair = look_at(scores[:2].mean(axis=-1), 0)[1]
    expected = stats.ttest_rel(*scores[[1, 0]].mean(axis=-1), alternative="less")
    assert pair.p == pytest.approx(expected.pvalue) and pair.df == 4


def test_the_rule_on_tables_is_that_of_the_simulation() -> None:
    draws = draw_scores(np.random.default_rng(2), 60, [0.0, -0.008, -0.016], 5, 3)
    expected = race_rounds(draws)
    race = SeedRace(base=0, n_rounds=3)
    for scores, stopped in zip(draws, expected, strict=True):
        table = table_of(scores, 1)
        first = race.losers(table.sample(frac=1, random_state=0), 1)
        assert set(first) == set(np.flatnonzero(stopped == 1))
        left = table_of(scores, 2)
        second = race.losers(left[~left["run"].isin(list(first))], 2)
        assert set(second) == set(np.flatnonzero(stopped == 2))
    assert {1, 2} <= set(expected.ravel())


def test_the_reason_is_in_words() -> None:
    scores = np.full((2, 5, 1), 0.8)
    scores[1, :, 0] -= [0.02, 0.021, 0.022, 0.0213, 0.0222]
    assert SeedRace(base=0, n_rounds=3).losers(table_of(scores, 1), 1) == {
        1: "after round 1 of 3: -0.0213 against base (one-sided p < 0.001, bound 0.028)"
    }
    assert "up to 2 times; of arms that equal the base at most 5 %" in SeedRace(0, 3).sentence


def test_who_is_not_judged() -> None:
    scores = np.repeat([[[0.8]], [[0.2]], [[0.1]]], 5, axis=1) + np.arange(5)[:, None] / 1000
    table = table_of(scores, 1)
    race = SeedRace(base=0, n_rounds=2)
    assert set(race.losers(table, 1)) == {1, 2}
    assert set(SeedRace(base=1, n_rounds=2).losers(table, 1)) == {2}
    assert race.losers(table, 2) == {}
    patient = SeedRace(base=0, n_rounds=3, first_look=2)
    assert patient.losers(table, 1) == {} and patient.n_looks == 1
    assert SeedRace(base=0, n_rounds=1).losers(table, 1) == {}
    assert SeedRace(base=9, n_rounds=2).losers(table, 1) == {}
    assert race.losers(table[table["fold"] < 2], 1) == {}
    lacking = table[(table["run"] != 1) | (table["fold"] > 0)]
    assert set(race.losers(lacking, 1)) == {2}
    same = np.full((2, 5, 1), 0.8)
    assert race.losers(table_of(same, 1), 1) == {}


def test_an_arm_that_broke_hides_no_other_and_is_judged_by_its_own_scatter() -> None:
    scores = draw_scores(np.random.default_rng(0), 1, [0, -0.03, 0, 0], 5, 1)[0]
    scores[3, :, 0] = [0.1, 0.5, 0.9, 0.2, 0.99]
    looks = look_at(scores.mean(axis=-1), 0)
    assert looks[1].df == 8 and looks[1].p < 0.001
    assert looks[3].df == 4 and looks[3].p > 0.03


# ---------------------------------------------------------------- what it saved


def test_what_was_saved_is_told_in_cells_and_time() -> None:
    cells = pd.DataFrame(
        {"arm": ["base"] * 15 + ["bad"] * 5 + ["poor"] * 10, "seconds": [60.0] * 20 + [120.0] * 10}
    )
    planned = dict.fromkeys(("base", "bad", "poor"), 15)
    saved = saved_cells(cells, planned)
    assert (saved.n_stopped, saved.n_cells, saved.seconds) == (2, 15, 10 * 60 + 5 * 120)
    assert saved.sentence == (
        "Racing stopped 2 of 3 arms and saved 15 of 45 cells (33 %), about 20 min of training."
    )
    unknown = saved_cells(cells.assign(seconds=np.nan), planned).sentence
    assert unknown == "Racing stopped 2 of 3 arms and saved 15 of 45 cells (33 %)."
    none = saved_cells(cells.head(15), {"base": 15}).sentence
    assert none == "Racing stopped none of 1 arms."


# ---------------------------------------------------------------- real cells


def test_a_race_of_real_cells_ends_the_same_when_it_is_run_again(make_lab: MakeLab) -> None:
    lab = make_lab()
    rates = (3e-3, 1e-3)

    def run(seeds: list[int], race: SeedRace | None) -> list[RunResult]:
        specs = []
        for rate in rates:
            changes = {"train.optimizer.lr": rate, "data.folds.n": 3, "cells.seeds": seeds}
            specs.append((load_spec(lab.root / "tiny.yaml", changes), RunNote(title=str(rate))))
        with InProcess() as executor:
            results = run_experiments(specs, lab=lab, executor=executor, race=race)
        assert all(isinstance(r, RunResult) for r in results)
        return [r for r in results if isinstance(r, RunResult)]

    first = run([0], None)
    base = int(np.argmax([r.cv for r in first]))
    race = SeedRace(base=base, n_rounds=2, level=0.5)
    for trained in (3, 0):
        results = run([0, 1], race)
        kept, lost = results[base], results[1 - base]
        assert kept.trained == trained and len(kept.cells) == 6 and kept.cv > 0
        assert lost.trained == 0 and len(lost.cells) == 3 and lost.scores == {}
        assert lost.stopped_at.startswith("after round 1 of 2: -0.")
