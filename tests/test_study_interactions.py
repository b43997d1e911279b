"""Interactions: the contrast of four means, the F test, and the sentences of a grid."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from birdlab.errors import DataError
from birdlab.study.interactions import find_interactions, sweep_interactions


def make_scores(
    means: np.ndarray,
    *,
    n_folds: int = 5,
    n_seeds: int = 2,
    noise_sd: float = 0.002,
    rng: np.random.Generator | int = 0,
) -> pd.DataFrame:
    """Scores of a table of true means [rows, columns]: row r0 .., column c0 .."""
    draw = np.random.default_rng(rng)
    folds = draw.normal(0, 0.02, n_folds)
    return pd.DataFrame(
        [
            (f"r{r}", f"c{c}", f, s, means[r, c] + folds[f] + draw.normal(0, noise_sd))
            for r, c in np.ndindex(*means.shape)
            for f, s in product(range(n_folds), range(n_seeds))
        ],
        columns=["row", "column", "fold", "seed", "score"],
    )


def anova(scores: pd.DataFrame) -> tuple[float, float]:
    """F and p of the interaction by least squares over dummies: with it against without."""
    means = scores.groupby(["row", "column", "fold"], as_index=False)["score"].mean()
    means["cell"] = means["row"] + means["column"]
    y, rss, ranks = means["score"].to_numpy(), [], []
    for keys in (["cell", "fold"], ["row", "column", "fold"]):
        x = np.column_stack([pd.get_dummies(means[k], dtype=float) for k in keys])
        solution, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
        rss.append(float(((y - x @ solution) ** 2).sum()))
        ranks.append(int(rank))
    between, within = ranks[0] - ranks[1], len(y) - ranks[0]
    f = (rss[1] - rss[0]) / between / (rss[0] / within)
    return f, float(stats.f.sf(f, between, within))


@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (3, 4)])
def test_the_f_test_is_that_of_the_linear_model(shape: tuple[int, int]) -> None:
    means = np.random.default_rng(1).normal(0.8, 0.002, shape)
    scores = make_scores(means)
    found = find_interactions(scores)
    assert (found.f, found.p) == pytest.approx(anova(scores))
    assert len(found.table) == shape[0] * shape[1]


def test_two_by_two_is_one_contrast_and_its_square_the_f() -> None:
    means = np.array([[0.80, 0.81], [0.812, 0.811]])
    scores = make_scores(means, noise_sd=0.001)
    found = find_interactions(scores)
    y = scores.groupby(["row", "column"])["score"].mean().unstack().to_numpy()
    contrast = (y[1, 1] - y[0, 1]) - (y[1, 0] - y[0, 0])
    line = found.table.iloc[-1]
    assert line["interaction"] == pytest.approx(contrast)
    assert line["effect"] == pytest.approx(y[1, 1] - y[0, 1])
    assert line["p"] == pytest.approx(found.p), "one contrast: t squared is F"
    assert line["low"] < -0.011 < line["high"] < 0
    assert found.table["p"].notna().sum() == 1
    (sentence,) = found.sentences
    assert sentence.startswith("r1 instead of r0 changes the score by +0.01")
    assert "with c0" in sentence and sentence.endswith("is real.")
    assert "may be noise" in find_interactions(make_scores(means, noise_sd=0.05)).sentences[0]


def test_without_interaction_little_is_found() -> None:
    rng, n = np.random.default_rng(2), 80
    additive = np.add.outer([0, 0.01, -0.02], [0.8, 0.83, 0.81])
    f_found = holm_found = 0
    for _ in range(n):
        found = find_interactions(make_scores(additive, n_seeds=1, rng=rng))
        f_found += found.p < 0.05
        holm_found += bool((found.table["p"] < 0.05).any())
        assert ("depends on" in found.sentences[0]) == (found.p < 0.05)
    for count in (f_found, holm_found):
        assert stats.binomtest(count, n, 0.05, alternative="greater").pvalue > 0.01
    assert f_found > 0, "a test that never errs tests nothing"


def test_a_table_names_the_columns_that_differ() -> None:
    means = np.add.outer([0, 0.01], [0.80, 0.81, 0.82])
    means[1, 2] -= 0.01
    found = find_interactions(make_scores(means, noise_sd=0.001), names=("lr", "size"))
    assert found.sentences[0].startswith("The effect of lr depends on size (F test, p < 0.001)")
    assert len(found.sentences) == 2 and "with c2; the difference of the two" in found.sentences[1]


def test_a_table_without_scatter_is_sure_of_every_interaction() -> None:
    means = np.outer([0.0, 1.0], [0.0, 0.01, 0.02])
    found = find_interactions(make_scores(means, noise_sd=0))
    assert found.p == 0 and found.sentences[0].startswith("The effect of row depends on column")
    none = find_interactions(make_scores(means[[1, 1]], noise_sd=0))
    assert none.p == 1 and len(none.sentences) == 1 and "is not shown" in none.sentences[0]


def test_a_single_contrast_that_the_whole_table_does_not_show_is_said_apart() -> None:
    means = np.zeros((3, 4))
    means[2, 3] = 0.004
    found = find_interactions(make_scores(means, n_seeds=1, rng=33))
    assert (found.table["p"] < 0.05).any() and found.p >= 0.05
    assert "single differences are" in found.sentences[0] and len(found.sentences) > 1


def test_two_folds_give_no_verdict() -> None:
    found = find_interactions(make_scores(np.full((2, 2), 0.8), n_folds=2))
    assert found.table["p"].isna().all() and np.isnan(found.p)
    assert "no verdict on 2 common folds" in found.sentences[0]


def test_a_combination_that_diverges_is_named() -> None:
    scores = make_scores(np.full((2, 3), 0.8), n_seeds=1)
    wild = (scores["row"] == "r1") & (scores["column"] == "c2")
    scores.loc[wild, "score"] += np.array([0.2, -0.2, 0.1, -0.1, 0.05])
    assert "r1 with c2 scatters unlike" in find_interactions(scores).sentences[-1]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda t: t[(t.row == "r0") | (t.column == "c0")], "has no scores"),
        (lambda t: t[t.row == "r0"], "two rows and two columns"),
        (lambda t: pd.concat([t, t.head(1)]), "two scores"),
        (lambda t: t[(t.row == "r0") == (t.fold < 2)], "share no fold"),
    ],
)
def test_tables_that_are_none_are_refused(spoil, says: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match=says):
        find_interactions(spoil(make_scores(np.full((2, 2), 0.8))))


def grid_of(values: dict[str, list[str]]) -> dict[str, dict[str, str]]:
    return {
        ", ".join(point): dict(zip(values, point, strict=True))
        for point in product(*values.values())
    }


def test_a_grid_of_three_entries_averages_over_the_third() -> None:
    values = {"a": ["a=1", "a=2"], "b": ["b=1", "b=2"], "c": ["c=1", "c=2", "c=3"], "d": ["d=1"]}
    points = grid_of(values)
    draw = np.random.default_rng(3)
    scores = pd.DataFrame(
        [
            (
                arm,
                f,
                s,
                draw.normal(0.8, 0.004) + 0.02 * (point["a"] == point["b"].replace("b", "a")),
            )
            for arm, point in reversed(points.items())
            for f, s in product(range(4), range(2))
        ],
        columns=["arm", "fold", "seed", "score"],
    )
    found = sweep_interactions(values, points, scores)
    assert [i.names for i in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found[0].p < 0.001 < found[1].p and found[0].table["row"].iloc[0] == "a=1"
    first = scores["arm"].str.startswith("a=1, b=1")
    assert found[0].table["mean"].iloc[0] == pytest.approx(scores.loc[first, "score"].mean())
    elsewhere = scores["arm"] == "a=2, b=1, c=3, d=1"
    apart = scores.assign(fold=scores["fold"] + 9 * elsewhere)
    nowhere = sweep_interactions(values, points, apart)
    assert all("not every combination" in i.sentences[0] for i in nowhere) and len(nowhere) == 3
    del points["a=2, b=1, c=3, d=1"]
    left = scores[scores["arm"].isin(points)]
    missing = sweep_interactions(values, points, left)
    assert all("not every combination" in i.sentences[0] and i.table.empty for i in missing)


def test_entries_that_a_condition_keeps_apart_are_left_out() -> None:
    points = {
        "bce, x": {"loss": "bce", "mix": "x"},
        "bce, y": {"loss": "bce", "mix": "y"},
        "focal, 1, x": {"loss": "focal", "gamma": "1", "mix": "x"},
        "focal, 1, y": {"loss": "focal", "gamma": "1", "mix": "y"},
        "focal, 2, x": {"loss": "focal", "gamma": "2", "mix": "x"},
        "focal, 2, y": {"loss": "focal", "gamma": "2", "mix": "y"},
    }
    values = {"loss": ["bce", "focal"], "gamma": ["1", "2"], "mix": ["x", "y"]}
    scores = pd.DataFrame(
        [(arm, f, 0, 0.8 + 0.01 * f) for arm in points for f in range(3)],
        columns=["arm", "fold", "seed", "score"],
    )
    assert sweep_interactions(values, points, scores) == ()
