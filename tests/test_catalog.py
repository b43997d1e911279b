"""Catalogs: folder layouts, cells that lie, names that leave their folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from birdlab.data.catalog import COLUMNS, Dataset
from birdlab.data.paths import leaving
from birdlab.data.sources import load_source, load_source_noise
from birdlab.errors import DataError
from birdlab.spec.sources import AutoSource

SHARED = Path(__file__).parents[2] / "shared" / "data"
REAL = SHARED / "realbirds"
HEAD = "primary_label,secondary_labels,author,url,filename,duration_s\n"


def load_dataset(name: str, root: Path) -> Dataset:
    """The data set of a folder that the lab file names by its path alone."""
    return load_source(AutoSource(path="."), name, root, root)


def load_noise(name: str, root: Path) -> list[Path]:
    """The files of its background clips."""
    return [clip.path for clip in load_source_noise(AutoSource(path="."), name, root, root)]


def folder_with(tmp_path: Path, **files: str) -> Path:
    for name, content in files.items():
        path = tmp_path / name.replace("__", "/").replace("_csv", ".csv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_a_table_in_canonical_columns(tmp_path: Path) -> None:
    root = folder_with(
        tmp_path,
        train_metadata_csv=HEAD
        + "nan,\"['NA', '42']\",Ann ,https://www.xeno-canto.org/128013,nan/XC1.ogg,4.5\n"
        + "42,[''],,https://other.org/77,42/XC390820.ogg,\n"
        + "NA,,  ,,NA/a b.ogg,1\n",
    )
    data = load_dataset("year", root)
    rows = data.recordings
    assert tuple(rows.columns) == (*COLUMNS, "url")
    assert rows["primary_label"].tolist() == ["nan", "42", "NA"]
    assert rows["secondary_labels"].tolist() == [("NA", "42"), (), ()]
    assert rows["author"].tolist() == ["Ann ", "", ""]
    assert rows["xc_id"].tolist() == ["128013", "390820", ""]
    assert rows["duration_s"].fillna(-1).tolist() == [4.5, -1, 1]
    assert rows["dataset"].unique().tolist() == ["year"]
    assert rows["path"][2] == str(root / "train_audio" / "NA" / "a b.ogg")
    assert rows["rating"].isna().all()
    assert rows["license"].tolist() == ["", "", ""]
    assert data.classes is None
    assert data.class_list.codes == ("42", "NA", "nan")
    assert len(data.soundscapes) == len(data.soundscape_labels) == 0


def test_names_without_a_folder_lie_in_the_folder_of_their_label(tmp_path: Path) -> None:
    root = folder_with(tmp_path, train_csv="primary_label,filename\na,1.ogg\na,flat.ogg\n")
    touch(root, "train_short_audio/a/1.ogg", "train_short_audio/flat.ogg")
    rows = load_dataset("year", root).recordings
    assert rows["recording"].tolist() == ["a/1.ogg", "flat.ogg"]
    assert all(Path(path).is_file() for path in rows["path"])


def test_classes_come_from_the_submission_before_the_taxonomy(tmp_path: Path) -> None:
    root = folder_with(
        tmp_path,
        train_metadata_csv="primary_label,filename\nb,b/1.ogg\n",
        taxonomy_csv="primary_label,scientific_name\n7,x\nb,y\n",
    )
    assert load_dataset("year", root).class_list.codes == ("7", "b")
    (root / "sample_submission.csv").write_text("row_id,b,a,7\nx_5,0,0,0\n")
    assert load_dataset("year", root).class_list.codes == ("b", "a", "7")


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    root = folder_with(
        tmp_path,
        train_metadata_csv=HEAD
        + "a,[1],x,,a/1.ogg,long\n"
        + "a,\"['b'\",x,,a/2.ogg,inf\n"
        + "a,__import__('os'),x,,a/2.ogg,-3\n"
        + ",[],x,,a/4.ogg,1\n"
        + "a,[],x,,../5.ogg,1\n"
        + "a,[],x,,/etc/6.ogg,1\n",
    )
    with pytest.raises(DataError) as caught:
        load_dataset("year", root)
    text = str(caught.value)
    for said in (
        "3 x secondary_labels is not a list",
        "line 2 '[1]'",
        "2 x duration_s is not a number: 'long', 'inf'",
        "1 x duration_s is negative",
        "1 x primary_label is empty: a/4.ogg",
        "1 x filename occurs again: a/2.ogg",
        "2 x filename leaves the audio folder: '../5.ogg' (has ..), '/etc/6.ogg' (absolute)",
    ):
        assert said in text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"primary_label,filename\n",
        b"filename\na\n",
        b"\xff\xfe\0",
        b"primary_label,filename\na,1.ogg,x\n",
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_dataset("year", tmp_path)
    assert caught.value.where == str(tmp_path / "train.csv")


def test_a_folder_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder") as caught:
        load_dataset("year", tmp_path / "absent")
    assert "birdlab.toml" in str(caught.value)
    with pytest.raises(DataError, match="neither a table nor audio"):
        load_dataset("year", tmp_path)


def test_links_are_followed_only_within_the_folder(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root, "in/1.ogg")
    touch(outside, "2.ogg")
    (root / "good.ogg").symlink_to(root / "in" / "1.ogg")
    (root / "bad.ogg").symlink_to(outside / "2.ogg")
    (root / "dir").symlink_to(outside)
    (tmp_path / "alias").symlink_to(root)
    names = ["good.ogg", "bad.ogg", "dir/2.ogg", "absent/3.ogg", "", "a/", ".", "a/../b", "a\0b"]
    for folder in (root, tmp_path / "alias"):
        refused = leaving(names, folder)
        assert refused.keys() == {"bad.ogg", "dir/2.ogg", "", ".", "a/../b", "a\0b"}
        assert refused["dir/2.ogg"] == "a link out of the folder"
    folder_with(root, train_csv="primary_label,filename\nx,bad.ogg\n")
    (root / "train_audio").mkdir()
    (root / "train_audio" / "bad.ogg").symlink_to(outside / "2.ogg")
    with pytest.raises(DataError, match=r"cannot be used") as caught:
        load_dataset("year", root)
    assert "a link out of the folder" in str(caught.value)


def test_a_folder_without_a_table_is_all_its_audio(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.FLAC", "b/1.wav", "a.mp3", "notes.txt")
    data = load_dataset("noise", tmp_path)
    assert data.recordings["recording"].tolist() == ["a.mp3", "b/1.wav", "b/2.FLAC"]
    assert tuple(data.recordings.columns) == COLUMNS
    assert data.recordings["secondary_labels"].tolist() == [(), (), ()]
    assert data.recordings["duration_s"].dtype == np.float64
    with pytest.raises(DataError, match="has no labels"):
        _ = data.class_list
    assert load_noise("noise", tmp_path) == [Path(p) for p in data.recordings["path"]]


def test_noise_is_listed_or_in_a_folder_of_its_own(tmp_path: Path) -> None:
    root = folder_with(tmp_path, train_csv="primary_label,filename\na,a/1.ogg\n")
    touch(root, "train_audio/a/1.ogg")
    with pytest.raises(DataError, match="no background"):
        load_noise("year", root)
    touch(root, "background/z.ogg", "background/y.ogg")
    assert [path.name for path in load_noise("year", root)] == ["y.ogg", "z.ogg"]
    (root / "background.csv").write_text("filename\nz.ogg\n")
    assert load_noise("year", root) == [root / "background" / "z.ogg"]
    (root / "background.csv").write_text("filename\n../train_audio/a/1.ogg\n")
    with pytest.raises(DataError, match="leave their folder"):
        load_noise("year", root)


def test_soundscapes_and_their_labels(tmp_path: Path) -> None:
    root = folder_with(
        tmp_path,
        train_csv="primary_label,filename\na,a/1.ogg\n",
        sample_submission_csv="row_id,a,b\n",
        soundscapes_csv="filename,split,duration_s\ns.ogg,public,10\nt.ogg,,\n",
        soundscape_labels_csv="row_id,b,a\ns_5,1,0\ns_10,0,0.5\n",
        soundscapes__s_ogg="",
    )
    data = load_dataset("year", root)
    assert data.soundscapes["split"].tolist() == ["public", "unlabelled"]
    assert data.soundscapes["path"][0] == str(root / "soundscapes" / "s.ogg")
    assert list(data.soundscape_labels.columns) == ["row_id", "b", "a"]
    assert data.soundscape_labels["a"].tolist() == [0, 0.5]
    (root / "soundscape_labels.csv").write_text("row_id,a,q\ns_5,2,0\ns_5,,0\n")
    with pytest.raises(DataError) as caught:
        load_dataset("year", root)
    for said in ("column is no class: q", "row_id occurs again: s_5", "2 x a is not within 0..1"):
        assert said in str(caught.value)
    (root / "soundscapes.csv").write_text("filename,split\n../s.ogg,secret\n")
    with pytest.raises(DataError, match="cannot be used") as caught:
        load_dataset("year", root)
    assert "split is none of" in str(caught.value)
    assert "has .." in str(caught.value)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the 2023 table is not beside the checkout")
def test_the_2023_table(tmp_path: Path) -> None:
    (tmp_path / "train_metadata.csv").symlink_to(SHARED / "birdclef2023_train_metadata.csv")
    rows = load_dataset("birdclef-2023", tmp_path).recordings
    assert len(rows) == 16_941
    assert rows["primary_label"].nunique() == 264
    assert round(rows["duration_s"].sum() / 3600, 1) == 192.4
    assert round((rows["secondary_labels"].map(len) > 0).mean(), 3) == 0.136
    twice = rows[rows["xc_id"].duplicated(keep=False)]
    assert sorted(twice["primary_label"]) == ["cibwar1", "gnbcam2"]


@pytest.mark.realbirds
@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings are not beside the checkout")
def test_the_real_recordings() -> None:
    data = load_dataset("realbirds", REAL)
    assert data.recordings.shape == (164, len(COLUMNS) + 1)
    assert data.recordings["primary_label"].nunique() == 35
    assert (data.recordings["author"] == "").sum() == 44
    assert len(data.soundscapes) == 98
    paths = pd.concat([data.recordings["path"], data.soundscapes["path"]])
    assert all(Path(path).is_file() for path in paths)
    noise = load_noise("realbirds", REAL)
    assert len(noise) == 39
    assert noise == load_noise("noise", REAL / "background")
