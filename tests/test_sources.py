"""Sources: every year's competition folder, one report over all tables, the lab file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from layouts import (
    YEARS,
    annotated,
    clip,
    load,
    touch,
    write_2020,
    write_2021,
    write_csv,
    write_extension,
)

from birdlab.data.catalog import COLUMNS
from birdlab.data.sources import load_source, load_source_noise
from birdlab.errors import DataError
from birdlab.lab import open_lab
from birdlab.spec.sources import (
    AutoSource,
    DemoSource,
    TableSource,
    XenoCantoSource,
)

SHARED = Path(__file__).parents[2] / "shared" / "data"
REAL = SHARED / "realbirds"


@pytest.mark.parametrize("year", YEARS)
def test_each_year_is_read_whole_with_codes_as_text(tmp_path: Path, year: int) -> None:
    YEARS[year](tmp_path)
    for source in (None, AutoSource(path=".")):
        data = load(tmp_path, source)
        rows = data.recordings
        assert tuple(rows.columns[: len(COLUMNS)]) == COLUMNS
        assert len(rows) >= 2
        assert all(Path(path).is_file() for path in rows["path"])
        assert all(Path(path).is_file() for path in data.soundscapes["path"])
        labels = {
            *rows["primary_label"],
            *(code for also in rows["secondary_labels"] for code in also),
        }
        assert labels & {"0123", "1139490"}
        assert all(isinstance(code, str) for code in labels)
        assert labels <= set(data.class_list.codes)
        assert rows[["rating"]].notna().all(axis=None)
        assert set(data.annotations["label"]) <= set(data.class_list.codes)


def test_2020_names_birds_in_two_ways(tmp_path: Path) -> None:
    write_2020(tmp_path)
    data = load(tmp_path)
    rows = data.recordings
    assert rows["recording"].tolist()[0] == "aldfly/XC134874.mp3"
    assert rows["primary_label"].tolist() == ["aldfly", "amerob", "0123", "0123"]
    assert rows["secondary_labels"].tolist() == [("amerob",), (), (), ("aldfly",)]
    assert rows["scientific_name"][2] == "Vireo cassinii"
    assert rows["common_name"][2] == "Cassin's Vireo"
    assert rows["duration_s"].tolist() == [25.0] * 4
    assert rows["latitude"].isna().tolist() == [False, False, True, False]
    assert rows["xc_id"][0] == "134874"
    assert rows["sampling_rate"][0] == "48000 (Hz)"
    assert data.classes is None
    assert data.class_list.codes == ("0123", "aldfly", "amerob")
    note = "train.csv: 2 x other bird has no code in this table: left out"
    assert data.notes == (f"{note}: Rallus elegans_King Rail (2), Sitta x_Nobody (1)",)


def test_a_name_of_2020_has_the_code_of_most_rows_and_a_tie_is_a_fault(tmp_path: Path) -> None:
    head = "ebird_code,sci_name,species,primary_label,secondary_labels,filename\n"
    robin, jay = "amerob,T m,Robin,T m_Robin", "blujay,C c,Jay,C c_Jay"
    wrong = "blujay,T m,Robin,T m_Robin"
    (tmp_path / "train.csv").write_text(
        head + f"{robin},[],1.mp3\n{robin},[],2.mp3\n{wrong},[],3.mp3\n{jay},['T m_Robin'],4.mp3\n"
    )
    assert load(tmp_path).recordings["secondary_labels"][3] == ("amerob",)
    (tmp_path / "train.csv").write_text(head + f"{robin},[],1.mp3\n{wrong},[],3.mp3\n")
    with pytest.raises(DataError, match="cannot be used") as caught:
        load(tmp_path)
    assert "1 x name has two codes equally often: T m_Robin (amerob, blujay)" in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "codes"),
    [
        (("A-M",), ["aldfly", "merlin"]),
        (("N-Z",), ["norcar", "zothaw"]),
        (("A-M", "N-Z"), ["aldfly", "merlin", "norcar", "zothaw"]),
    ],
)
def test_the_extension_of_2020_in_two_folders_or_one(
    tmp_path: Path, parts: tuple[str, ...], codes: list[str]
) -> None:
    write_extension(tmp_path, *parts)
    data = load(tmp_path)
    assert data.recordings["primary_label"].tolist() == codes
    assert all(Path(path).is_file() for path in data.recordings["path"])
    assert (
        data.recordings["recording"][0]
        == f"{parts[0]}/{codes[0]}/XC{133197 + 2 * (parts[0] > 'B')}.mp3"
    )
    assert bool(data.notes) == (len(parts) == 1)


def test_the_extension_is_planned_with_before_it_is_unpacked(tmp_path: Path) -> None:
    write_extension(tmp_path)
    rows = load(tmp_path).recordings
    assert rows["recording"].tolist()[1:3] == ["A-M/merlin/XC133198.mp3", "N-Z/norcar/XC133199.mp3"]


def test_2021_labels_windows_and_keeps_silent_soundscapes(tmp_path: Path) -> None:
    write_2021(tmp_path)
    data = load(tmp_path)
    assert data.recordings["recording"].tolist()[0] == "acafly/XC109605.ogg"
    assert data.recordings["date"].tolist() == ["", "2012-09-12", ""]
    assert data.class_list.codes == ("0123", "acafly", "amegfi")
    split = dict(zip(data.soundscapes["filename"], data.soundscapes["split"], strict=True))
    assert split == {
        "7019_COR_20190904.ogg": "public",
        "10534_SSW_20170429.ogg": "public",
        "44957_COR_20190923.ogg": "unlabelled",
    }
    assert annotated(data) == [
        ("10534_SSW_20170429.ogg", 0.0, 5.0, "acafly"),
        ("10534_SSW_20170429.ogg", 10.0, 15.0, "0123"),
        ("10534_SSW_20170429.ogg", 10.0, 15.0, "acafly"),
    ]


def test_labels_of_2021_are_read_before_the_soundscapes_are_there(tmp_path: Path) -> None:
    write_2021(tmp_path)
    for path in (tmp_path / "train_soundscapes").iterdir():
        path.unlink()
    data = load(tmp_path)
    assert data.soundscapes["filename"].tolist() == ["7019_COR", "10534_SSW"]
    assert len(data.annotations) == 3
    assert data.notes == ()


def test_2022_and_2023_state_classes_in_different_ways(tmp_path: Path) -> None:
    YEARS[2022](tmp_path / "2022")
    YEARS[2023](tmp_path / "2023")
    assert load(tmp_path / "2022").classes is None
    assert load(tmp_path / "2022").class_list.codes == ("0123", "afrsil1", "houspa")
    assert load(tmp_path / "2023").class_list.codes == ("zitcis1", "0123", "abethr1")


def test_2024_to_2026_bring_soundscapes(tmp_path: Path) -> None:
    for year in (2024, 2025, 2026):
        YEARS[year](tmp_path / str(year))
    data = load(tmp_path / "2024")
    assert data.soundscapes["filename"].tolist() == ["1000170626.ogg", "460830.ogg"]
    assert set(data.soundscapes["split"]) == {"unlabelled"}
    data = load(tmp_path / "2025")
    assert len(data.soundscapes) == 2
    assert data.recordings["collection"].tolist() == ["CSA", "XC", "iNat"]
    assert data.recordings["secondary_labels"].tolist() == [(), ("1139490",), ()]
    assert data.recordings["author"].tolist() == ["Recordist 1", "Recordist 2", ""]
    data = load(tmp_path / "2026")
    assert data.class_list.codes == ("1139490", "22961", "47158son01", "grekis")
    assert data.soundscapes["split"].tolist() == ["public", "unlabelled"]
    name = "BC2026_Train_0039_S22_20211231_201500.ogg"
    assert annotated(data) == [
        (name, 0.0, 5.0, "22961"),
        (name, 0.0, 5.0, "47158son01"),
        (name, 5.0, 10.0, "grekis"),
    ]
    assert any("3 x annotation occurs again" in note for note in data.notes)


def test_other_columns_come_along_as_text_but_never_in_our_place(tmp_path: Path) -> None:
    columns = [*clip("a", 1), "fold", "role", "apart", "recording", "path", "dataset", "copies"]
    columns.append("content")  # the audit's word for equal audio
    row = clip("a", 1, fold="03", role="x", apart="1", recording="evil", path="/etc/passwd")
    row |= {"dataset": "other", "copies": "9", "content": "same"}
    write_csv(tmp_path / "train.csv", columns, [row])
    data = load(tmp_path)
    rows = data.recordings
    assert tuple(rows.columns) == (*COLUMNS, "url", "fold")
    assert rows["fold"].tolist() == ["03"]
    assert rows["recording"].tolist() == ["a/XC1.ogg"]
    assert rows["dataset"].tolist() == ["set"]
    assert rows["path"].tolist() == [str(tmp_path / "train_audio" / "a" / "XC1.ogg")]
    assert data.notes == (
        "train.csv: 4 x column has a name that birdlab needs: left out: "
        "apart, content, copies, role",
    )


def test_one_report_tells_of_all_tables(tmp_path: Path) -> None:
    write_2021(tmp_path)
    rows = [
        clip("a", 1, secondary_labels="[1]", author="NaN"),
        clip("a", 2, author="nan"),
        clip("a", 2, author="nan"),
        clip("b", 2, filename="a/XC2.ogg"),
        clip("a", 3, filename="../XC3.ogg", duration_s="soon"),
        clip("a", 4, duration_s="-1"),
    ]
    write_csv(tmp_path / "train_metadata.csv", [*clip("a", 1), "duration_s"], rows)
    touch(tmp_path, "train_short_audio/a/XC1.ogg")
    labels = tmp_path / "train_soundscape_labels.csv"
    labels.write_text(labels.read_text() + "x_5,,,soon,acafly\n")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    text = str(caught.value)
    for said in (
        f"where:    {tmp_path}\n",
        "train_metadata.csv: 1 x secondary_labels is not a list of texts such as",
        "train_metadata.csv: 1 x duration_s is not a number: 'soon'",
        "train_metadata.csv: 1 x duration_s is negative: a/XC4.ogg",
        "train_metadata.csv: 1 x row occurs again: a/XC2.ogg",
        "train_metadata.csv: 1 x filename occurs again: a/XC2.ogg",
        "train_metadata.csv: 1 x filename leaves the audio folder: '../XC3.ogg' (has ..)",
        "train_soundscape_labels.csv: 1 x seconds is not a number: 'soon'",
        "train_soundscape_labels.csv: 1 x end is not after start",
        "note: train_metadata.csv: 3 x author is written but unknown: 'NaN', 'nan', 'nan'",
        "note: train_metadata.csv: 2 x file is not there: a/XC2.ogg, a/XC4.ogg",
    ):
        assert said in text


def test_authors_nobody_knows_are_unknown(tmp_path: Path) -> None:
    authors = ["nan", "None", " ", "unknown", "Nan Smith", " Ann "]
    rows = [clip("a", i, author=author) for i, author in enumerate(authors)]
    write_csv(tmp_path / "train.csv", list(clip("a", 1)), rows)
    assert load(tmp_path).recordings["author"].tolist() == ["", "", "", "", "Nan Smith", " Ann "]


def test_links_out_of_the_folder_are_faults_or_refused_files(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(tmp_path, "outside.ogg", "root/train_audio/a/XC1.ogg")
    write_csv(root / "train.csv", list(clip("a", 1)), [clip("a", 1), clip("a", 2)])
    (root / "train_audio" / "a" / "XC2.ogg").symlink_to(tmp_path / "outside.ogg")
    with pytest.raises(DataError, match="cannot be used") as caught:
        load(root)
    assert "'a/XC2.ogg' (a link out of the folder)" in str(caught.value)
    data = load(root, on_bad_file="skip")
    assert data.recordings["recording"].tolist() == ["a/XC1.ogg"]
    assert data.refused == {"a/XC2.ogg": "a link out of the folder"}
    assert any("a/XC2.ogg" in note for note in data.notes)


def test_a_source_says_what_it_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no competition folder"):
        load(tmp_path)
    with pytest.raises(DataError, match="has no folder"):
        load(tmp_path / "absent")
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path, XenoCantoSource(path="."))


def test_a_generated_competition_is_read_as_one(tiny_demo: Path) -> None:
    demo, auto = load(tiny_demo, DemoSource(path=".")), load(tiny_demo, AutoSource(path="."))
    pd.testing.assert_frame_equal(demo.recordings, auto.recordings)
    assert len(demo.soundscapes) == 4
    assert not demo.soundscape_labels.empty


def test_the_lab_file_names_sources(tmp_path: Path) -> None:
    write_2021(tmp_path / "y21")
    (tmp_path / "map.csv").write_text("from,to\n0123,x\n")
    (tmp_path / "birdlab.toml").write_text(
        '[data]\nplain = "y21"\n[data.y21]\nkind = "birdclef"\npath = "y21"\nsynonyms = "map.csv"\n'
    )
    lab = open_lab(tmp_path)
    for name, label in (("plain", "0123"), ("y21", "x")):
        data = load_source(lab.source(name), name, lab.dataset_root(name), lab.root)
        assert data.recordings["primary_label"].tolist()[2] == label
        assert data.name == name


@pytest.mark.realbirds
@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not beside the checkout")
def test_the_real_recordings_in_every_way() -> None:
    data = load(REAL, AutoSource(path="."))
    assert data.notes == ()
    assert len(data.soundscapes) == 98
    rows = load(
        REAL,
        TableSource(
            path=".",
            file="formats.csv",
            audio="formats",
            columns={"primary_label": "format", "license": "licence"},
        ),
    ).recordings
    assert len(rows) == 24
    assert all(Path(path).is_file() for path in rows["path"])
    assert len(load_source_noise(AutoSource(path="."), "real", REAL, REAL)) == 39
