"""Folds: the golden split of the 2023 table, grouping by recordist, and what leaks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overlaps import overlap_share
from sklearn.model_selection import StratifiedKFold

from birdlab.data.folds import assign_folds, build_folds
from birdlab.data.sources import load_source
from birdlab.errors import DataError
from birdlab.spec.folds import Predefined, Stratified, StratifiedGroup
from birdlab.spec.sources import BirdclefSource

TABLE = Path(__file__).parents[2] / "shared" / "data" / "birdclef2023_train_metadata.csv"
TABLES = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["", "Ann", "ann ", "Bo", "Cy", "Di"])),
    min_size=12,
    max_size=40,
)


def table_of(rows: list[tuple[str, str]]) -> pd.DataFrame:
    index = range(100, 100 + len(rows))
    names = [f"{n}.ogg" for n in index]
    table = pd.DataFrame(rows, columns=["primary_label", "author"], index=index)
    return table.assign(dataset="base", recording=names)


@pytest.fixture(scope="module")
def birdclef2023(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    if not TABLE.is_file():
        pytest.skip("the BirdCLEF 2023 table is not beside the checkout")
    folder = tmp_path_factory.mktemp("birdclef-2023")
    (folder / "train_metadata.csv").symlink_to(TABLE)
    source = BirdclefSource(path=".")
    return load_source(source, "birdclef-2023", folder, folder).recordings


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


@given(TABLES, st.integers(2, 4), st.sampled_from([None, 2, 6]), st.booleans())
def test_rare_species_may_be_in_every_training_fold(
    rows: list[tuple[str, str]], n_folds: int, below: int | None, grouped: bool
) -> None:
    table = table_of(rows)
    counts = table["primary_label"].map(table["primary_label"].value_counts())
    rare = (counts < (n_folds if below is None else below)).to_numpy()
    kind = StratifiedGroup if grouped else Stratified
    spec = kind(n=n_folds, seed=1, rare="train", rare_below=below)
    frequent = table[~rare]
    try:
        wanted = assign_folds(frequent, spec.kind, n_folds, 1)
    except DataError:
        with pytest.raises(DataError):
            build_folds(table, spec)
        return
    folds = build_folds(table, spec)
    assert (folds[rare] == -1).all()
    pd.testing.assert_series_equal(folds[~rare], wanted, check_names=False)


def test_rare_species_of_the_2023_table_are_always_trained_on(
    birdclef2023: pd.DataFrame,
) -> None:
    folds = build_folds(birdclef2023, Stratified(rare="train"))
    species = birdclef2023["primary_label"]
    rare = species[folds == -1]
    assert rare.nunique() == 17, "17 species have fewer than 5 recordings"
    assert all(set(species[folds != fold]) == set(species) for fold in range(5))
    assert not set(rare) & set(species[folds >= 0])
    assert all(species[folds == fold].nunique() == 264 - 17 for fold in range(5))


def test_folds_may_come_from_a_column() -> None:
    table = table_of([("a", "")] * 6).assign(part=["0", "1.0", "", " 2", "-1", "0"])
    folds = build_folds(table, Predefined(column="part", n=3))
    assert folds.dtype == np.int64
    assert folds.tolist() == [0, 1, -1, 2, -1, 0]
    assert folds.index.equals(table.index)


@pytest.mark.parametrize(
    ("values", "n", "said"),
    [
        (["0", "1", "x", "3"], 2, "2 recordings have no fold"),
        (["0", "1", "0.5", "1"], 2, "'0.5'"),
        (["0", "1", "nan", "1"], 2, "'nan'"),
        (["0", "2", "0", "2"], 3, "no recording is in fold 1"),
        (["", "", "", ""], 2, "no recording has a fold in the column 'fold'"),
    ],
)
def test_a_column_without_folds_is_refused(values: list[str], n: int, said: str) -> None:
    table = table_of([("a", "")] * 4).assign(fold=values)
    with pytest.raises(DataError) as caught:
        build_folds(table, Predefined(n=n))
    assert said in str(caught.value)


def test_a_column_that_is_not_there_is_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match="no column 'folds'") as caught:
        build_folds(table_of([("a", "")] * 4).assign(fold="0"), Predefined(column="folds", n=1))
    assert "did you mean 'fold'" in str(caught.value)


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
        ([("a", "x"), ("b", "y"), ("c", "z")], "stratified", 2, "every species has fewer"),
        ([("a", "x"), ("b", "y"), ("c", "z")], "stratified_group", 2, "every species has fewer"),
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


def test_rare_below_is_used_or_refused() -> None:
    table = pd.DataFrame(
        {"recording": list("abcd"), "dataset": "x", "primary_label": ["a", "a", "b", "b"]}
    ).assign(author="", duration_s=1.0)
    with pytest.raises(ValueError, match="does nothing with rare: leave"):
        Stratified(n=2, rare_below=3)
    with pytest.raises(DataError, match="fewer than 9 recordings"):
        build_folds(table, Stratified(n=2, rare="train", rare_below=9))
