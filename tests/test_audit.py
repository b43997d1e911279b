"""The audit against brute force, on the 2023 table, as a page, and from the command line."""

from __future__ import annotations

import csv
import itertools
import math
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeLab
from hypothesis import given, settings
from hypothesis import strategies as st
from overlaps import overlap_share
from test_study_report import HOSTILE, _Page

from birdlab.cli import app as entry
from birdlab.data.audit.audit import Audit, audit_table
from birdlab.data.audit.files import find_files, summarise_lengths
from birdlab.data.audit.overlaps import AUTHOR_SPECIES, CONTENT, RECORDING_ID, TRAINING, find_leaks
from birdlab.data.audit.sentences import percent, percents
from birdlab.data.audit.support import count_classes, find_caps, find_support
from birdlab.data.audit.trace import DROPPED, KEPT, trace_rows
from birdlab.data.classes import ClassList
from birdlab.data.clean import DROPPED as DROPPED_COLUMNS
from birdlab.data.clean import MAIN_TABLE, NEEDS_BUILD, WATERFALL
from birdlab.data.folds import assign_folds
from birdlab.data.sources import load_source
from birdlab.data.table import DataTable
from birdlab.lab import Lab
from birdlab.spec.cleaning import Dedupe, MinRecordings
from birdlab.spec.sources import BirdclefSource
from birdlab.study import audit_figures
from birdlab.study.audit_report import audit_report_html
from birdlab.study.audit_summary import audit_lines
from birdlab.study.report import page_html
from birdlab.words import list_some

TABLE_2023 = Path(__file__).parents[2] / "shared" / "data" / "birdclef2023_train_metadata.csv"

# ---------------------------------------------------------------- tables made by hand

Line = tuple[str, str, str, int, str]
"""author, species, Xeno-canto id, fold, content."""
LINES = st.lists(
    st.tuples(
        st.sampled_from(["", "Ann", "ann", "Bo"]),
        st.sampled_from("abc"),
        st.sampled_from(["", "1", "2", "3"]),
        st.integers(-1, 2),
        st.sampled_from(["", "x", "y", "z"]),
    ),
    max_size=14,
)


def rows_of(lines: list[Line], role: str = "base", dataset: str = "woods") -> pd.DataFrame:
    names = ["author", "primary_label", "xc_id", "fold", "content"]
    rows = pd.DataFrame(lines, columns=names).astype({"fold": "int64"})
    number = pd.Series(range(len(rows)), dtype=str)
    if role != "base":
        rows["fold"] = -1
    return rows.assign(
        recording=number,
        dataset=dataset,
        role=role,
        path="/" + dataset + "/" + number,
        secondary_labels=pd.Series([()] * len(rows), dtype=object),
        license="",
        duration_s=np.nan,
        start_s=np.nan,
        end_s=np.nan,
        copies=1,
        apart=False,
    )


def table_of(
    rows: pd.DataFrame,
    stages: dict[str, pd.DataFrame] | None = None,
    classes: tuple[str, ...] = (),
    dropped: list[tuple[str, str, str, str]] | None = None,
    waterfall: list[tuple[object, ...]] | None = None,
) -> DataTable:
    codes = ClassList(classes or tuple(sorted(set(rows["primary_label"]))))
    return DataTable(
        rows.reset_index(drop=True),
        codes,
        pd.DataFrame(waterfall or [], columns=list(WATERFALL)),
        pd.DataFrame(dropped or [], columns=list(DROPPED_COLUMNS)),
        stages or {},
        dict.fromkeys(stages or {}, codes),
    )


def agree(by: str, one: pd.Series, other: pd.Series) -> bool:
    """Whether two rows agree, said as plainly as possible."""
    if by == AUTHOR_SPECIES:
        return one.author != "" and (one.author, one.primary_label) == (
            other.author,
            other.primary_label,
        )
    if by == RECORDING_ID:
        same_file = (one.dataset, one.recording) == (other.dataset, other.recording)
        return same_file or (one.xc_id != "" and one.xc_id == other.xc_id)
    return one.content != "" and one.content == other.content


# ---------------------------------------------------------------- leaks


@settings(max_examples=25)
@given(base=LINES, extra=LINES, stage=LINES)
def test_overlaps_are_what_comparing_every_pair_of_rows_finds(
    base: list[Line], extra: list[Line], stage: list[Line]
) -> None:
    rows = pd.concat([rows_of(base), rows_of(extra, "extra", "more")], ignore_index=True)
    stages = {"years": rows_of(stage, "pretrain", "years")}
    leaks = find_leaks(rows, stages)
    everything = pd.concat([rows, *stages.values()], ignore_index=True)
    listed = list(everything.itertuples())
    members = {
        TRAINING: ("woods", "more"),
        "woods": ("woods",),
        "more": ("more",),
        "years": ("years",),
    }
    for line in leaks.overlaps.itertuples():
        held = [r for r in listed if r.role == "base" and r.fold == line.fold]
        training = [r for r in listed if r.dataset in members[line.source] and r.fold != line.fold]
        shared = [r for r in held if any(agree(line.by, r, t) for t in training)]
        back = [t for t in training if any(agree(line.by, t, r) for r in held)]
        assert (line.n_validation, line.n_shared, line.n_source) == (
            len(held),
            len(shared),
            len(back),
        )
        assert line.share == pytest.approx(len(shared) / len(held))
        if line.by != AUTHOR_SPECIES and line.source != TRAINING:
            mine = leaks.pairs[
                (leaks.pairs["fold"] == line.fold)
                & (leaks.pairs["by"] == line.by)
                & (leaks.pairs["source"] == line.source)
            ]
            assert sorted(mine["recording"]) == sorted(f"{r.dataset}/{r.recording}" for r in shared)
            by_name = {f"{r.dataset}/{r.recording}": r for r in listed}
            assert all(
                agree(line.by, by_name[p.recording], by_name[p.other]) for p in mine.itertuples()
            )
    folds = {f for f in rows["fold"] if f >= 0}
    n_sources = 4 if len(extra) else 2
    assert len(leaks.overlaps) == 3 * n_sources * len(folds)
    for line in leaks.against_base.itertuples():
        validated = [r for r in listed if r.role == "base" and r.fold >= 0]
        theirs = [r for r in listed if r.dataset == line.source]
        found = sum(any(agree(line.by, t, r) for r in validated) for t in theirs)
        assert (line.n_rows, line.n_shared) == (len(theirs), found)


@settings(max_examples=25)
@given(LINES.filter(lambda lines: any(line[3] >= 0 for line in lines)))
def test_the_share_of_a_base_alone_counted_the_short_way(lines: list[Line]) -> None:
    rows = rows_of(lines)
    overlaps = find_leaks(rows, {}).overlaps
    for line in overlaps[overlaps["by"] == AUTHOR_SPECIES].itertuples():
        assert line.share == pytest.approx(overlap_share(rows, rows["fold"], line.fold))


def test_groups_are_recordists_and_species_in_several_folds() -> None:
    lines = [("Ann", "a", "", 0, ""), ("Ann", "a", "", 1, ""), ("Ann", "b", "", 0, "")]
    groups = find_leaks(rows_of([*lines, ("", "a", "", 0, ""), ("", "a", "", 1, "")]), {}).groups
    assert groups.to_dict("records") == [
        {"author": "Ann", "primary_label": "a", "n_rows": 2, "n_folds": 2}
    ]


def test_halves_are_a_leak_of_their_own_and_no_overlap() -> None:
    rows = rows_of([("Ann", "a", "1", 0, ""), ("Ann", "a", "1", 1, ""), ("Bo", "b", "2", 0, "")])
    rows = rows.assign(
        recording=["0", "0", "2"], apart=[True, True, False], end_s=[9.0, np.nan, np.nan]
    )
    audit = audit_table(table_of(rows))
    assert list(audit.leaks.halves["fold"]) == [0, 1] and audit.leaks.halves["end_s"][0] == 9.0
    assert audit.leaks.overlaps["n_shared"].sum() == 0
    assert list(audit.support.folds["n_apart"]) == [1, 1]
    first = audit.findings.iloc[0]
    assert first["severity"] == "leak" and "one half of a recording" in first["finding"]
    assert audit.has_leaks


def test_equal_files_and_equal_samples_are_both_content() -> None:
    lines = [("", "a", "", fold, "") for fold in (0, 1, 0, 1)]
    rows = rows_of(lines).drop(columns="content")
    assert CONTENT not in set(audit_table(table_of(rows)).leaks.overlaps["by"])
    keys = {"/woods/0": "k", "/woods/1": "k"}
    signals = pd.DataFrame(
        {"content": ["", "s", "s"], "reason": ["bad", "", ""], "peak": 1.0}
        | dict.fromkeys(["clipped_share", "silent_share", "duration_s"], 0.0),
        index=["/woods/1", "/woods/2", "/woods/3"],
    )
    for given_keys, given_signals, shared in ((keys, None, 2), (keys, signals, 4)):
        audit = audit_table(table_of(rows), file_keys=given_keys, signals=given_signals)
        overlaps = audit.leaks.overlaps[audit.leaks.overlaps["by"] == CONTENT]
        assert overlaps["n_shared"].sum() == shared
        assert ("samples" in audit.content) == (given_signals is not None)


# ---------------------------------------------------------------- support


@settings(max_examples=40)
@given(LINES, st.lists(st.booleans(), min_size=14, max_size=14))
def test_support_is_counted_per_class_and_fold(lines: list[Line], apart: list[bool]) -> None:
    rows = rows_of(lines).assign(apart=apart[: len(lines)])
    counts = count_classes(rows, ClassList(("a", "b", "c", "d")))
    folds = sorted({line[3] for line in lines} - {-1})
    assert len(counts) == 4 * len(folds)
    for line in counts.itertuples():
        n_train = sum(s == line.species and f != line.fold for _, s, _, f, _ in lines)
        n_validation = sum(
            s == line.species and f == line.fold and not a
            for (_, s, _, f, _), a in zip(lines, apart, strict=False)
        )
        assert (line.n_train, line.n_validation) == (n_train, n_validation)


@settings(max_examples=40)
@given(LINES.filter(len))
def test_recordists_are_told_without_case_and_counted(lines: list[Line]) -> None:
    support = find_support(rows_of(lines), ClassList(("a", "b", "c")), {})
    known = Counter(line[0].casefold() for line in lines if line[0])
    assert sorted(support.recordists["n_rows"]) == sorted(known.values())
    assert support.unknown_author_share == pytest.approx(1 - known.total() / len(lines))
    for line in support.dominance.itertuples():
        theirs = [author.casefold() for author, species, *_ in lines if species == line.species]
        per = Counter(author for author in theirs if author)
        assert (line.n_rows, line.n_recordists) == (len(theirs), len(per))
        assert line.share == pytest.approx(max(per.values(), default=0) / len(theirs))
        assert line.dominated == (line.share > 0.5 and len(theirs) >= 10)
    spelt = {author for author, *_ in lines if author.casefold() == "ann"}
    assert len(support.spellings) == (len(spelt) == 2)


def labels_of(counts: dict[str, int]) -> list[str]:
    return [code for code, n in counts.items() for _ in range(n)]


def test_round_caps_need_many_species_at_one_number_and_few_beside_it() -> None:
    spread = {f"s{n}": n for n in range(3, 120, 7)}
    cut = {f"cut{i}": 500 for i in range(3)}
    (cap,) = find_caps("t", labels_of(spread | cut)).itertuples()
    assert (cap.n_rows, cap.n_species, cap.largest) == (500, 3, True)
    assert cap.species == ("cut0", "cut1", "cut2") and cap.chance < 1e-3
    beyond = labels_of(spread | cut | {"more": 700})
    assert [c.largest for c in find_caps("t", beyond).itertuples()] == [False], "a multiple of 50"
    for innocent in (
        spread | dict.fromkeys(["x", "y"], 500),
        spread | {f"x{i}": 510 for i in range(4)} | {"more": 700},
        {f"x{i}": 10 for i in range(12)},
        {f"x{n}{i}": n for n in range(45, 57) for i in range(3)} | {"more": 90},
    ):
        assert find_caps("t", labels_of(innocent)).empty
    assert find_caps("t", ["", "", ""]).empty


# ---------------------------------------------------------------- files


def test_files_are_sorted_by_what_is_wrong_with_them() -> None:
    rows = rows_of([("", "a", "", 0, "")] * 6).assign(duration_s=[10, 10, 10, 10.3, 100, np.nan])
    headers = pd.DataFrame(
        {
            "sample_rate_hz": [32000, 32000, 22050, 32000, 0],
            "channels": [1, 1, 2, 1, 0],
            "codec": ["ogg/vorbis", "ogg/vorbis", "mp3", "ogg/vorbis", ""],
            "duration_s": [10.0, 12.0, 9.9, 10.0, np.nan],
            "reason": ["", "", "", "", "the file has zero bytes"],
        },
        index=[f"/woods/{i}" for i in range(5)],
    )
    signals = pd.DataFrame(
        {
            "content": ["x", "y", "z"],
            "duration_s": 10.0,
            "peak": [0.0, 1.0, 0.5],
            "clipped_share": [0.0, 0.002, 0.0],
            "silent_share": [1.0, 0.0, 0.95],
            "reason": "",
        },
        index=[f"/woods/{i}" for i in range(3)],
    )
    files = find_files(rows, {}, headers, signals)
    assert (files.n_files, files.n_headers, files.n_signals) == (6, 5, 3)
    assert list(files.absent["recording"]) == ["5"]
    assert files.bad[["recording", "reason"]].to_numpy().tolist() == [
        ["4", "the file has zero bytes"]
    ]
    assert files.off[["recording", "stated_s", "header_s"]].to_numpy().tolist() == [["1", 10, 12]]
    assert list(files.loudness["verdict"]) == ["all zero", "clipped", "silent"]
    assert files.formats["n_files"].tolist() == [3, 1]
    assert files.lengths["length_s"].tolist()[:5] == [10, 12, 9.9, 10, 100], "the header is right"
    findings = audit_table(table_of(rows), headers=headers, signals=signals).findings
    text = " ".join(findings["finding"])
    for part in (
        "1 file cannot be read: the file has zero bytes (1)",
        "1 of 6 files are not there: woods/5",
        "Nothing but zeros: 1 file (woods/0)",
        "says 10.0 s where the file has 12.0 s (1)",
        "22,050 Hz",
        "not known of 1 file:",
    ):
        assert part in text


def test_without_audio_the_page_says_so_and_the_table_gives_the_lengths() -> None:
    rows = rows_of([("", "a", "", 0, "")] * 3).assign(
        duration_s=[4.0, 61.0, 90.0], start_s=[np.nan, np.nan, 30.0], end_s=[np.nan, np.nan, 50.0]
    )
    audit = audit_table(table_of(rows))
    assert list(audit.files.lengths["length_s"]) == [4.0, 61.0, 20.0]
    assert "No file was looked at." in list(audit.findings["finding"])
    gone = audit_table(table_of(rows), headers=pd.DataFrame())
    assert "The audio is not there: no file was looked at." in list(gone.findings["finding"])


@given(st.lists(st.one_of(st.just(float("nan")), st.floats(0.1, 500)), min_size=1, max_size=30))
def test_length_summary(lengths: list[float]) -> None:
    table = pd.DataFrame({"role": "base", "dataset": "d", "length_s": lengths})
    (line,) = summarise_lengths(table).to_dict("records")
    known = sorted(value for value in lengths if not math.isnan(value))
    assert (line["n_rows"], line["n_unknown"]) == (len(lengths), len(lengths) - len(known))
    assert line["total_h"] == pytest.approx(sum(known) / 3600)
    if known:
        assert line["short_share"] == sum(v < 5 for v in known) / len(known)
        assert line["long_share"] == sum(v > 60 for v in known) / len(known)
        assert (line["q0"], line["q1"]) == (known[0], known[-1])
        assert line["q0.5"] == pytest.approx(float(np.median(known)))


# ---------------------------------------------------------------- words


def test_numbers_in_sentences() -> None:
    assert [percent(x) for x in (0.0, 0.7722, 1.0, 1e-5, float("nan"))] == [
        "0.0 %",
        "77.2 %",
        "100.0 %",
        "< 0.1 %",
        "",
    ]
    assert percents(0.1, 0.2) == "10.0 % to 20.0 %" and percents(1.0, 1.0) == "100.0 %"
    assert list_some("abc") == "a, b, c" and list_some("abcd", most=2) == "a, b and 2 more"


def test_a_file_that_is_skipped_already_needs_no_setting() -> None:
    rows = rows_of([("Ann", "a", "1", 0, ""), ("Bo", "a", "2", 1, "")])
    signals = pd.DataFrame(
        {"content": ["", "s"], "reason": ["bad", ""], "peak": 1.0}
        | dict.fromkeys(["clipped_share", "silent_share", "duration_s"], 0.0),
        index=["/woods/0", "/woods/1"],
    )
    for skips, words in ((False, "or set data"), (True, "until then data")):
        findings = audit_table(table_of(rows), signals=signals, skips_bad=skips).findings
        (fix,) = findings[findings["finding"].str.contains("cannot be read")]["fix"]
        assert f"{words}.on_bad_file: skip" in fix


def test_findings_say_what_to_do_and_come_in_order() -> None:
    lines = [("Ann", "a", "1", 0, "x"), ("Ann", "a", "2", 1, "y"), ("Bo", "b", "3", 0, "z")]
    rows = pd.concat(
        [rows_of(lines), rows_of([("Bo", "b", "3", -1, "z")], "extra", "more")], ignore_index=True
    )
    rows["secondary_labels"] = pd.Series([("zz",), (), (), ()], dtype=object)
    audit = audit_table(table_of(rows, classes=("a", "b", "never")))
    findings = audit.findings
    order = [["leak", "warning", "note"].index(s) for s in findings["severity"]]
    assert order == sorted(order)
    told = list(zip(findings["finding"], findings["fix"], strict=True))
    assert any(
        "1 of 1 rows of the extra table more" in t and "tables: [more]" in f for t, f in told
    )
    assert any("50.0 % of the validation rows of fold 0" in t for t, _ in told)
    assert any(t.startswith("1 class without any recording: never") for t, _ in told)
    assert any("zz (1)" in t and "synonyms" in f for t, f in told)
    grouped = audit_table(table_of(rows_of([("Ann", "a", "", 0, ""), ("Bo", "a", "", 1, "")])))
    assert not grouped.has_leaks
    assert "No validation row shares recordist and species with a training row." in list(
        grouped.findings["finding"]
    )
    none = audit_table(table_of(rows_of([("Ann", "a", "", -1, "")])))
    assert "Nothing is validated: there are no folds." in list(none.findings["finding"])
    assert audit_report_html(none, "all data") and audit_lines(none, "all data")


# ---------------------------------------------------------------- the 2023 table


@pytest.fixture(scope="module")
def audit_2023(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    if not TABLE_2023.is_file():
        pytest.skip("the BirdCLEF 2023 table is not beside the checkout")
    folder = tmp_path_factory.mktemp("birdclef-2023")
    (folder / "train_metadata.csv").symlink_to(TABLE_2023)
    dataset = load_source(BirdclefSource(path="."), "birdclef-2023", folder, folder)
    rows = dataset.recordings.assign(
        role="base",
        fold=assign_folds(dataset.recordings, "stratified", 5, 42),
        start_s=np.nan,
        end_s=np.nan,
        copies=1,
        apart=False,
    )
    return audit_table(table_of(rows), tables={"birdclef-2023": dataset.recordings})


def test_golden_leak_of_the_2023_table(audit_2023: Audit) -> None:
    overlaps = audit_2023.leaks.overlaps
    shares = overlaps.loc[overlaps["by"] == AUTHOR_SPECIES, "share"]
    assert [round(100 * share, 1) for share in shares] == [77.2, 76.2, 76.5, 76.9, 75.8]
    first = audit_2023.findings.iloc[0]
    assert first["severity"] == "leak"
    assert first["finding"].startswith("77.2 % of the validation rows of fold 0 share recordist")
    assert "stratified_group" in first["fix"]
    assert "  77.2 %" in "\n".join(audit_lines(audit_2023, "x"))


def test_golden_support_of_the_2023_table(audit_2023: Audit) -> None:
    support = audit_2023.support
    (cap,) = support.caps.itertuples()
    assert (cap.n_rows, cap.n_species, len(cap.species)) == (500, 5, 5)
    assert any(
        "5 species of birdclef-2023 have exactly 500 rows" in f for f in findings(audit_2023)
    )
    assert list(support.folds["n_validation"]) == [3389, 3388, 3388, 3388, 3388]
    assert list(support.folds["missing_train"]) == [1, 0, 3, 2, 1]
    assert list(support.folds["missing_validation"]) == [9, 11, 10, 10, 9]
    (lengths,) = audit_2023.files.length_summary.to_dict("records")
    assert round(lengths["total_h"], 1) == 192.4 and round(lengths["q0.5"], 1) == 24.6
    assert round(lengths["short_share"] * 16941) == 877


def findings(audit: Audit) -> list[str]:
    return list(audit.findings["finding"])


def test_the_summary_fits_a_terminal(audit_2023: Audit) -> None:
    assert max(map(len, audit_lines(audit_2023, "birdclef-2023"))) <= 100


def test_figures_of_264_species_name_none_on_an_axis(audit_2023: Audit) -> None:
    info = audit_figures.get_support_info(audit_2023.support)
    assert info.n_rows == sorted(info.n_rows, reverse=True) and len(info.species) == 264
    assert Counter(info.states)["as many rows as others, cut?"] == 5
    assert Counter(info.states)["not trained in some fold"] == 7
    figure = audit_figures.plot_support(info)
    drawn = sorted(x for trace in figure.data for x in trace.x)
    assert drawn == list(range(1, 265))
    assert figure.layout.xaxis.ticktext is None and len(figure.layout.yaxis.tickvals) < 12


# ---------------------------------------------------------------- the page


def hostile_audit(name: str) -> Audit:
    lines = [(name, name, "1", 0, "x"), (name, name, "2", 1, "x"), ("Bo", name + "2", "3", 0, "")]
    rows = rows_of(lines * 5, dataset=name)
    rows["recording"] = [f"{name}{i}" for i in range(len(rows))]
    rows["secondary_labels"] = pd.Series([(f"{name}!",)] * len(rows), dtype=object)
    paths = list(rows["path"])
    headers = pd.DataFrame(
        {
            "sample_rate_hz": 32000,
            "channels": 1,
            "codec": name,
            "duration_s": 3.0,
            "reason": ["", name] + [""] * (len(paths) - 2),
        },
        index=paths,
    )
    signals = pd.DataFrame(
        {
            "content": "same",
            "peak": 1.0,
            "clipped_share": 0.5,
            "silent_share": 0.0,
            "reason": "",
        },
        index=paths,
    )
    stage = rows_of(lines, "pretrain", name + "-years")
    data = table_of(
        rows,
        {name + "-years": stage},
        waterfall=[(name, name, 0, 15, 0, 2, name)],
    )
    rows["duration_s"] = 30.0
    return audit_table(data, headers=headers, signals=signals)


def test_the_page_is_self_contained_and_every_name_is_text() -> None:
    pages = {
        name: audit_report_html(hostile_audit(name), name, [name]) for name in (HOSTILE, "plain")
    }
    hostile, plain = _Page(pages[HOSTILE]), _Page(pages["plain"])
    assert hostile.tags == plain.tags, "a name may not add a tag"
    assert "img" not in hostile.tags and HOSTILE in hostile.words
    assert hostile.sources == ["data:,"], "nothing is fetched"
    assert pages["plain"].count('class="plotly-graph-div"') == 6
    assert "nan" not in plain.words.lower().split()


def test_a_long_list_is_cut_and_says_how_long_it_is(audit_2023: Audit) -> None:
    page = audit_report_html(audit_2023, "birdclef-2023")
    assert "The first 200 of 1,0" in page
    assert len(page) < len(page_html("", ["plotly-graph-div"])) + 500_000


# ---------------------------------------------------------------- where a row came from


def test_every_row_is_traced_to_its_rules() -> None:
    rows = pd.concat(
        [
            rows_of([("Ann", "a", "1", 0, ""), ("Bo", "b", "2", 1, "")]),
            rows_of([("Cy", "a", "3", -1, "")], "extra", "more"),
        ],
        ignore_index=True,
    )
    stage = rows_of([("Di", "c", "4", -1, "")], "pretrain", "years")
    entered = {
        "woods": rows_of(
            [("Ann", "a", "1", 0, ""), ("Bo", "b", "2", 1, ""), ("Ed", "a", "5", 0, "")]
        )
    }
    data = table_of(
        rows,
        {"years": stage},
        dropped=[(MAIN_TABLE, "woods", "2", "few"), ("years", "years", "9", "few")],
        waterfall=[("years", "same", 1, 1, 1, 1, NEEDS_BUILD)],
    )
    rules = [
        Dedupe(name="same", by=("content",)),
        MinRecordings(name="few", n=1),
        Dedupe(name="extras", by=("xc_id",), tables=("more",)),
    ]
    trace = trace_rows(data, rules, entered)
    assert len(trace) == 6 and not trace.isna().any(axis=None)
    kept, dropped = trace[trace["status"] == KEPT], trace[trace["status"] == DROPPED]
    assert dict(zip(kept["dataset"] + kept["recording"], kept["passed"], strict=True)) == {
        "woods0": "same > few",
        "woods1": "same > few",
        "more0": "same > few > extras",
        "years0": "few",
    }
    assert list(dropped["dropped_by"]) == ["few", "few"]
    assert list(dropped["role"]) == ["base", "pretrain"]
    assert list(dropped["author"]) == ["Ed", ""], "the table as loaded knows the first"
    assert list(kept["fold"]) == [0, 1, -1, -1]


# ---------------------------------------------------------------- the command line

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    def call(lab: Lab, *args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["birdlab", "-q", "--lab", str(lab.root), "data", *args])
        monkeypatch.chdir(lab.root)
        if not entry.app.registered_commands:
            entry._register()
        monkeypatch.setattr(entry, "_register", lambda: None)
        with pytest.raises(SystemExit) as ended:
            entry.main()
        out = capsys.readouterr()
        return int(ended.value.code or 0), out.out, out.err

    return call


def test_audit_of_a_lab_with_and_without_waveforms(make_lab: MakeLab, cli: Cli) -> None:
    lab = make_lab(decoded=True)
    code, out, err = cli(lab, "audit", "tiny.yaml", "--set", "data.extra=[tiny-again]")
    assert (code, err) == (0, "")
    assert "24 base and 24 extra rows" in out and "extra tiny-again  content" in out
    assert "24 of 24 rows of the extra table tiny-again are equal audio" in out
    assert "not known of" not in out and "reading headers: 24/24" not in out.split("findings")[1]
    page = lab.stores / "audits" / "audit-tiny.html"
    assert f"wrote {page}" in out
    assert _Page(page.read_text()).sources == ["data:,"]

    bare = make_lab(decoded=False)
    code, out, _ = cli(bare, "audit", "tiny.yaml", "-o", "mine.html", "--strict")
    assert code == 1, "recordists of the demo record several birds of a species"
    assert "not in the waveform store" in out and "birdlab data build" in out
    assert (bare.root / "mine.html").is_file()
    assert not list(bare.waves.glob("*.i16")), "nothing was decoded"

    code, out, _ = cli(bare, "audit", "tiny.yaml", "--no-audio")
    assert code == 0 and "No file was looked at." in out and "content: not looked at" in out


def test_bad_and_missing_files_are_listed(make_lab: MakeLab, cli: Cli, tmp_path: Path) -> None:
    lab = make_lab(decoded=False)
    audio = tmp_path / "ill" / "train_audio"
    (audio / "a").mkdir(parents=True)
    (audio / "a" / "text.ogg").write_text("no audio")
    (audio / "a" / "empty.ogg").write_bytes(b"")
    names = ["a/text.ogg", "a/empty.ogg", "a/gone.ogg", "a/lost.ogg"]
    lines = ["primary_label,filename,author", *(f"a,{name},Ann" for name in names)]
    (tmp_path / "ill" / "train_metadata.csv").write_text("\n".join(lines))
    with (lab.root / "birdlab.toml").open("a") as file:
        file.write(f'ill = "{tmp_path / "ill"}"\n')
    code, out, err = cli(lab, "audit", "tiny.yaml", "--set", "data.base=ill")
    assert (code, err) == (0, "")
    assert "2 files cannot be read" in out and "zero bytes" in out
    assert "2 of 4 files are not there: ill/a/gone.ogg, ill/a/lost.ogg" in " ".join(out.split())


def test_table_writes_each_row_with_its_rule(make_lab: MakeLab, cli: Cli) -> None:
    lab = make_lab(decoded=False)
    code, out, err = cli(
        lab,
        "table",
        "tiny.yaml",
        "-o",
        "rows.csv",
        "--set",
        "data.clean=[{min_recordings: 4}]",
    )
    assert (code, err) == (0, "")
    with (lab.root / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    kept = [row for row in rows if row["status"] == KEPT]
    counts = Counter(row["primary_label"] for row in rows)
    assert {row["primary_label"] for row in kept} == {s for s, n in counts.items() if n >= 4}
    assert f"{len(kept)} rows kept, {24 - len(kept)} dropped" in out and len(kept) < 24
    for row in rows:
        if row["status"] == KEPT:
            assert row["fold"] in ("0", "1") and row["passed"] == "min_recordings"
        else:
            assert row["dropped_by"] == "min_recordings" and row["fold"] == ""
    for one, other in itertools.pairwise(row["status"] for row in rows):
        assert (one, other) != (DROPPED, KEPT), "dropped rows stand last"
