"""Cleaning rules over tables: what each one keeps, the waterfall, and the trace of what went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from birdlab.data.catalog import COLUMNS
from birdlab.data.clean import MAIN_TABLE, NEEDS_BUILD, CleanContext, Waterfall, apply_rules
from birdlab.data.facts import Facts, NeedsBuild
from birdlab.data.store import WaveStore
from birdlab.errors import DataError
from birdlab.spec.data import DataSpec
from birdlab.spreadsheets import csv_text

ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["", "x", "y"]), st.sampled_from(["", "1"])),
    min_size=1,
    max_size=20,
)
RATE_HZ = 8_000

Row = tuple[str, str, str]


def frame(rows: list[Row], dataset: str = "base", role: str = "base", **columns: Any) -> Any:
    """A table as rules see it: recordings a/0.ogg, b/1.ogg, ... with a label, author and id."""
    labels = [row[0] for row in rows]
    given = {
        "recording": [f"{label}/{n}.ogg" for n, label in enumerate(labels)],
        "dataset": dataset,
        "primary_label": labels,
        "author": [row[1] for row in rows],
        "xc_id": [row[2] for row in rows],
        "role": role,
        "start_s": np.nan,
        "end_s": np.nan,
        "copies": np.int64(1),
        "apart": False,
    }
    numbers = dict.fromkeys(["rating", "latitude", "longitude", "duration_s"], np.nan)
    table = pd.DataFrame({**dict.fromkeys(COLUMNS, ""), **numbers, **given, **columns})
    return table.assign(secondary_labels=pd.Series([()] * len(rows), dtype=object))


def facts_at(folder: Path, *, build: bool = False) -> Facts:
    return Facts(WaveStore(folder / "store", RATE_HZ), folder / "hashes.sqlite", build=build)


def rules_of(*rules: Any) -> Any:
    return DataSpec.model_validate({"base": "base", "clean": list(rules)}).clean


def apply(
    tables: dict[str, pd.DataFrame],
    *rules: Any,
    lab_root: Path = Path("nowhere"),
    facts: Facts | None = None,
    lenient: bool = False,
) -> tuple[dict[str, pd.DataFrame], Waterfall]:
    waterfall = Waterfall()
    context = CleanContext(
        lab_root, facts or facts_at(lab_root), entered=pd.concat(list(tables.values()))
    )
    return apply_rules(tables, rules_of(*rules), context, waterfall, lenient=lenient), waterfall


def clean(table: pd.DataFrame, *rules: Any, **more: Any) -> pd.DataFrame:
    return apply({MAIN_TABLE: table}, *rules, **more)[0][MAIN_TABLE]


def two_tables() -> pd.DataFrame:
    """Two base rows, then the same two and another one as an extra table."""
    rows = [("a", "x", "1"), ("b", "y", "2")]
    extra = frame([*rows, ("a", "z", "3")], "more", "extra")
    return pd.concat([frame(rows), extra], ignore_index=True)


@given(
    ROWS, st.lists(st.sampled_from(["primary_label", "author", "xc_id"]), min_size=1, unique=True)
)
def test_dedupe_keeps_the_first_and_every_row_with_an_empty_key(
    rows: list[Row], by: list[str]
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


@settings(max_examples=30)
@given(ROWS, ROWS)
def test_dedupe_against_the_base_never_takes_a_base_row(base: list[Row], more: list[Row]) -> None:
    table = pd.concat([frame(base), frame(more, "more", "extra")], ignore_index=True)
    stage = frame([*more, ("d", "z", "")], "years", "pretrain")
    rule = {"dedupe": {"by": ["author", "species"], "against": "base"}}
    left, _ = apply({MAIN_TABLE: table, "years": stage}, rule)
    known = {(author, label) for label, author, _ in base if author}
    wanted = [n for n, (label, author, _) in enumerate(more) if (author, label) not in known]
    kept = left[MAIN_TABLE]
    assert kept[kept["role"] == "base"].index.tolist() == list(range(len(base)))
    assert kept[kept["role"] == "extra"].index.tolist() == [len(base) + n for n in wanted]
    assert left["years"].index.tolist() == [*wanted, len(more)]


def test_unknown_numbers_are_empty_keys(tmp_path: Path) -> None:
    table = frame([("a", "x", "1")] * 4, duration_s=[1.0, np.nan, np.nan, 1.0])
    kept = clean(table, {"dedupe": ["author", "species", "duration"]}, lab_root=tmp_path)
    assert kept.index.tolist() == [0, 1, 2]


def test_an_unknown_column_is_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match="authr") as caught:
        clean(frame([("a", "x", "1")]), {"dedupe": ["authr"]})
    assert "did you mean 'author'" in str(caught.value)


@given(ROWS, st.integers(1, 4))
def test_min_recordings_keeps_frequent_species(rows: list[Row], n: int) -> None:
    labels = [row[0] for row in rows]
    wanted = [index for index, label in enumerate(labels) if labels.count(label) >= n]
    if wanted:
        assert clean(frame(rows), {"min_recordings": n}).index.tolist() == wanted
    else:
        with pytest.raises(DataError, match="leaves no recording"):
            clean(frame(rows), {"min_recordings": n})


@settings(max_examples=30)
@given(ROWS, st.integers(1, 4), st.randoms())
def test_a_cap_does_not_depend_on_the_order_or_on_other_species(
    rows: list[Row], n: int, random: Any
) -> None:
    table = frame(rows)
    kept = set(clean(table, {"cap": n})["recording"])
    counts = table["primary_label"].value_counts()
    left = table[table["recording"].isin(kept)]["primary_label"].value_counts()
    assert left.to_dict() == counts.clip(upper=n).to_dict()
    order = list(range(len(table)))
    random.shuffle(order)
    assert set(clean(table.iloc[order].reset_index(drop=True), {"cap": n})["recording"]) == kept
    alone = table[table["primary_label"] == table["primary_label"][0]]
    assert set(clean(alone, {"cap": n})["recording"]) <= kept
    larger = set(clean(table, {"cap": n + 1})["recording"])
    assert kept <= larger, "a larger cap adds recordings"


def test_the_seed_decides_what_a_cap_keeps() -> None:
    table = frame([("a", "", "")] * 40)
    kept = [set(clean(table, {"cap": {"n": 5, "seed": seed}})["recording"]) for seed in (0, 1)]
    assert kept[0] != kept[1]


@settings(max_examples=30)
@given(ROWS, st.integers(1, 9))
def test_upsampling_counts_rare_species_often_enough(rows: list[Row], n: int) -> None:
    table = frame(rows)
    kept = clean(table, {"upsample": n})
    assert kept.drop(columns="copies").equals(table.drop(columns="copies"))
    assert kept["copies"].dtype == np.int64
    counts = table["primary_label"].value_counts()
    drawn = kept.groupby("primary_label")["copies"].sum()
    assert drawn.to_dict() == counts.clip(lower=n).to_dict()
    spread = kept.groupby("primary_label")["copies"].agg(["min", "max"])
    assert (spread["max"] - spread["min"] <= 1).all()


def test_the_waterfall_counts_copies() -> None:
    table = frame([("a", "", "")] * 3 + [("b", "", "")])
    _, waterfall = apply({MAIN_TABLE: table}, {"upsample": 5})
    assert waterfall.lines["note"].tolist() == ["6 copies for training"]


def test_ratings_and_licences() -> None:
    table = frame(
        [("a", "", "")] * 5,
        rating=[0.0, np.nan, 2.5, 3.0, 5.0],
        license=["CC BY-NC-SA 4.0", "CC BY 4.0", "", "//cc.org/licenses/by-nc-nd/4.0/", "cc0"],
    )
    assert clean(table, {"rating": 3}).index.tolist() == [0, 1, 3, 4]
    assert clean(table, {"rating": {"min": 3, "unrated": "drop"}}).index.tolist() == [3, 4]
    assert clean(table, {"license": {"deny": ["-NC-"]}}).index.tolist() == [1, 2, 4]
    assert clean(table, {"license": {"allow": ["by", "CC0"]}}).index.tolist() == [0, 1, 3, 4]
    both = {"license": {"allow": ["by"], "deny": ["nd"]}}
    assert clean(table, both).index.tolist() == [0, 1]


def test_species_are_kept_and_dropped_by_name_and_list(tmp_path: Path) -> None:
    table = frame([("a", "", ""), ("b", "", ""), ("c", "", ""), ("0123", "", "")])
    assert clean(table, {"species": {"drop": ["b"]}}).index.tolist() == [0, 2, 3]
    (tmp_path / "keep.csv").write_text("species\n0123\nb\nnot_here\n")
    rule = {"species": {"keep": ["a"], "list": "keep.csv", "drop": ["b"]}}
    assert clean(table, rule, lab_root=tmp_path).index.tolist() == [0, 3]
    with pytest.raises(DataError, match="2 species") as caught:
        clean(table, {"species": {"keep": ["a", "q"], "drop": ["r"]}})
    assert "'q', 'r'" in str(caught.value)


def test_exclude_reads_a_list_of_the_lab(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "bad.csv").write_text("filename,why\na/0.ogg,noise\nzzz.ogg,\n")
    table = pd.concat([frame([("a", "", "")] * 2), frame([("a", "", "")] * 2, "extra", "extra")])
    table = table.reset_index(drop=True)
    kept = clean(table, {"exclude": "lists/bad.csv"}, lab_root=tmp_path)
    assert kept.index.tolist() == [1, 3]
    (tmp_path / "one.csv").write_text("filename,dataset\na/0.ogg,extra\n")
    assert clean(table, {"exclude": "one.csv"}, lab_root=tmp_path).index.tolist() == [0, 1, 3]


def test_a_listed_name_that_matches_nothing_is_noted(tmp_path: Path) -> None:
    table = frame([("a", "", "")] * 2)
    names = [table["recording"][0], "typo.ogg"]
    (tmp_path / "bad.csv").write_text("filename\n" + "\n".join(names) + "\n")
    _, waterfall = apply({MAIN_TABLE: table}, {"exclude": "bad.csv"}, lab_root=tmp_path)
    assert waterfall.lines["note"].tolist() == ["1 listed names match nothing, such as 'typo.ogg'"]


def test_exclude_takes_the_quote_off_names_that_a_spreadsheet_would_run(tmp_path: Path) -> None:
    table = frame([("a", "", "")] * 4)
    table["recording"] = ["=a.ogg", "'b.ogg", "-c.ogg", "d.ogg"]
    (tmp_path / "bad.csv").write_text(
        csv_text(table[["recording"]].head(3)).replace("recording", "filename")
    )
    kept = clean(table, {"exclude": "bad.csv"}, lab_root=tmp_path)
    assert kept["recording"].tolist() == ["d.ogg"]


@pytest.mark.parametrize("kind", ["exclude", "keep_ranges"])
@pytest.mark.parametrize("name", ["../bad.csv", "/bad.csv", "link.csv"])
def test_a_list_may_not_leave_the_lab(tmp_path: Path, name: str, kind: str) -> None:
    lab = tmp_path / "lab"
    lab.mkdir()
    (tmp_path / "bad.csv").write_text("filename\na/0.ogg\n")
    (lab / "link.csv").symlink_to(tmp_path / "bad.csv")
    with pytest.raises(DataError, match="outside the lab"):
        clean(frame([("a", "", "")]), {kind: name}, lab_root=lab)


@pytest.mark.parametrize("content", [None, "", "name\na\n"])
def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(DataError) as caught:
        clean(frame([("a", "", "")]), {"exclude": "bad.csv"}, lab_root=tmp_path)
    assert "bad.csv" in str(caught.value)


def test_kept_ranges_become_rows_of_their_recording(tmp_path: Path) -> None:
    (tmp_path / "keep.csv").write_text(
        "filename,start_s,end_s,dataset\na/0.ogg,12.5,,base\na/0.ogg,,3,base\nb/1.ogg,1,2,\n"
    )
    table = pd.concat(
        [
            frame([("a", "", ""), ("b", "", "")], duration_s=[20.0, np.nan]),
            frame([("a", "", ""), ("c", "", "")], "more", "extra"),
        ],
        ignore_index=True,
    )
    left, waterfall = apply({MAIN_TABLE: table}, {"keep_ranges": "keep.csv"}, lab_root=tmp_path)
    kept = left[MAIN_TABLE]
    found = kept[["dataset", "recording", "start_s", "end_s"]].fillna(-1).to_numpy().tolist()
    assert found == [
        ["base", "a/0.ogg", -1, 3],
        ["base", "a/0.ogg", 12.5, -1],
        ["base", "b/1.ogg", 1, 2],
        ["more", "a/0.ogg", -1, -1],
        ["more", "c/1.ogg", -1, -1],
    ]
    assert kept.index.tolist() == list(range(5))
    assert list(kept.columns) == list(table.columns)
    assert waterfall.lines["rows_after"].tolist() == [5]
    assert waterfall.dropped.empty


def test_ranges_are_taken_within_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "keep.csv").write_text("filename,start_s,end_s\na/0.ogg,0,4\na/0.ogg,6,30\n")
    (tmp_path / "again.csv").write_text("filename,start_s,end_s\na/0.ogg,2,8\nb/1.ogg,0,1\n")
    rules = ({"keep_ranges": "keep.csv"}, {"again": {"kind": "keep_ranges", "list": "again.csv"}})
    table = frame([("a", "", ""), ("b", "", "")], duration_s=[30.0, 1.0])
    kept = clean(table, *rules, lab_root=tmp_path)
    assert kept[["start_s", "end_s"]].fillna(-1).to_numpy().tolist() == [[2, 4], [6, 8], [-1, -1]]
    lengths = clean(table, *rules, {"duration": {"min_s": 1.5}}, lab_root=tmp_path)
    assert lengths["recording"].tolist() == ["a/0.ogg", "a/0.ogg"]


def test_everything_wrong_in_a_list_of_ranges_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "keep.csv").write_text(
        "filename,start_s,end_s\na/0.ogg,one,2\na/0.ogg,5,5\nb/1.ogg,-1,2\nb/1.ogg,1,3\n"
        "zz.ogg,0,1\nyy.ogg,0,1\nc/2.ogg,70,80\n"
    )
    table = frame([("a", "", ""), ("b", "", ""), ("c", "", "")], duration_s=60.0)
    with pytest.raises(DataError) as caught:
        clean(table, {"keep_ranges": "keep.csv"}, lab_root=tmp_path)
    text = str(caught.value)
    for said in (
        "start_s is not a number: 'one'",
        "start_s is not before end_s: 'a/0.ogg' 5..5 s",
        "start_s is negative: 'b/1.ogg' -1..2 s",
        "ranges of one recording overlap: 'b/1.ogg' 1..3 s",
        "'zz.ogg'",
        "'yy.ogg'",
        "range begins after the end of its recording: 'c/2.ogg' 70..80 s",
    ):
        assert said in text


def test_a_list_may_name_recordings_of_any_table(tmp_path: Path) -> None:
    (tmp_path / "keep.csv").write_text("filename,start_s,end_s\na/0.ogg,0,1\nb/1.ogg,1,2\n")
    tables = {
        MAIN_TABLE: frame([("a", "", "")]),
        "years": frame([("c", "", ""), ("b", "", "")], "years", "pretrain"),
    }
    left, _ = apply(tables, {"keep_ranges": "keep.csv"}, lab_root=tmp_path)
    assert left[MAIN_TABLE]["end_s"].tolist() == [1]
    assert left["years"]["end_s"].fillna(-1).tolist() == [-1, 2]
    with pytest.raises(DataError, match="cannot be used") as caught:
        apply(tables, {"keep_ranges": {"list": "keep.csv", "tables": ["base"]}}, lab_root=tmp_path)
    assert "'b/1.ogg'" in str(caught.value)


def test_rows_of_one_recording_are_no_duplicates_of_each_other(tmp_path: Path) -> None:
    (tmp_path / "keep.csv").write_text("filename,start_s,end_s\na/0.ogg,0,1\na/0.ogg,2,3\n")
    table = frame([("a", "x", "1"), ("a", "x", "1"), ("b", "x", "2")])
    rules = ({"keep_ranges": "keep.csv"}, {"dedupe": ["recording_id"]})
    kept = clean(table, *rules, lab_root=tmp_path)
    assert kept["recording"].tolist() == ["a/0.ogg", "a/0.ogg", "b/2.ogg"]
    with pytest.raises(DataError, match="leaves no recording"):
        clean(table, *rules, {"min_recordings": 2}, lab_root=tmp_path)


def test_scopes_and_the_waterfall() -> None:
    tables = {
        MAIN_TABLE: two_tables(),
        "years": frame([("a", "x", "1"), ("q", "x", "4"), ("q", "z", "3")], "years", "pretrain"),
    }
    left, waterfall = apply(
        tables,
        {"again": {"kind": "dedupe", "by": ["author", "species"], "tables": ["extra"]}},
        {"leak": {"kind": "dedupe", "against": "base", "tables": ["years", "more"]}},
        {"many": {"kind": "min_recordings", "n": 2, "tables": ["pretrain"]}},
    )
    assert left[MAIN_TABLE].index.tolist() == [0, 1, 4]
    assert left["years"]["xc_id"].tolist() == ["4", "3"]
    assert [tuple(line) for line in waterfall.lines.itertuples(index=False)] == [
        (MAIN_TABLE, "again", 5, 5, 2, 2, ""),
        (MAIN_TABLE, "leak", 5, 3, 2, 2, ""),
        ("years", "leak", 3, 2, 2, 1, ""),
        ("years", "many", 2, 2, 1, 1, ""),
    ]
    assert [tuple(line) for line in waterfall.dropped.itertuples(index=False)] == [
        (MAIN_TABLE, "more", "a/0.ogg", "leak"),
        (MAIN_TABLE, "more", "b/1.ogg", "leak"),
        ("years", "years", "a/0.ogg", "leak"),
    ]


@settings(max_examples=30)
@given(ROWS, ROWS, st.integers(1, 3))
def test_every_row_is_left_or_traced(base: list[Row], more: list[Row], n: int) -> None:
    table = pd.concat([frame(base), frame(more, "more", "extra")], ignore_index=True)
    rules = ({"dedupe": ["author", "species"]}, {"cap": n}, {"rating": {"min": 1}})
    left, waterfall = apply({MAIN_TABLE: table}, *rules)
    pairs = [
        list(part[["dataset", "recording"]].itertuples(index=False, name=None))
        for part in (left[MAIN_TABLE], waterfall.dropped)
    ]
    everything = list(table[["dataset", "recording"]].itertuples(index=False, name=None))
    assert sorted(pairs[0] + pairs[1]) == sorted(everything)
    lost = waterfall.lines["rows_before"] - waterfall.lines["rows_after"]
    traced = waterfall.dropped["rule"].value_counts()
    assert [int(traced.get(rule, 0)) for rule in waterfall.lines["rule"]] == lost.tolist()


def write_wave(path: Path, wave: Any, sample_rate_hz: int = RATE_HZ) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.asarray(wave, np.float32), sample_rate_hz)


@pytest.fixture
def heard(tmp_path: Path) -> pd.DataFrame:
    """Five recordings: 2 s of noise, its copy as FLAC, 1 s at 4 kHz, none, and text."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE_HZ)
    noise[:RATE_HZ] = 0  # the first second is silent
    names = ["a.wav", "b.flac", "c.wav", "gone.wav", "text.wav"]
    write_wave(tmp_path / names[0], noise)
    write_wave(tmp_path / names[1], soundfile.read(tmp_path / names[0])[0])
    write_wave(tmp_path / names[2], noise[RATE_HZ::2], RATE_HZ // 2)
    (tmp_path / names[4]).write_text("not audio")
    paths = [str(tmp_path / name) for name in names]
    return frame([("a", "", "")] * 5, path=paths)


def test_lengths_come_from_the_table_else_from_headers(heard: pd.DataFrame, tmp_path: Path) -> None:
    facts = facts_at(tmp_path)
    rule = {"duration": {"min_s": 1.5, "max_s": 10}}
    left, waterfall = apply({MAIN_TABLE: heard}, rule, facts=facts)
    assert left[MAIN_TABLE].index.tolist() == [0, 1, 3, 4]
    assert waterfall.lines["note"].tolist() == ["2 of unknown length kept"]
    stated = heard.assign(duration_s=[100.0, 2.0, 2.0, 0.1, 3.0])
    assert clean(stated, rule, facts=facts).index.tolist() == [1, 2, 4]
    exact = clean(heard, {"dedupe": ["species", "duration"]}, facts=facts)
    assert exact.index.tolist() == [0, 2, 3, 4]


def test_slow_recordings_go_by_their_header(heard: pd.DataFrame, tmp_path: Path) -> None:
    left, waterfall = apply({MAIN_TABLE: heard}, {"sample_rate": 6000}, facts=facts_at(tmp_path))
    assert left[MAIN_TABLE].index.tolist() == [0, 1, 3, 4]
    assert waterfall.lines["note"].tolist() == ["2 of unknown sample rate kept"]


def test_equal_audio_is_found_in_another_container(heard: pd.DataFrame, tmp_path: Path) -> None:
    kept = clean(heard, {"dedupe": "content"}, facts=facts_at(tmp_path, build=True))
    assert kept.index.tolist() == [0, 2, 3, 4]
    # What is known by then needs no audio any more.
    assert clean(heard, {"dedupe": "content"}, facts=facts_at(tmp_path)).index.equals(kept.index)


def test_trimming_cuts_silence_off_within_the_range_of_a_row(
    heard: pd.DataFrame, tmp_path: Path
) -> None:
    table = heard.assign(start_s=[np.nan, 1.5, np.nan, np.nan, np.nan])
    table.loc[1, "recording"] = "a/0.ogg"  # another range of the first recording
    table.loc[1, "path"] = table.loc[0, "path"]
    table.loc[2, "end_s"] = 0.25
    rule = {"trim": {"margin_s": 0.1}}
    kept = clean(table, rule, facts=facts_at(tmp_path, build=True))
    assert kept["start_s"].tolist()[:2] == pytest.approx([0.9, 1.5], abs=0.02)
    assert kept.loc[[0, 1], "end_s"].isna().all(), "nothing is cut off there"
    assert np.isnan(kept.loc[2, "start_s"])
    assert kept.loc[2, "end_s"] == 0.25
    assert kept.loc[[3, 4], ["start_s", "end_s"]].isna().all(axis=None)
    quiet = table.assign(end_s=[0.5, *table["end_s"][1:]])
    left = clean(quiet, rule, facts=facts_at(tmp_path))
    assert np.isnan(left.loc[0, "start_s"]) and left.loc[0, "end_s"] == 0.5


def test_audio_that_cannot_be_compared_is_counted(heard: pd.DataFrame, tmp_path: Path) -> None:
    gone = heard.assign(path=[*heard["path"][:4], str(tmp_path / "gone.wav")])
    facts = facts_at(tmp_path, build=True)
    left, waterfall = apply({MAIN_TABLE: gone}, {"dedupe": "content"}, facts=facts)
    assert left[MAIN_TABLE].index.tolist() == [0, 2, 3, 4]
    assert waterfall.lines["note"].tolist() == ["2 that cannot be read kept"]


@pytest.mark.parametrize("rule", [{"dedupe": "content"}, {"near_duplicates": 3}, {"trim": 40}])
def test_rules_that_need_audio_wait_for_it_only_in_a_dry_run(
    heard: pd.DataFrame, tmp_path: Path, rule: Any
) -> None:
    facts = facts_at(tmp_path)
    with pytest.raises(NeedsBuild):
        clean(heard, rule, facts=facts)
    left, waterfall = apply({MAIN_TABLE: heard}, rule, facts=facts, lenient=True)
    pd.testing.assert_frame_equal(left[MAIN_TABLE], heard)
    assert waterfall.lines["note"].tolist() == [NEEDS_BUILD]
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").glob("*.i16"))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"license": {}}, "give allow or deny"),
        ({"species": {}}, "give keep, drop or list"),
        ({"duration": {}}, "give min_s or max_s"),
    ],
)
def test_a_rule_that_does_nothing_is_refused(rule: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        clean(frame([("a", "", "")]), rule)
