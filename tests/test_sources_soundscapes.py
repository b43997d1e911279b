"""Sources: long recordings with labels in time, as published and as Raven writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
from layouts import (
    annotated,
    load,
    touch,
)

from birdlab.data.catalog import COLUMNS
from birdlab.data.sources import load_source_noise
from birdlab.errors import DataError
from birdlab.spec.sources import (
    AutoSource,
    SoundscapesSource,
)

ZENODO = "Filename,Start Time (s),End Time (s),Low Freq (Hz),High Freq (Hz),Species eBird Code\n"


def test_annotations_as_published(tmp_path: Path) -> None:
    (tmp_path / "annotations.csv").write_text(
        ZENODO
        + "S_001.flac,12.5,14.25,1900,4500,amerob\n"
        + "S_001.flac,13,20,100,200,????\n"
        + "S_003.wav,3600.5,3601,100,200,0123\n"
    )
    touch(tmp_path, "soundscape_data/S_001.flac", "soundscape_data/S_002.flac")
    touch(tmp_path, "soundscape_data/S_003.flac")
    for source in (
        SoundscapesSource(path=".", annotations="annotations.csv", split="private"),
        AutoSource(path="."),
    ):
        data = load(tmp_path, source)
        assert annotated(data) == [
            ("soundscape_data/S_001.flac", 12.5, 14.25, "amerob"),
            ("soundscape_data/S_001.flac", 13.0, 20.0, "????"),
            ("soundscape_data/S_003.flac", 3600.5, 3601.0, "0123"),
        ]
        assert all(Path(path).is_file() for path in data.annotations["path"])
        assert data.soundscapes["filename"].tolist() == [
            "soundscape_data/S_001.flac",
            "soundscape_data/S_003.flac",
            "soundscape_data/S_002.flac",
        ]
        split = getattr(source, "split", "public")
        assert data.soundscapes["split"].tolist() == [split, split, "unlabelled"]
        assert data.recordings.empty
        assert tuple(data.recordings.columns) == COLUMNS


def test_annotations_may_come_before_their_audio(tmp_path: Path) -> None:
    (tmp_path / "annotations.csv").write_text(ZENODO + "S_001.flac,1,2,,,a\n")
    data = load(tmp_path, AutoSource(path="."))
    assert data.soundscapes["path"].tolist() == [str(tmp_path / "S_001.flac")]
    assert data.notes == ()


def test_a_name_that_fits_two_files_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "annotations.csv").write_text(ZENODO + "S.flac,1,2,,,a\n/etc/x.wav,1,2,,,a\n")
    touch(tmp_path, "one/S.flac", "two/S.flac")
    with pytest.raises(DataError) as caught:
        load(tmp_path, AutoSource(path="."))
    assert "1 x filename fits several files: S.flac" in str(caught.value)
    assert "'/etc/x.wav' (absolute)" in str(caught.value)


def test_raven_tables(tmp_path: Path) -> None:
    head = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tSpecies"
    tables = {
        "A_1.Table.1.selections.txt": f"{head}\n1\tWaveform 1\t1\t2.5\t4\tTurdus merula\n"
        "1\tSpectrogram 1\t1\t2.5\t4\tTurdus merula\n2\tWaveform 1\t1\t9\t10\t\n",
        "B_2.selections.txt": f"{head}\tBegin File\n1\tWaveform 1\t1\t0\t1\tx\tB_3.wav\n",
        "C_4.Table.1.selections.txt": f"{head}\n",
    }
    for name, text in tables.items():
        touch(tmp_path, f"tables/{name}")
        (tmp_path / "tables" / name).write_text(text)
    touch(tmp_path, "audio/A_1.wav", "audio/B_3.wav", "audio/C_4.wav", "audio/D_5.wav")
    data = load(tmp_path, SoundscapesSource(path=".", annotations="tables", audio="audio"))
    assert annotated(data) == [
        ("A_1.wav", 2.5, 4.0, "Turdus merula"),
        ("A_1.wav", 9.0, 10.0, ""),
        ("B_3.wav", 0.0, 1.0, "x"),
    ]
    split = dict(zip(data.soundscapes["filename"], data.soundscapes["split"], strict=True))
    assert split == {
        "A_1.wav": "public",
        "B_3.wav": "public",
        "C_4.wav": "public",
        "D_5.wav": "unlabelled",
    }


def test_annotations_under_names_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("wav,upto,bird\nx.wav,1:05,a;b\nx.wav,70,nocall\n")
    columns = {"filename": "wav", "end_s": "upto", "label": "bird"}
    source = SoundscapesSource(path=".", annotations="mine.csv", columns=columns, window_s=10)
    data = load(tmp_path, source)
    assert annotated(data) == [("x.wav", 55.0, 65.0, "a"), ("x.wav", 55.0, 65.0, "b")]
    assert data.soundscapes["filename"].tolist() == ["x.wav"]
    for wrong, said in (
        ({"file": "wav"}, "did you mean 'filename'"),
        ({"label": "birds"}, "did you mean 'bird'"),
        ({"label": "bird"}, "no column that is filename, start_s or end_s"),
    ):
        with pytest.raises(DataError) as caught:
            load(tmp_path, SoundscapesSource(path=".", annotations="mine.csv", columns=wrong))
        assert said in str(caught.value)


def test_times_that_are_none_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "annotations.csv").write_text(
        ZENODO
        + "y.wav,1,2,,,a;b\nx.wav,5,4,,,a\n,1,2,,,a\n"
        + "x.wav,noon,2,,,a\nx.wav,-1,2,,,a\nx.wav,,2,,,a\n"
    )
    with pytest.raises(DataError) as caught:
        load(tmp_path, AutoSource(path="."))
    for said in (
        "2 x start_s is not a time in seconds: 'noon', '-1'",
        "3 x end is not after start: x.wav, x.wav, x.wav",
        "1 x filename is empty: line 4",
        "1 x filename leaves the audio folder: '' (not a file name)",
    ):
        assert said in str(caught.value)


def test_soundscapes_are_no_noise(tmp_path: Path) -> None:
    touch(tmp_path, "S.wav")
    (tmp_path / "labels.csv").write_text("filename,start,end,label\nS.wav,0,1,a\n")
    source = SoundscapesSource(path=".", annotations="labels.csv")
    with pytest.raises(DataError, match="no background recordings") as caught:
        load_source_noise(source, "set", tmp_path, tmp_path)
    assert "birdlab data nocall" in str(caught.value)
    (tmp_path / "soundscapes.csv").write_text("filename,split\nS.wav,private\n")
    with pytest.raises(DataError, match="no background recordings"):
        load_source_noise(AutoSource(path="."), "set", tmp_path, tmp_path)
