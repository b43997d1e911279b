"""Folds: the golden split of the 2023 table, grouping by recordist, and what leaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from birdlab.data.catalog import load_dataset
from birdlab.data.folds import assign_folds, build_folds, overlap_share
from birdlab.errors import DataError
from birdlab.spec.data import Stratified, StratifiedGroup

TABLE = Path(__file__).parents[2] / "shared" / "data" / "birdclef2023_train_metadata.csv"
TABLES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["", "Ann", "ann ", "Bo", "Cy", "Di"])),
    min_size=12,
    max_size=40,
)


def table_of(rows: list[tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame(
        rows, columns=["primary_label", "author"], index=range(100, 100 + len(rows))
    )


@pytest.fixture(scope="module")
def birdclef2023(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    if not TABLE.is_file():
        pytest.skip("the BirdCLEF 2023 table is not beside the checkout")
    folder = tmp_path_factory.mktemp("birdclef-2023")
    (folder / "train_metadata.csv").symlink_to(TABLE)
    return load_dataset("birdclef-2023", folder).recordings


def test_golden_stratified_folds_of_the_2023_table(birdclef2023: pd.DataFrame) -> None:
    folds = assign_folds(birdclef2023, "stratified", 5, 42)
    species = set(birdclef2023["primary_label"])

    def missing(rows: pd.Series) -> int:
        return len(species - set(birdclef2023.loc[rows, "primary_label"]))

    assert [int((folds == fold).sum()) for fold in range(5)] == [3389, 3388, 3388, 3388, 3388]
    assert [missing(folds != fold) for fold in range(5)] == [1, 0, 3, 2, 1]
    assert [missing(folds == fold) for fold in range(5)] == [9, 11, 10, 10, 9]
    assert round(100 * overlap_share(birdclef2023, folds, 0), 1) == 77.2


def test_grouped_folds_of_the_2023_table_share_no_recordist(birdclef2023: pd.DataFrame) -> None:
    folds = assign_folds(birdclef2023, "stratified_group", 5, 42)
    assert sorted(folds.unique()) == [0, 1, 2, 3, 4]
    assert birdclef2023.groupby(birdclef2023["author"].str.casefold())["author"].size().size > 500
    for fold in range(5):
        assert overlap_share(birdclef2023, folds, fold) == 0
        assert overlap_share(birdclef2023, folds, fold, by=("author",)) == 0
        assert (folds == fold).mean() > 0.15


@settings(deadline=None)
@given(TABLES, st.integers(2, 4), st.integers(0, 9))
def test_stratified_is_sklearn_in_table_order(
    rows: list[tuple[str, str]], n_folds: int, seed: int
) -> None:
    table = table_of(rows)
    folds = assign_folds(table, "stratified", n_folds, seed)
    assert folds.index.equals(table.index)
    assert folds.dtype == np.int64
    counts = table["primary_label"].value_counts()
    if counts.min() >= n_folds:
        splitter = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        split = splitter.split(np.zeros(len(table)), table["primary_label"])
        for fold, (_, validation) in enumerate(split):
            assert np.flatnonzero(folds == fold).tolist() == validation.tolist()
    per_fold = pd.crosstab(folds, table["primary_label"])
    assert (per_fold.max() - per_fold.min()).max() <= 1 or len(per_fold) < n_folds


@settings(deadline=None)
@given(TABLES, st.integers(0, 9))
def test_no_recordist_is_in_two_grouped_folds(rows: list[tuple[str, str]], seed: int) -> None:
    table = table_of(rows)
    if table["author"].nunique() + (table["author"] == "").sum() < 4:
        return
    folds = assign_folds(table, "stratified_group", 2, seed)
    names = table["author"].str.strip().str.casefold()
    spread = folds.groupby(names).nunique()
    assert (spread[spread.index != ""] == 1).all()
    assert folds.isin([0, 1]).all()


def test_rows_without_an_author_are_not_kept_together() -> None:
    table = table_of([("a", "")] * 20)
    folds = assign_folds(table, "stratified_group", 4, 0)
    assert folds.value_counts().tolist() == [5, 5, 5, 5]


def test_the_seed_decides_the_folds() -> None:
    table = table_of([("a", ""), ("b", "")] * 30)
    same = [assign_folds(table, "stratified", 3, 7) for _ in range(2)]
    pd.testing.assert_series_equal(*same)
    assert not same[0].equals(assign_folds(table, "stratified", 3, 8))


def test_specs_build_the_folds_of_their_kind() -> None:
    table = table_of([("a", "Ann"), ("b", "Bo"), ("a", "Cy"), ("b", "")] * 5)
    for spec in (Stratified(n=3, seed=1), StratifiedGroup(n=3, seed=1)):
        wanted = assign_folds(table, spec.kind, 3, 1)
        pd.testing.assert_series_equal(build_folds(table, spec), wanted)


@settings(deadline=None)
@given(TABLES, st.data())
def test_overlap_against_brute_force(rows: list[tuple[str, str]], data: st.DataObject) -> None:
    table = table_of(rows)
    fold = st.sampled_from([-1, 0, 1])
    folds = pd.Series([data.draw(fold) for _ in rows], index=table.index)
    held = [row for row, f in zip(rows, folds, strict=True) if f == 0]
    training = {row for row, f in zip(rows, folds, strict=True) if f != 0}
    share = overlap_share(table, folds, 0)
    if not held:
        assert np.isnan(share)
    else:
        assert share == np.mean([row in training and row[1] != "" for row in held])


@pytest.mark.parametrize(
    ("rows", "kind", "n_folds", "said"),
    [
        ([("a", "x")] * 4, "stratifed", 2, "did you mean 'stratified'"),
        ([("a", "x"), ("", "y")], "stratified", 2, "1 rows have no primary_label"),
        ([("a", "x")] * 4, "stratified", 5, "4 rows"),
        ([("a", "x")] * 4, "stratified", 1, "at least 2 folds"),
        ([("a", "x")] * 4, "stratified_group", 2, "1 groups"),
    ],
)
def test_impossible_folds_are_refused(
    rows: list[tuple[str, str]], kind: str, n_folds: int, said: str
) -> None:
    with pytest.raises(DataError) as caught:
        assign_folds(table_of(rows), kind, n_folds, 0)
    assert said in str(caught.value)
