"""Sources: tables of any columns, downloads, background noise."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from layouts import (
    clip,
    load,
    touch,
    write_csv,
)

from birdlab.data.catalog import COLUMNS, NoiseClip
from birdlab.data.sources import load_source, load_source_noise
from birdlab.errors import DataError
from birdlab.spec.sources import (
    AutoSource,
    BackgroundSource,
    TableSource,
    XenoCantoSource,
)


def test_a_table_of_any_columns(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(
        "file,code,also,who,secs,label,primary_label\nx/1.wav,0123,['b'],Ann,2.5,keep,gone\n"
    )
    touch(tmp_path, "sounds/x/1.wav")
    columns = {
        "filename": "file",
        "primary_label": "code",
        "secondary_labels": "also",
        "author": "who",
        "duration_s": "secs",
    }
    rows = load(
        tmp_path, TableSource(path=".", file="mine.csv", audio="sounds", columns=columns)
    ).recordings
    assert tuple(rows.columns) == (*COLUMNS, "label")
    assert rows["primary_label"].tolist() == ["0123"]
    assert rows["secondary_labels"].tolist() == [("b",)]
    assert rows["author"].tolist() == ["Ann"]
    assert rows["duration_s"].tolist() == [2.5]
    assert rows["path"].tolist() == [str(tmp_path / "sounds" / "x" / "1.wav")]


def test_a_rating_that_is_no_number_is_told(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text(
        "filename,primary_label,rating\n1.wav,a,A\n2.wav,a,4.5\n3.wav,a,\n"
    )
    data = load(tmp_path, TableSource(path=".", file="mine.csv"))
    assert data.recordings["rating"].isna().tolist() == [True, False, True]
    assert data.notes == ("mine.csv: 1 x rating is not a number: unrated: 'A'",)


def test_a_folder_that_may_not_be_read_is_no_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests may run as one whom nothing is forbidden, so the system's answer is made here."""
    touch(tmp_path, "a/1.wav", "b/2.wav")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if Path(path) == tmp_path / "b":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    assert len(load(tmp_path, AutoSource(path=".")).recordings) == 2
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="folder of audio cannot be read") as caught:
        load(tmp_path, AutoSource(path="."))
    assert str(caught.value.where) == str(tmp_path / "b")


def test_one_column_may_serve_two_of_ours(tmp_path: Path) -> None:
    (tmp_path / "mine.tsv").write_text("filename\tname\n1.wav\tTurdus merula\n")
    columns = {"primary_label": "name", "scientific_name": "name"}
    rows = load(tmp_path, TableSource(path=".", file="mine.tsv", columns=columns)).recordings
    assert rows["primary_label"].tolist() == rows["scientific_name"].tolist() == ["Turdus merula"]


def test_a_parquet_table_and_its_lists(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "recording": ["1.wav", "2.wav"],
            "primary_label": ["0123", "nan"],
            "secondary_labels": [["b", "77"], []],
            "rating": [4.0, np.nan],
            "author": ["Ann", None],
            "year": [2020, 2021],
        }
    )
    table.to_parquet(tmp_path / "mine.parquet")
    rows = load(tmp_path, TableSource(path=".", file="mine.parquet")).recordings
    assert rows["recording"].tolist() == ["1.wav", "2.wav"]
    assert rows["primary_label"].tolist() == ["0123", "nan"]
    assert rows["secondary_labels"].tolist() == [("b", "77"), ()]
    assert rows["rating"].tolist()[0] == 4.0
    assert math.isnan(rows["rating"][1])
    assert rows["author"].tolist() == ["Ann", ""]
    assert rows["year"].tolist() == ["2020", "2021"]
    table.assign(primary_label=[123, 5]).to_parquet(tmp_path / "mine.parquet")
    with pytest.raises(DataError, match="stored as numbers"):
        load(tmp_path, TableSource(path=".", file="mine.parquet"))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"primary_labl": "a"}, "did you mean 'primary_label'"),
        ({"primary_label": "cod"}, "did you mean 'code'"),
        ({"primary_label": "code"}, "lacks the column filename"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused(
    tmp_path: Path, columns: dict[str, str], said: str
) -> None:
    (tmp_path / "mine.csv").write_text("file,code\n1.wav,a\n")
    with pytest.raises(DataError) as caught:
        load(tmp_path, TableSource(path=".", file="mine.csv", columns=columns))
    assert said in str(caught.value)


def test_another_separator_is_named_and_a_lacking_column_says_where_to_map_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "mine.csv").write_text("filename;primary_label\n1.wav;a\n")
    with pytest.raises(DataError, match="parted by semicolons"):
        load(tmp_path, TableSource(path=".", file="mine.csv"))
    (tmp_path / "mine.csv").write_text("filename,label\n1.wav,a\n")
    with pytest.raises(DataError) as caught:
        load(tmp_path, TableSource(path=".", file="mine.csv"))
    assert "columns = {primary_label = " in str(caught.value)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").write_text("primary_label\n")
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path, TableSource(path=".", file="mine.parquet"))


def test_what_the_downloader_wrote(tmp_path: Path) -> None:
    columns = (
        "xc_id,filename,primary_label,secondary_labels,scientific_name,common_name,author,license,"
        "rating,type,latitude,longitude,duration_s,url,date,sample_rate_hz,size,sha256"
    )
    row = clip("0123", 7, xc_id="812345", duration_s="12.5", date="2020-01-02", sha256="ab")
    write_csv(tmp_path / "recordings.csv", columns, [row | {"filename": "0123/XC812345.mp3"}])
    touch(tmp_path, "audio/0123/XC812345.mp3")
    for source in (XenoCantoSource(path="."), AutoSource(path=".")):
        rows = load(tmp_path, source).recordings
        assert rows["xc_id"].tolist() == ["812345"]
        assert rows["date"].tolist() == ["2020-01-02"]
        assert Path(rows["path"][0]).is_file()
    with pytest.raises(DataError, match="no background recordings"):
        load_source_noise(source, "xc", tmp_path, tmp_path)


def test_stretches_of_background(tmp_path: Path) -> None:
    lab, root = tmp_path / "lab", tmp_path / "sounds"
    touch(root, "a/x.ogg", "y.ogg")
    (lab / "lists").mkdir(parents=True)
    (lab / "lists" / "quiet.csv").write_text(
        "filename,start_s,end_s\ny.ogg,,\na/x.ogg,30,35\na/x.ogg,5,1:00\na/x.ogg,30,35\n"
    )
    source = BackgroundSource(path="../sounds", table="lists/quiet.csv")
    clips = load_source_noise(source, "quiet", root, lab)
    assert clips[:2] == [
        NoiseClip(root / "a/x.ogg", 5.0, 60.0),
        NoiseClip(root / "a/x.ogg", 30, 35),
    ]
    assert clips[2].path == root / "y.ogg"
    assert math.isnan(clips[2].start_s)
    assert math.isnan(clips[2].end_s)
    data = load_source(source, "quiet", root, lab)
    assert data.recordings["recording"].tolist() == ["a/x.ogg", "y.ogg"]


def test_a_list_of_background_that_lies_is_refused(tmp_path: Path) -> None:
    (tmp_path / "quiet.csv").write_text(
        "filename,start_s,end_s\n../x.ogg,1,2\ny.ogg,5,5\nz.ogg,soon,9\n"
    )
    with pytest.raises(DataError) as caught:
        load_source_noise(BackgroundSource(path=".", table="quiet.csv"), "q", tmp_path, tmp_path)
    for said in ("'../x.ogg' (has ..)", "end_s is not after start_s: y.ogg", "'soon'"):
        assert said in str(caught.value)
    with pytest.raises(DataError, match="outside the lab"):
        load_source_noise(BackgroundSource(path=".", table="../q.csv"), "q", tmp_path, tmp_path)


def test_whole_files_are_background_where_a_folder_says_so(tiny_demo: Path) -> None:
    clips = load_source_noise(AutoSource(path="."), "tiny", tiny_demo, tiny_demo)
    assert len(clips) == 2
    assert all(math.isnan(c.start_s) and c.path.parent.name == "background" for c in clips)
