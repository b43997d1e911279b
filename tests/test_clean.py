"""Cleaning rules, the waterfall, and the table made of base and extras."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdlab.data.catalog import Dataset, load_dataset
from birdlab.data.classes import ClassList
from birdlab.data.clean import apply_rules
from birdlab.data.table import DataTable, build_table
from birdlab.errors import DataError
from birdlab.spec.data import DataSpec

TABLE = Path(__file__).parents[2] / "shared" / "data" / "birdclef2023_train_metadata.csv"
ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["", "x", "y"]), st.sampled_from(["", "1"])),
    min_size=1,
    max_size=20,
)


def frame(rows: list[tuple[str, str, str]], dataset: str = "base") -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["primary_label", "author", "xc_id"], dtype=str)
    names = [f"{label}/{n}.ogg" for n, label in enumerate(table["primary_label"])]
    return table.assign(dataset=dataset, recording=names)


def dataset(rows: list[tuple[str, str, str]], name: str, codes: str | None = None) -> Dataset:
    classes = None if codes is None else ClassList(tuple(codes))
    return Dataset(name, Path("/"), frame(rows, name), classes, pd.DataFrame(), pd.DataFrame())


def spec_of(*rules: Any, **fields: Any) -> DataSpec:
    return DataSpec.model_validate({"base": "base", "clean": list(rules), **fields})


def clean(table: pd.DataFrame, *rules: Any, lab_root: Path = Path()) -> pd.DataFrame:
    return apply_rules(table, spec_of(*rules).clean, lab_root).table


@given(
    ROWS, st.lists(st.sampled_from(["primary_label", "author", "xc_id"]), min_size=1, unique=True)
)
def test_dedupe_keeps_the_first_and_every_row_with_an_empty_key(
    rows: list[tuple[str, str, str]], by: list[str]
) -> None:
    table = frame(rows)
    seen, wanted = set(), []
    for index, row in table.iterrows():
        key = tuple(row[column] for column in by)
        if "" in key or key not in seen:
            wanted.append(index)
        seen.add(key)
    kept = clean(table, {"dedupe": by})
    assert kept.index.tolist() == wanted
    aliases = [{"xc_id": "recording_id", "primary_label": "species"}.get(c, c) for c in by]
    pd.testing.assert_frame_equal(clean(table, {"dedupe": aliases}), kept)


def test_unknown_numbers_are_empty_keys() -> None:
    table = frame([("a", "x", "1")] * 3).assign(duration_s=[1.0, float("nan"), float("nan")])
    assert len(clean(table, {"dedupe": ["author", "duration_s"]})) == 3


def test_an_unknown_column_is_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match="authr") as caught:
        clean(frame([("a", "x", "1")]), {"dedupe": ["authr"]})
    assert "did you mean 'author'" in str(caught.value)


@given(ROWS, st.integers(1, 4))
def test_min_recordings_keeps_frequent_species(rows: list[tuple[str, str, str]], n: int) -> None:
    labels = [row[0] for row in rows]
    wanted = [index for index, label in enumerate(labels) if labels.count(label) >= n]
    if wanted:
        assert clean(frame(rows), {"min_recordings": n}).index.tolist() == wanted
    else:
        with pytest.raises(DataError, match="leaves no recording"):
            clean(frame(rows), {"min_recordings": n})


def test_exclude_reads_a_list_of_the_lab(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "bad.csv").write_text("filename,why\na/0.ogg,noise\nzzz.ogg,\n")
    table = pd.concat([frame([("a", "", "")] * 2), frame([("a", "", "")] * 2, "extra")])
    table = table.reset_index(drop=True)
    kept = clean(table, {"exclude": "lists/bad.csv"}, lab_root=tmp_path)
    assert kept.index.tolist() == [1, 3]
    (tmp_path / "one.csv").write_text("filename,dataset\na/0.ogg,extra\n")
    assert clean(table, {"exclude": "one.csv"}, lab_root=tmp_path).index.tolist() == [0, 1, 3]


@pytest.mark.parametrize("name", ["../bad.csv", "/bad.csv", "link.csv"])
def test_an_exclusion_list_may_not_leave_the_lab(tmp_path: Path, name: str) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    (tmp_path / "bad.csv").write_text("filename\na/0.ogg\n")
    (lab / "link.csv").symlink_to(tmp_path / "bad.csv")
    with pytest.raises(DataError, match="outside the lab"):
        clean(frame([("a", "", "")]), {"exclude": name}, lab_root=lab)


@pytest.mark.parametrize("content", [None, "", "name\na\n"])
def test_an_exclusion_list_that_cannot_be_read_is_refused(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        clean(frame([("a", "", "")]), {"exclude": "bad.csv"}, lab_root=tmp_path)
    assert "bad.csv" in str(caught.value.where)


def build(base: Dataset, extras: list[Dataset], *rules: Any) -> DataTable:
    return build_table(base, extras, spec_of(*rules, folds={"kind": "stratified", "n": 2}), Path())


def lines(table: DataTable) -> list[tuple[Any, ...]]:
    return [tuple(line) for line in table.waterfall.itertuples(index=False)]


def test_extras_join_every_training_fold_and_strangers_show_in_the_waterfall() -> None:
    base = dataset(
        [("a", "x", "1"), ("b", "y", "2"), ("a", "", "3"), ("b", "", "4")], "base", "cba"
    )
    extra = dataset([("a", "z", "1"), ("a", "z", "9"), ("q", "z", "8")], "extra")
    table = build(base, [extra], {"dedupe": "recording_id"})
    assert table.classes.codes == ("c", "b", "a")
    assert table.rows["dataset"].tolist() == ["base"] * 4 + ["extra"]
    assert table.rows["xc_id"].tolist() == ["1", "2", "3", "4", "9"]
    assert table.rows.index.tolist() == list(range(5))
    assert table.rows["fold"].dtype == "int64"
    assert sorted(table.rows["fold"][:4]) == [0, 0, 1, 1]
    assert table.rows["fold"][4] == -1
    assert lines(table) == [
        ("base base", 0, 4, 0, 2),
        ("extra extra", 4, 7, 2, 3),
        ("extra: labels that are no class", 7, 6, 3, 2),
        ("dedupe", 6, 5, 2, 2),
    ]


def test_a_species_that_cleaning_takes_from_the_base_loses_its_column() -> None:
    base = dataset([("a", "", "")] * 3 + [("b", "", "")] * 2 + [("c", "", "1")], "base", "abcd")
    extra = dataset([("c", "", "1"), ("c", "", "2"), ("a", "", "3")], "extra")
    table = build(base, [], {"min_recordings": 2})
    assert table.classes.codes == ("a", "b")
    assert len(build(base, [], {"min_recordings": 1}).classes) == 4
    wide = build(base, [extra], {"exclude_c": {"kind": "min_recordings", "n": 3}})
    assert wide.classes.codes == ("a", "c")
    assert (wide.rows.loc[wide.rows["dataset"] == "base", "fold"] >= 0).all()


def test_extra_rows_of_a_species_no_longer_scored_go(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("filename,dataset\nc/2.ogg,base\n")
    base = dataset([("a", "", "")] * 2 + [("c", "", "")], "base", "ac")
    extra = dataset([("c", "", "1")], "extra")
    spec = spec_of({"exclude": "bad.csv"}, folds={"kind": "stratified", "n": 2})
    table = build_table(base, [extra], spec, tmp_path)
    assert table.classes.codes == ("a",)
    assert set(table.rows["primary_label"]) == {"a"}
    assert lines(table)[-1] == ("extra: species no longer scored", 3, 2, 2, 1)


def test_labels_outside_the_class_list_are_all_named() -> None:
    with pytest.raises(DataError) as caught:
        build(dataset([("a", "", ""), ("p", "", ""), ("q", "", "")], "base", "ab"), [])
    assert "'p', 'q'" in str(caught.value)


def test_a_data_set_is_used_once() -> None:
    base = dataset([("a", "", "")] * 2, "base")
    with pytest.raises(DataError, match="used twice"):
        build(base, [base])


def test_planning_the_2023_table_is_quick(tmp_path: Path) -> None:
    if not TABLE.is_file():
        pytest.skip("the BirdCLEF 2023 table is not beside the checkout")
    (tmp_path / "train_metadata.csv").symlink_to(TABLE)
    spec = spec_of({"dedupe": "recording_id"}, {"min_recordings": 5})
    started_s = time.process_time()
    base = load_dataset("base", tmp_path)
    table = build_table(base, [], spec, tmp_path)
    assert time.process_time() - started_s < 1.5
    assert lines(table) == [
        ("base base", 0, 16941, 0, 264),
        ("dedupe", 16941, 16940, 264, 264),
        ("min_recordings", 16940, 16904, 264, 247),
    ]
    assert len(table.classes) == 247
