"""The tables of an experiment: base with folds, extras, stages, and where their rows come from."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import TINY_SPEC, MakeLab
from hypothesis import given, settings
from hypothesis import strategies as st

from birdlab.cli.common import report_artifacts
from birdlab.cli.plans import describe_plan, waterfall_table
from birdlab.data.catalog import COLUMNS, Dataset
from birdlab.data.classes import ClassList
from birdlab.data.clean import MAIN_TABLE, NEEDS_BUILD
from birdlab.data.facts import Facts
from birdlab.data.store import WaveStore
from birdlab.data.table import NO_CLASS, ROW_COLUMNS, DataTable, NoiseKey, build_table
from birdlab.errors import AudioError, DataError, SpecError
from birdlab.lab import Lab, open_lab
from birdlab.plan import Plan, plan_experiment
from birdlab.run import build_store, run_experiment
from birdlab.spec import load_spec
from birdlab.spec.data import DataSpec
from birdlab.spec.experiment import build_spec
from birdlab.spec.yamlfile import parse_yaml

NAN = float("nan")
NOWHERE = Path("nowhere")
TWO_STAGES = TINY_SPEC + (
    "stages:\n  - pretrain: {data: abroad}\n  - tune: {start: pretrain, transfer: backbone}\n"
)

Row = tuple[str, str, str]


def dataset(rows: list[Row], name: str, codes: str | None = None, **columns: Any) -> Dataset:
    labels = [row[0] for row in rows]
    given = {
        "recording": [f"{label}/{n}.ogg" for n, label in enumerate(labels)],
        "dataset": name,
        "primary_label": labels,
        "author": [row[1] for row in rows],
        "xc_id": [row[2] for row in rows],
    }
    numbers = dict.fromkeys(["rating", "latitude", "longitude", "duration_s"], NAN)
    table = pd.DataFrame({**dict.fromkeys(COLUMNS, ""), **numbers, **given, **columns})
    table["secondary_labels"] = pd.Series([()] * len(rows), dtype=object)
    classes = None if codes is None else ClassList(tuple(codes))
    return Dataset(name, NOWHERE, table, classes)


def build(
    base: Dataset,
    extras: list[Dataset],
    *rules: Any,
    stages: list[Dataset] | None = None,
    folds: Any = None,
    lab_root: Path = NOWHERE,
) -> DataTable:
    folds = folds or {"kind": "stratified", "n": 2}
    spec = DataSpec.model_validate({"base": "base", "clean": list(rules), "folds": folds})
    facts = Facts(WaveStore(lab_root), lab_root / "hashes.sqlite", build=False)
    return build_table(base, extras, spec, lab_root, facts, stages=stages or [])


def lines(table: DataTable) -> list[tuple[Any, ...]]:
    return [tuple(line) for line in table.waterfall.itertuples(index=False)]


def dropped(table: DataTable) -> list[tuple[Any, ...]]:
    return [tuple(line) for line in table.dropped.itertuples(index=False)]


def test_extras_join_every_training_fold_and_strangers_are_traced() -> None:
    base = dataset(
        [("a", "x", "1"), ("b", "y", "2"), ("a", "", "3"), ("b", "", "4")], "base", "cba"
    )
    extra = dataset([("a", "z", "1"), ("a", "z", "9"), ("q", "z", "8")], "extra")
    table = build(base, [extra], {"dedupe": "recording_id"})
    rows = table.rows
    assert table.classes.codes == ("c", "b", "a")
    assert rows["role"].tolist() == ["base"] * 4 + ["extra"]
    assert rows["xc_id"].tolist() == ["1", "2", "3", "4", "9"]
    assert rows.index.tolist() == list(range(5))
    assert sorted(rows["fold"][:4]) == [0, 0, 1, 1]
    assert rows["fold"][4] == -1
    assert lines(table) == [
        (MAIN_TABLE, "base base", 0, 4, 0, 2, ""),
        (MAIN_TABLE, "extra extra", 4, 7, 2, 3, ""),
        (MAIN_TABLE, NO_CLASS, 7, 6, 3, 2, ""),
        (MAIN_TABLE, "dedupe", 6, 5, 2, 2, ""),
    ]
    assert dropped(table) == [
        (MAIN_TABLE, "extra", "q/2.ogg", NO_CLASS),
        (MAIN_TABLE, "extra", "a/0.ogg", "dedupe"),
    ]
    assert set(rows.columns) == {*COLUMNS, *ROW_COLUMNS}
    kinds = {name: str(rows[name].dtype) for name in ROW_COLUMNS[1:]}
    assert kinds == {
        "fold": "int64",
        "start_s": "float64",
        "end_s": "float64",
        "copies": "int64",
        "apart": "bool",
    }
    assert rows[["start_s", "end_s"]].isna().all(axis=None)
    assert (rows["copies"] == 1).all() and not rows["apart"].any()


def test_further_columns_of_one_table_are_empty_text_in_the_other() -> None:
    base = dataset([("a", "", "")] * 4, "base", site=["p", "q", "p", "q"])
    extra = dataset([("a", "", "")], "extra", remark="late")
    rows = build(base, [extra]).rows
    assert rows["site"].tolist() == ["p", "q", "p", "q", ""]
    assert rows["remark"].tolist() == ["", "", "", "", "late"]
    assert build(base, [extra], {"dedupe": "site"}).rows["site"].tolist() == ["p", "q", ""]


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
    table = build(base, [extra], {"exclude": "bad.csv"}, lab_root=tmp_path)
    assert table.classes.codes == ("a",)
    assert set(table.rows["primary_label"]) == {"a"}
    assert lines(table)[-1] == (MAIN_TABLE, "species no longer scored", 3, 2, 2, 1, "")


@pytest.mark.parametrize("role", ["base", "pretrain"])
def test_labels_outside_the_class_list_are_all_named(role: str) -> None:
    wrong = dataset([("a", "", ""), ("p", "", ""), ("q", "", "")], role, "ab")
    good = dataset([("a", "", "")] * 2, "base")
    with pytest.raises(DataError) as caught:
        build(wrong, []) if role == "base" else build(good, [], stages=[wrong])
    assert "'p', 'q'" in str(caught.value)


def test_a_data_set_is_used_once() -> None:
    base = dataset([("a", "", "")] * 2, "base")
    with pytest.raises(DataError, match="used twice"):
        build(base, [base])


def test_refused_files_are_traced() -> None:
    base = dataset([("a", "", "")] * 2, "base")
    refused = Dataset("base", NOWHERE, base.recordings, refused={"out.ogg": "a link"})
    assert dropped(build(refused, [])) == [(MAIN_TABLE, "base", "out.ogg", "refused: a link")]


def test_stage_tables_are_cleaned_by_the_same_rules() -> None:
    base = dataset([("a", "x", "1"), ("b", "y", "2"), ("a", "z", "3"), ("b", "z", "4")], "base")
    years = dataset(
        [("a", "x", "9"), ("b", "q", "2"), ("q", "u", "5"), ("q", "v", "6"), ("r", "v", "7")],
        "years",
    )
    table = build(
        base,
        [],
        {"ids": {"kind": "dedupe", "against": "base", "tables": ["pretrain"]}},
        {
            "authors": {
                "kind": "dedupe",
                "by": ["author", "species"],
                "against": "base",
                "tables": ["pretrain"],
            }
        },
        {"min_recordings": {"n": 2, "tables": ["years"]}},
        stages=[years],
    )
    left = table.stages["years"]
    assert left["recording"].tolist() == ["q/2.ogg", "q/3.ogg"]
    assert left.index.tolist() == [0, 1]
    assert set(left["role"]) == {"pretrain"} and set(left["fold"]) == {-1}
    assert list(left.columns) == list(table.rows.columns)
    # r is gone for good; the scored species keep their columns, so that the head can go on.
    assert table.stage_classes["years"].codes == ("a", "b", "q")
    assert [line for line in lines(table) if line[0] == "years"] == [
        ("years", "pretrain years", 0, 5, 0, 4, ""),
        ("years", "ids", 5, 4, 4, 3, ""),
        ("years", "authors", 4, 3, 3, 2, ""),
        ("years", "min_recordings", 3, 2, 2, 1, ""),
    ]
    assert [line[2:] for line in dropped(table)] == [
        ("b/1.ogg", "ids"),
        ("a/0.ogg", "authors"),
        ("r/4.ogg", "min_recordings"),
    ]
    assert len(table.rows) == 4


def test_dedupe_against_the_base_sees_the_base_rows_that_are_left(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("filename,dataset\na/0.ogg,base\n")
    base = dataset([("a", "", "1"), ("a", "", "2"), ("a", "", "3")], "base")
    years = dataset([("a", "", "1"), ("a", "", "2"), ("a", "", "8")], "years")
    rules = [{"dedupe": {"against": "base", "tables": ["pretrain"]}}, {"exclude": "bad.csv"}]
    before = build(base, [], *rules, stages=[years], lab_root=tmp_path)
    after = build(base, [], *rules[::-1], stages=[years], lab_root=tmp_path)
    assert before.stages["years"]["xc_id"].tolist() == ["8"]
    assert after.stages["years"]["xc_id"].tolist() == ["1", "8"]


@settings(max_examples=20)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "x"]), st.just("")), min_size=4)
)
def test_every_row_that_came_in_is_there_or_traced(rows: list[Row]) -> None:
    base = dataset([*rows, ("a", "", ""), ("a", "", "")], "base")
    extra = dataset([*rows, ("z", "", "")], "extra")
    years = dataset([*rows, ("z", "", "")], "years")
    rules = ({"dedupe": ["author", "species"]}, {"min_recordings": {"n": 2, "tables": ["base"]}})
    table = build(base, [extra], *rules, stages=[years])
    for name, left, sources in (
        (MAIN_TABLE, table.rows, [base, extra]),
        ("years", table.stages["years"], [years]),
    ):
        came = pd.concat([d.recordings[["dataset", "recording"]] for d in sources])
        gone = table.dropped[table.dropped["table"] == name]
        both = pd.concat([left[["dataset", "recording"]], gone[["dataset", "recording"]]])
        pairs = [sorted(t.itertuples(index=False, name=None)) for t in (came, both)]
        assert pairs[0] == pairs[1]


def test_long_recordings_of_a_rare_species_are_halved(tmp_path: Path) -> None:
    seconds = [30.0, 30.0, 30.0, 30.0, 12.0, 9.0, NAN, 20.0]
    labels = ["a", "a", "a", "a", "long", "short", "unknown", "taught"]
    base = dataset([(label, "", "") for label in labels], "base", duration_s=seconds)
    extra = dataset([("taught", "", "")], "extra")
    table = build(base, [extra], folds={"n": 2, "rare": "halves"}, lab_root=tmp_path)
    whole = build(base, [extra], folds={"n": 2})
    rows = table.rows
    halves = rows[rows["apart"]]
    assert halves["primary_label"].tolist() == ["long", "long"]
    assert halves[["start_s", "end_s"]].fillna(-1).to_numpy().tolist() == [[-1, 6], [6, -1]]
    assert set(halves["fold"]) == {0, 1}
    rest = rows[~rows["apart"]].set_index("recording")["fold"]
    expected = whole.rows.set_index("recording")["fold"].drop("long/4.ogg")
    pd.testing.assert_series_equal(rest, expected)
    assert rows.index.tolist() == list(range(len(base.recordings) + 2))
    assert lines(table)[-1] == (MAIN_TABLE, "rare species in halves", 9, 10, 5, 5, "")
    grouped = {"kind": "stratified_group", "n": 2, "rare": "halves"}
    again = build(base, [extra], folds=grouped, lab_root=tmp_path)
    assert sorted(again.rows.loc[again.rows["apart"], "fold"]) == [0, 1]


def test_all_rows_of_a_recording_share_a_fold(tmp_path: Path) -> None:
    ranges = [f"a/{n}.ogg,{start},{start + 1}" for n in range(8) for start in (0, 2, 4)]
    (tmp_path / "keep.csv").write_text("\n".join(["filename,start_s,end_s", *ranges]) + "\n")
    base = dataset([("a", "", "")] * 8 + [("b", "", "")] * 4, "base", duration_s=30.0)
    for folds in ({"n": 4}, {"n": 4, "rare": "halves", "rare_below": 9}):
        rows = build(base, [], {"keep_ranges": "keep.csv"}, folds=folds, lab_root=tmp_path).rows
        of_a = rows[rows["primary_label"] == "a"]
        assert len(of_a) == 24
        assert (of_a.groupby("recording")["fold"].nunique() == 1).all()
        assert not of_a["apart"].any()
        plain = build(base, [], folds={"n": 4}).rows.set_index("recording")["fold"]
        assert of_a["fold"].tolist() == plain[of_a["recording"]].tolist()


def test_noise_is_named_by_its_key_and_its_range() -> None:
    assert NoiseKey("k", NAN, NAN).content == "k"
    assert NoiseKey(None, NAN, NAN).content is None
    assert NoiseKey("k", NAN, 2.0).content == ["k", None, 2.0]


def test_the_waterfall_in_words() -> None:
    base = dataset([("a", "", "1"), ("a", "", "1"), ("a", "", "2")], "base")
    stage = dataset([("z", "", "")], "y")
    table = build(base, [], {"dedupe": "recording_id"}, stages=[stage])
    text = waterfall_table(table.waterfall)
    assert [line.split() for line in text] == [
        ["waterfall", "rule", "rows", "species"],
        [MAIN_TABLE, "base", "base", "0", "->", "3", "0", "->", "1"],
        ["dedupe", "3", "->", "2", "1", "->", "1"],
        ["y", "pretrain", "y", "0", "->", "1", "0", "->", "1"],
        ["dedupe", "1", "->", "1", "1", "->", "1"],
    ]


def plan(lab: Lab, changes: dict[str, Any], text: str = TINY_SPEC, strict: bool = True) -> Plan:
    return plan_experiment(build_spec(parse_yaml(text, "x.yaml"), changes), lab, strict=strict)


def test_a_dry_run_decodes_nothing_and_a_run_decodes_what_rules_need(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    changes = {"data.clean": [{"dedupe": "content"}]}
    dry = plan(lab, changes, strict=False)
    assert dry.data.waterfall["note"].tolist() == ["", NEEDS_BUILD]
    assert NEEDS_BUILD in describe_plan(dry, lab)
    assert not list(lab.waves.glob("*.npy"))
    real = plan(lab, changes)
    assert real.data.waterfall["note"].tolist() == ["", ""]
    assert not WaveStore(lab.waves, real.sample_rate_hz).missing(
        [key for key in real.rows.keys if key is not None]
    )
    again = plan(lab, changes, strict=False)
    assert again.spec_id == real.spec_id
    assert again.data.waterfall["note"].tolist() == ["", ""]


def test_a_rule_for_an_unknown_table_is_refused_and_one_for_an_idle_one_is_not(
    make_lab: MakeLab,
) -> None:
    lab = make_lab(decoded=False)
    rule = {"kind": "min_recordings", "n": 2}
    idle = plan(lab, {"data.clean": [{"few": {**rule, "tables": ["abroad", "pretrain"]}}]})
    assert len(idle.data.waterfall) == 1
    with pytest.raises(SpecError, match="pretran") as caught:
        plan(lab, {"data.clean": [{"few": {**rule, "tables": ["pretran"]}}]})
    assert "did you mean 'pretrain'" in str(caught.value)


def test_cells_of_a_cleaned_stage_see_its_rows_and_classes(make_lab: MakeLab) -> None:
    lab = make_lab(decoded=False)
    whole = plan(lab, {}, TWO_STAGES)
    labels = whole.data.stages["abroad"]["primary_label"]
    rarest = labels.value_counts().idxmin()
    species = {"kind": "species", "drop": [rarest], "tables": ["pretrain"]}
    cleaned = plan(lab, {"data.clean": [{"few": species}]}, TWO_STAGES)
    before, after = whole.cells[0], cleaned.cells[0]
    assert len(after.chosen) == len(before.chosen) - int((labels == rarest).sum())
    assert set(before.classes) - set(after.classes) == {rarest}
    assert before.cell_id != after.cell_id
    for one, other in zip(whole.cells[1:], cleaned.cells[1:], strict=True):
        assert (one.cell_id != other.cell_id) and np.array_equal(one.chosen, other.chosen)


def test_recordings_that_cannot_be_decoded_are_traced(tmp_path: Path) -> None:
    folder = tmp_path / "d" / "train_audio"
    folder.mkdir(parents=True)
    rows = ["primary_label,filename"]
    for n in range(6):
        noise = np.random.default_rng(n).uniform(-0.5, 0.5, 4000).astype(np.float32)
        soundfile.write(folder / f"{n}.wav", noise, 8000)
        rows.append(f"{'ab'[n % 2]},{n}.wav")
    (folder / "3.wav").write_text("no sound")
    (tmp_path / "d" / "train.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "birdlab.toml").write_text('[data]\ntiny = "d"\n')
    lab = open_lab(tmp_path)
    changes = {"augment": [], "data.on_bad_file": "skip"}
    first = plan(lab, changes)
    assert len(first.rows.table) == 6, "nothing is lost before a build says so"
    audio_rule = changes | {"data.clean": [{"dedupe": "content"}]}
    second = plan(lab, audio_rule)  # decodes what is there
    bad = first.rows.keys[first.rows.table["recording"].tolist().index("3.wav")]
    assert bad in first.rows.keys and bad not in second.rows.keys
    assert second.data.dropped.to_dict("records") == [
        {"table": MAIN_TABLE, "dataset": "tiny", "recording": "3.wav", "rule": "cannot be decoded"}
    ]
    assert second.data.waterfall["rows_after"].tolist() == [6, 6, 5]
    assert build_store(lab, second) is True
    assert plan(lab, changes).rows.keys == second.rows.keys
    with pytest.raises(AudioError, match=r"3\.wav"):
        build_store(lab, plan(lab, audio_rule | {"data.on_bad_file": "fail"}))


def test_a_run_carries_its_waterfall_to_the_tracker(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    spec = load_spec(lab.root / "tiny.yaml", {"data.clean": [{"dedupe": ["recording"]}]})
    result = run_experiment(spec, lab=lab)
    assert result.trained == 0, "a rule that drops nothing trains nothing"
    files = report_artifacts(result)
    lines = pd.read_csv(io.StringIO(files["waterfall.csv"]), keep_default_na=False)
    assert lines["rule"].tolist() == ["base tiny", "dedupe"]
    assert files["dropped.csv"].splitlines() == ["table,dataset,recording,rule"]
