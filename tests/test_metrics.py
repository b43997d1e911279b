"""The scores against closed forms, brute force, scikit-learn and the figures of the domain."""

from __future__ import annotations

import ast
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold

from birdlab.errors import OutputsError
from birdlab.evaluate import metrics as m

DATA = Path(__file__).parents[2] / "shared" / "data"
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])[:, None]


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Small tables with many ties, and classes with no positives or only positives."""
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 4)))
    targets = draw(hnp.arrays(np.bool_, shape))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    steps = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 7)))
    return targets, (steps / 8).astype(dtype)


def sklearn_padded(targets: np.ndarray, probs: np.ndarray, n_pad: int) -> np.ndarray:
    ones = np.ones((n_pad, targets.shape[1]))
    truth, scores = np.vstack([targets, ones]), np.vstack([probs, ones])
    return np.asarray(average_precision_score(truth.astype(int), scores, average=None)).reshape(-1)


@pytest.mark.parametrize(
    ("truth", "expected"),
    [([0, 1, 0, 0, 1, 0], 0.936735), ([0] * 6, 1.0), ([0, 0, 0, 0, 0, 1], 0.924242)],
)
def test_padded_cmap_golden(truth: list[int], expected: float) -> None:
    assert m.padded_cmap(np.array(truth)[:, None], SCORES) == pytest.approx(expected, abs=1e-6)


@given(tables(), st.integers(1, 6))
def test_padded_average_precision_is_sklearns(
    pair: tuple[np.ndarray, np.ndarray], n_pad: int
) -> None:
    expected = sklearn_padded(*pair, n_pad)
    np.testing.assert_allclose(m.class_average_precision(*pair, n_pad), expected, atol=1e-12)
    assert m.padded_cmap(*pair, n_pad) == pytest.approx(expected.mean())


@given(tables())
def test_auc_is_the_share_of_pairs_in_order(pair: tuple[np.ndarray, np.ndarray]) -> None:
    targets, probs = pair
    values = m.class_auc(targets, probs)
    for column in range(targets.shape[1]):
        up, down = probs[targets[:, column], column], probs[~targets[:, column], column]
        if not up.size or not down.size:
            assert np.isnan(values[column])
            continue
        pairs = np.sign(up[:, None] - down[None, :])
        assert values[column] == pytest.approx(((pairs + 1) / 2).mean())
        assert values[column] == pytest.approx(roc_auc_score(targets[:, column], probs[:, column]))
    if np.isnan(values).all():
        with pytest.raises(OutputsError):
            m.macro_auc(targets, probs)
    else:
        assert m.macro_auc(targets, probs) == pytest.approx(np.nanmean(values))


@given(tables(), st.integers(1, 6))
def test_floor_is_the_constant_predictor(pair: tuple[np.ndarray, np.ndarray], n_pad: int) -> None:
    targets, _ = pair
    constant = np.full(targets.shape, 0.3)
    assert m.constant_floor(targets, n_pad) == pytest.approx(
        m.padded_cmap(targets, constant, n_pad)
    )
    assert m.constant_floor(targets, n_pad) <= m.padded_cmap(targets, targets * 0.9, n_pad) + 1e-12


@given(tables(), st.permutations(range(4)))
def test_order_of_rows_and_classes_does_not_matter(
    pair: tuple[np.ndarray, np.ndarray], classes: list[int]
) -> None:
    targets, probs = pair
    columns = [c for c in classes if c < targets.shape[1]]
    assert m.padded_cmap(targets[::-1][:, columns], probs[::-1][:, columns]) == pytest.approx(
        m.padded_cmap(targets, probs)
    )


@given(tables())
def test_auc_ignores_increasing_maps(pair: tuple[np.ndarray, np.ndarray]) -> None:
    targets, probs = pair
    np.testing.assert_allclose(m.class_auc(targets, probs), m.class_auc(targets, probs**2 / 2))


def test_untied_scores_follow_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    probs = rng.permutation(400)[:, None] / 401
    targets = rng.random((400, 1)) < 0.1
    ranks = 1 + np.flatnonzero(targets[np.argsort(-probs[:, 0]), 0])
    i = np.arange(1, len(ranks) + 1)
    expected = (5 + ((5 + i) / (5 + ranks)).sum()) / (5 + len(ranks))
    assert m.padded_cmap(targets, probs) == pytest.approx(expected)


def test_cmap_min5_leaves_rare_classes_out() -> None:
    rng = np.random.default_rng(1)
    probs = rng.random((50, 3))
    targets = np.zeros((50, 3), dtype=int)
    targets[:5, 0] = targets[:4, 1] = targets[10:30, 2] = 1
    expected = average_precision_score(targets[:, [0, 2]], probs[:, [0, 2]], average="macro")
    assert m.cmap_min5(targets, probs) == pytest.approx(expected)
    with pytest.raises(OutputsError, match="5 positives"):
        m.cmap_min5(targets[:, [1]], probs[:, [1]])


def test_top1_shares_ties() -> None:
    probs = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.7], [0.5, 0.5, 0.5]])
    assert m.top1_accuracy([0, 2, 1], probs) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert m.top1_accuracy([1, 0, 2], probs) == pytest.approx((0 + 0 + 1 / 3) / 3)
    for wrong in ([0, 1, 3], [0, -1, 2]):
        with pytest.raises(OutputsError, match="not a class"):
            m.top1_accuracy(wrong, probs)
    with pytest.raises(OutputsError, match="does not fit"):
        m.top1_accuracy([0, 1], probs)


@pytest.mark.parametrize("value", [1.0, 1.5, -0.1, np.nan, np.inf])
def test_scores_outside_the_range_name_their_column(value: float) -> None:
    probs = np.full((4, 3), 0.5)
    probs[2, 1] = value
    for score in (m.padded_cmap, m.macro_auc, m.class_auc, m.cmap_min5):
        with pytest.raises(OutputsError, match="column 1, row 2"):
            score(np.eye(4, 3), probs)


@pytest.mark.parametrize(
    ("targets", "probs"),
    [
        (np.ones((3, 2)), np.full((3, 3), 0.5)),
        (np.ones(3), np.full(3, 0.5)),
        (np.ones((0, 2)), np.ones((0, 2))),
        (np.full((3, 2), 0.3), np.full((3, 2), 0.5)),
        (np.full((3, 2), np.nan), np.full((3, 2), 0.5)),
        (np.full((3, 2), "1"), np.full((3, 2), 0.5)),
    ],
)
def test_tables_that_do_not_fit_are_refused(targets: Any, probs: Any) -> None:
    for score in (m.padded_cmap, m.macro_auc):
        with pytest.raises(OutputsError):
            score(targets, probs)


def test_without_padding_an_empty_class_has_no_score() -> None:
    targets, probs = np.eye(4, 5), np.random.default_rng(0).random((4, 5))
    assert np.isnan(m.class_average_precision(targets, probs, 0)[4])
    for call in (lambda: m.padded_cmap(targets, probs, 0), lambda: m.constant_floor(targets, 0)):
        with pytest.raises(OutputsError, match="column 4"):
            call()
    with pytest.raises(OutputsError, match="negative"):
        m.padded_cmap(targets, probs, -1)
    assert m.constant_floor(np.eye(4), 0) == pytest.approx(0.25)


@given(hnp.arrays(np.float64, (5, 2), elements=st.floats(0, 1)))
def test_clamped_scores_are_scorable(probs: np.ndarray) -> None:
    clamped = m.clamp_probs(probs)
    assert clamped.dtype == np.float32 and clamped.max() < 1
    np.testing.assert_allclose(clamped, probs, atol=1e-7)
    m.padded_cmap(np.eye(5, 2), clamped)


def test_clamp_keeps_what_is_no_probability_out() -> None:
    saturated = 1 / (1 + np.exp(-np.array([[17.4, 100.0]], dtype=np.float32)))
    assert (saturated == 1).any() and (m.clamp_probs(saturated) < 1).all()
    assert m.clamp_probs(np.float64(1 - 1e-9)) < 1
    for value in (1.1, -0.1, np.nan, np.inf):
        with pytest.raises(OutputsError, match="column 1"):
            m.clamp_probs([[0.5, value]])


def test_real_size_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    probs = rng.random((29_450, 264), dtype=np.float32)
    targets = rng.random(probs.shape) < 0.004
    start = time.perf_counter()
    m.padded_cmap(targets, probs)
    m.macro_auc(targets, probs)
    assert time.perf_counter() - start < 20, "about 3 s on an idle core"


@pytest.mark.parametrize(
    ("secondary", "averaged", "pooled"), [(1, 0.450, 0.191), (0, 0.475, 0.206)]
)
def test_random_predictor_on_the_2023_folds(secondary: int, averaged: float, pooled: float) -> None:
    path = DATA / "birdclef2023_train_metadata.csv"
    if not path.exists():
        pytest.skip("the 2023 training table does not lie beside this checkout")
    table = pd.read_csv(path)
    classes = {name: i for i, name in enumerate(sorted(table.primary_label.unique()))}
    targets = np.zeros((len(table), len(classes)), dtype=bool)
    targets[np.arange(len(table)), table.primary_label.map(classes)] = True
    for row, names in enumerate(table.secondary_labels.map(ast.literal_eval)):
        for name in names:
            if secondary and name in classes:
                targets[row, classes[name]] = True
    probs = np.random.default_rng(0).random(targets.shape, dtype=np.float32)
    with pytest.warns(UserWarning, match="least populated"):
        folds = list(
            StratifiedKFold(5, shuffle=True, random_state=42).split(table, table.primary_label)
        )
    scores = [m.padded_cmap(targets[rows], probs[rows]) for _, rows in folds]
    assert np.mean(scores) == pytest.approx(averaged, abs=0.003)
    assert m.padded_cmap(targets, probs) == pytest.approx(pooled, abs=0.003)
