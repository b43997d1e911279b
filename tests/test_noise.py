"""The noise floor: its parts and intervals in simulation, what it hides, and how a lab keeps it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import MakeLab
from scipy import stats
from simulations import assumed_noise, chance_to_find, detectable_table, draw_scores

from birdlab.cli import app as entry
from birdlab.cli.noise import describe_noise
from birdlab.errors import DataError, LabError
from birdlab.lab import Lab
from birdlab.plan import plan_experiment
from birdlab.spec import load_spec
from birdlab.study.noise import (
    NoiseFloor,
    Spread,
    detectable_delta,
    estimate_fold_arm,
    estimate_noise,
)
from birdlab.study.noise_file import load_noise, measure_noise, save_noise
from birdlab.study.racing import look_at

GOLDEN = {1: 0.44, 3: 0.74, 5: 0.84}
"""How often 5 folds find a gain of .010 with so many seeds: seed SD .006, fold × arm SD .004."""


def table_of(scores: np.ndarray) -> pd.DataFrame:
    """[fold, seed] as a table."""
    rows = [(*place, scores[place]) for place in np.ndindex(scores.shape)]
    return pd.DataFrame(rows, columns=["fold", "seed", "score"])


def draw_folds(rng: np.random.Generator, folds: int, seeds: int, sds: dict[str, float]) -> Any:
    fold = rng.normal(0, sds["fold"], (folds, 1))
    seed = rng.normal(0, sds["seed"], (1, seeds))
    return 0.8 + fold + seed + rng.normal(0, sds["rest"], (folds, seeds))


# ---------------------------------------------------------------- the parts


def test_the_parts_are_those_of_the_analysis_of_variance() -> None:
    sds = {"fold": 0.02, "seed": 0.01, "rest": 0.006}
    y = draw_folds(np.random.default_rng(0), 4, 3, sds)
    noise = estimate_noise(table_of(y).sample(frac=1, random_state=0))
    assert (noise.n_folds, noise.n_seeds, noise.n_arms) == (4, 3, 1)
    assert noise.mean == pytest.approx(y.mean())
    assert noise.repeat.sd**2 == pytest.approx(y.var(axis=1, ddof=1).mean())
    between = stats.f_oneway(*y).statistic * y.var(axis=1, ddof=1).mean()
    assert between == pytest.approx(3 * y.mean(axis=1).var(ddof=1))
    assert 3 * noise.fold.sd**2 + noise.rest.sd**2 == pytest.approx(between)
    assert 4 * noise.seed.sd**2 + noise.rest.sd**2 == pytest.approx(4 * y.mean(axis=0).var(ddof=1))
    df = 3 * 2
    exact = noise.rest.sd * np.sqrt(df / stats.chi2.ppf([0.975, 0.025], df))
    assert (noise.rest.low, noise.rest.high) == pytest.approx(tuple(exact))


@pytest.mark.parametrize(
    ("folds", "seeds", "seed_sd"), [(5, 5, 0.003), (3, 2, 0.003), (5, 3, 0.0), (10, 2, 0.012)]
)
def test_intervals_hold_the_truth_in_95_percent(folds: int, seeds: int, seed_sd: float) -> None:
    rng = np.random.default_rng(folds)
    sds = {"fold": 0.02, "seed": seed_sd, "rest": 0.006}
    true = {**sds, "repeat": float(np.hypot(seed_sd, 0.006))}
    n = 400
    held = dict.fromkeys(true, 0)
    for _ in range(n):
        noise = estimate_noise(table_of(draw_folds(rng, folds, seeds, sds)))
        for part, sd in true.items():
            spread: Spread = getattr(noise, part)
            held[part] += spread.low <= sd <= spread.high
            assert 0 <= spread.low <= spread.sd <= spread.high
    assert all(count / n > 0.92 for count in held.values()), held
    assert all(count / n < 0.98 for part, count in held.items() if true[part] > 0), held


@pytest.mark.parametrize("fold_arm_sd", [0.004, 0.0])
def test_recipes_by_fold_are_told_from_seeds_also_when_seeds_pair(fold_arm_sd: float) -> None:
    rng, n = np.random.default_rng(1), 2_000
    scores = draw_scores(rng, n, [0.0, 0.01, -0.02], 5, 3, fold_arm_sd=fold_arm_sd)
    scores += rng.normal(0, 0.01, (n, 1, 5, 3))
    found = [estimate_fold_arm(draw) for draw in scores]
    held = np.mean([s.low <= fold_arm_sd <= s.high for s in found])
    assert 0.935 < held < (0.965 if fold_arm_sd else 1.0)
    assert np.sqrt(np.mean([s.sd**2 for s in found])) == pytest.approx(fold_arm_sd, abs=0.0019)


def test_equal_scores_have_no_noise() -> None:
    noise = estimate_noise(table_of(np.full((3, 2), 0.75)))
    assert noise.repeat == noise.fold == noise.seed == Spread(0.0, 0.0, 0.0)


@pytest.mark.parametrize("shape", [(5, 1), (1, 5)])
def test_one_seed_or_fold_says_nothing(shape: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="two folds and two seeds"):
        estimate_noise(table_of(np.full(shape, 0.8)))
    with pytest.raises(DataError, match="every fold with every seed"):
        estimate_noise(table_of(np.full((3, 2), 0.8)).head(5))


# ---------------------------------------------------------------- what it hides


def test_the_known_shares_of_found_gains() -> None:
    """The published row takes .004 as the SD of a difference by fold, so .004/√2 for each arm."""
    noise = assumed_noise(fold_arm_sd=0.004 / np.sqrt(2))
    for seeds, share in GOLDEN.items():
        assert chance_to_find(noise, 0.010, 5, seeds, 1) == pytest.approx(share, abs=0.015)


def test_a_study_finds_what_is_foretold() -> None:
    n, effect = 4_000, 0.010
    scores = draw_scores(np.random.default_rng(0), n, [0.0, effect], 5, 3).mean(axis=-1)
    t = stats.ttest_rel(scores[:, 1], scores[:, 0], axis=1)
    found = ((t.pvalue < 0.05) & (t.statistic > 0)).mean()
    assert found == pytest.approx(chance_to_find(assumed_noise(), effect, 5, 3, 1), abs=0.02)


def test_the_first_step_of_holm_finds_the_detectable_difference_in_80_percent() -> None:
    noise, n, arms = assumed_noise(), 2_000, 3
    delta = detectable_delta(noise, 5, 2, arms)
    draws = draw_scores(np.random.default_rng(1), n, [0.0, delta, 0.0, 0.0], 5, 2).mean(axis=-1)
    found = sum(1 - look_at(draw, 0)[1].p < 0.05 / (2 * arms) for draw in draws)
    assert found / n == pytest.approx(0.8, abs=3 * np.sqrt(0.16 / n))


def test_more_evidence_finds_smaller_differences() -> None:
    noise = assumed_noise()
    by_seeds = [detectable_delta(noise, 5, seeds, 3) for seeds in (1, 2, 3, 5, 100)]
    by_folds = [detectable_delta(noise, folds, 3, 3) for folds in (3, 4, 5, 10)]
    assert by_seeds == sorted(by_seeds, reverse=True)
    assert by_folds == sorted(by_folds, reverse=True)
    assert by_seeds[-1] > detectable_delta(replace(noise, fold_arm=None), 5, 100, 3) > 0
    assert detectable_delta(noise, 5, 3, 10) > by_seeds[2]
    assert chance_to_find(noise, by_seeds[2], 5, 3, 3) == pytest.approx(0.8)
    assert np.isnan(detectable_delta(noise, 2, 5, 1)) and chance_to_find(noise, 1, 2, 5, 1) == 0


def test_a_seed_that_moves_all_folds_is_not_averaged_out_by_folds() -> None:
    alike = replace(assumed_noise(), seed=Spread(0.005, 0.002, 0.02), rest=Spread(0.0, 0.0, 0.0))
    many, few = (detectable_delta(alike, folds, 1, 1) for folds in (1000, 10))
    assert many > 2 * 0.005 and few < 2 * many


def test_the_table_of_the_docs_is_what_is_computed() -> None:
    docs = Path(__file__).parents[1] / "docs" / "statistics.md"
    assert "\n".join(detectable_table()) in docs.read_text(encoding="utf-8")


# ---------------------------------------------------------------- labs


def record_of(name: str, scores: np.ndarray, rows: str = "a-b-c") -> dict[str, Any]:
    cells = [
        {"fold": f, "seed": s, "cell_id": f"{name}{f}{s}", "padded_cmap": float(scores[f, s])}
        for f, s in np.ndindex(scores.shape)
    ]
    return {
        "spec_id": name,
        "name": name,
        "scores": {"cv/padded_cmap": float(scores.mean())},
        "cells": cells,
        "evaluation": {"rows_hash": rows, "classes_hash": "k"},
    }


def test_runs_that_compare_give_the_part_by_recipe(tmp_path: Path) -> None:
    draws = draw_scores(np.random.default_rng(3), 1, [0.0] * 4, 3, 3)[0]
    one, two, three, four = (record_of(n, y) for n, y in zip("pqrs", draws, strict=True))
    alone = measure_noise(one, [one])
    assert alone.fold_arm is None and alone == estimate_noise(table_of(draws[0]))
    elsewhere = record_of("t", draws[1], rows="a-b-d")
    short = {**three, "cells": three["cells"][:4]}
    reblended = {**one, "spec_id": "u"}
    stopped = {**four, "scores": {}}
    others = [one, two, elsewhere, short, reblended, stopped]
    noise = measure_noise(one, others)
    assert noise.n_arms == 2 and noise.fold_arm == estimate_fold_arm(draws[:2])
    assert replace(noise, n_arms=1, fold_arm=None) == alone
    ragged = {**one, "cells": one["cells"][:-1]}
    assert measure_noise(ragged, []) == estimate_noise(table_of(draws[0][:, :2]))
    nowhere = {**one, "cells": [{"fold": None, "seed": 0, "cell_id": "z"}]}
    with pytest.raises(DataError, match="two folds"):
        measure_noise(nowhere, [])
    assert measure_noise(one, [nowhere]) == alone
    lab = Lab(tmp_path)
    path = save_noise(lab, one, noise)
    assert path.parent == lab.stores / "noise"
    assert load_noise(lab, "a-b-c", "k") == load_noise(lab, "a-c", "k") == noise
    assert load_noise(lab, "a-d", "k") is None and load_noise(lab, "a-b-c", "l") is None
    assert save_noise(lab, two, alone) == path and load_noise(lab, "a-b-c", "k") == alone
    save_noise(lab, elsewhere, noise)
    assert load_noise(lab, "a-b-c", "k") == alone
    for broken in ("{", "[]", '{"rows_hash": "a"}'):
        path.write_text(broken)
        with pytest.raises(LabError, match="cannot be read"):
            load_noise(lab, "a-b-c", "k")


def test_the_command_trains_what_is_missing_and_takes_runs_as_they_are(
    make_lab: MakeLab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab: Lab = make_lab(trained=True)
    monkeypatch.setenv("BIRDLAB_HOME", str(lab.root))
    monkeypatch.chdir(lab.root)

    def birdlab(*args: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["birdlab", *args])
        with pytest.raises(SystemExit) as ended:
            entry.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.err + said.out

    code, said = birdlab("noise", "tiny")
    assert code == 1 and "birdlab extend RUN --folds all --seeds 5" in said
    code, said = birdlab("noise", "tiny.yaml", "--seeds", "2", "--no-mlflow")
    assert code == 0 and "2 cells trained, 2 from the cache" in said
    assert "over 2 folds and 2 seeds" in said and "no verdicts under 3 folds" in said
    assert "stored in mlruns/noise/" in said
    plan = plan_experiment(load_spec(lab.root / "tiny.yaml"), lab)
    stored = load_noise(lab, plan.rows_hash, plan.data.classes.digest)
    assert stored is not None and stored.n_seeds == 2 and stored.repeat.sd > 0
    code, again = birdlab("noise", "-1")
    assert code == 0 and again.strip() == said[said.index("noise of tiny") :].strip()
    code, said = birdlab("noise", "tiny", "--set", "train.batch=5")
    assert code == 1 and "--set goes with an experiment file" in said


def test_what_the_command_says() -> None:
    noise: NoiseFloor = assumed_noise()
    text = "\n".join(describe_noise(noise, "x"))
    assert "another seed    0.0060 (0.0060 to 0.0060)" in text
    assert "from 2 runs" in text and "together" not in text and "at least" not in text
    assert f"{detectable_delta(noise, 5, 3, 10):.4f}" in text
    moved = replace(noise, seed=Spread(0.005, 0.001, 0.02), fold_arm=None)
    text = "\n".join(describe_noise(moved, "x"))
    assert "A seed moves all folds together" in text and "unknown" in text and "at least" in text
