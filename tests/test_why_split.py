"""The split of a difference over species and recordings, against taking each row out in turn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fold_tables import build_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from birdlab.errors import DataError
from birdlab.evaluate.metrics import class_auc, class_average_precision, macro_auc, padded_cmap
from birdlab.evaluate.score import FoldTable
from birdlab.study.delta_split import split_delta
from birdlab.study.influence import find_influence
from birdlab.study.run_tables import RunTables
from birdlab.study.sharing import share_tables

SCORES = {"padded_cmap": padded_cmap, "macro_auc": macro_auc}


def draw_table(n_rows: int, n_levels: int, share: float, seed: int) -> FoldTable:
    """A table with ties, saturated scores and classes with no, one, some and all positives."""
    rng = np.random.default_rng(seed)
    targets = rng.random((n_rows, 5)) < [share, share, 0.5, 0.0, 1.0]
    targets[:, 1] = False
    targets[rng.integers(n_rows), 1] = True
    probs = (rng.integers(0, n_levels, (n_rows, 5)) / n_levels).astype(np.float32)
    probs[rng.random(probs.shape) < 0.2] = np.nextafter(np.float32(1), np.float32(0))
    names = tuple(f"r{i}" for i in range(n_rows))
    return FoldTable(names, tuple("abcde"), np.zeros(n_rows, np.int64), targets, probs)


@given(st.integers(2, 25), st.integers(1, 9), st.floats(0.05, 0.9), st.integers(0, 999))
@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("metric", sorted(SCORES))
def test_each_row_taken_out(
    metric: str, n_rows: int, n_levels: int, share: float, seed: int
) -> None:
    table = draw_table(n_rows, n_levels, share, seed)
    found = find_influence(table, metric=metric)
    by_class = class_auc if metric == "macro_auc" else class_average_precision
    whole = by_class(table.targets, table.probs)
    np.testing.assert_allclose(found.values, whole, atol=1e-12)
    assert found.parts.sum() == pytest.approx(np.nanmean(whole), abs=1e-12)
    for row in range(n_rows):
        kept = np.arange(n_rows) != row
        without = by_class(table.targets[kept], table.probs[kept])
        if np.isnan(without).all():
            assert np.isnan(found.moved[row]).all()
            continue
        moved = np.nan_to_num(whole) / (~np.isnan(whole)).sum()
        moved = moved - np.nan_to_num(without) / (~np.isnan(without)).sum()
        np.testing.assert_allclose(found.moved[row], moved, atol=1e-12)


def runs(seeds: tuple[int, ...] = (0, 1), *, flip: bool = False) -> list[RunTables]:
    return [
        RunTables("a", build_tables(seeds=seeds, skill=0.1)),
        RunTables("b", build_tables(seeds=seeds, run=1, skill=0.3, flip=flip)),
    ]


@pytest.mark.parametrize("metric", sorted(SCORES))
@pytest.mark.parametrize("flip", [False, True])
def test_everything_sums_to_the_difference(metric: str, flip: bool) -> None:
    shared = share_tables(runs(flip=flip))
    found = split_delta(shared, "b", metric=metric)
    pairs = shared.pairs("b")
    score = SCORES[metric]
    deltas = [score(b.targets, b.probs) - score(a.targets, a.probs) for a, b in pairs.values()]
    assert found.delta == pytest.approx(np.mean(deltas), abs=1e-12) and abs(found.delta) > 0.01
    assert math.fsum(found.species["share"]) == found.delta
    assert found.recordings["share"].sum() == pytest.approx(found.delta, abs=1e-12)
    assert found.remainder == found.delta - math.fsum(found.recordings["influence"])
    assert len(found.recordings) == 60


def test_the_influence_of_a_recording_is_the_difference_without_it() -> None:
    shared = share_tables(runs())
    found = split_delta(shared, "b")
    for row in found.recordings.head(3).to_dict("records"):
        tables = [
            RunTables(run.name, {c: _without(t, row["recording"]) for c, t in run.tables.items()})
            for run in runs()
        ]
        without = split_delta(share_tables(tables), "b").delta
        assert row["influence"] == pytest.approx(found.delta - without, abs=1e-12)


def _without(table: FoldTable, name: str) -> FoldTable:
    kept = [i for i, own in enumerate(table.recordings) if own != name]
    return FoldTable(
        tuple(table.recordings[i] for i in kept),
        table.codes,
        table.primary[kept],
        table.targets[kept],
        table.probs[kept],
    )


def test_other_metrics_and_arms_are_refused() -> None:
    shared = share_tables(runs())
    with pytest.raises(DataError, match="does not split"):
        split_delta(shared, "b", metric="cmap_min5")
    with pytest.raises(DataError, match="not compared"):
        split_delta(shared, "c")
    with pytest.raises(DataError, match="padding"):
        split_delta(shared, "b", n_pad=0)
