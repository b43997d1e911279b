"""Label maps: synonyms, complete maps, what they drop and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import (
    annotated,
    clip,
    load,
    write_2021,
    write_csv,
)

from birdlab.data.catalog import Dataset
from birdlab.data.sources.labelmaps import load_map, map_labels
from birdlab.errors import DataError
from birdlab.spec.sources import (
    BirdclefSource,
)


def mapped(tmp_path: Path, **maps: str) -> Dataset:
    """The folder of 2021 with label maps in its lab."""
    write_2021(tmp_path)
    for kind, text in maps.items():
        (tmp_path / f"{kind}.csv").write_text("from,to\n" + text)
    source = BirdclefSource(path=".", **{kind: f"{kind}.csv" for kind in maps})  # type: ignore[arg-type]
    return load(tmp_path, source)


def test_synonyms_change_what_they_name(tmp_path: Path) -> None:
    data = mapped(tmp_path, synonyms="0123,acafly\nnobody,x\n")
    assert data.recordings["primary_label"].tolist() == ["acafly", "amegfi", "acafly"]
    assert data.recordings["secondary_labels"].tolist() == [("amegfi",), (), ()]
    assert [row[3] for row in annotated(data)] == ["acafly", "acafly"]


def test_a_label_map_is_complete_and_may_drop(tmp_path: Path) -> None:
    data = mapped(tmp_path, labels="0123,\nacafly,fly\namegfi,finch\n")
    assert data.recordings["primary_label"].tolist() == ["fly", "finch"]
    assert data.recordings["secondary_labels"].tolist() == [("finch",), ()]
    assert data.class_list.codes == ("finch", "fly")
    assert [row[1:] for row in annotated(data)] == [
        (0.0, 5.0, "fly"),
        (10.0, 15.0, ""),
        (10.0, 15.0, "fly"),
    ]
    assert "1 x row whose label maps to nothing: dropped: 0123/XC109607.ogg" in data.notes[-1]


def test_synonyms_come_before_the_map(tmp_path: Path) -> None:
    data = mapped(tmp_path, synonyms="0123,amegfi\n", labels="acafly,fly\namegfi,finch\n")
    assert data.recordings["primary_label"].tolist() == ["fly", "finch", "finch"]


def test_every_label_that_a_map_leaves_out_is_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 labels of set are not in its label map") as caught:
        mapped(tmp_path, labels="x,y\n")
    assert caught.value.got == "0123, acafly, amegfi"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\na,c\n", "1 x label becomes two things: a"),
        (",b\n", "1 x `from` is empty: 2"),
        ("a,b\na,b\n", None),
    ],
)
def test_a_map_that_contradicts_itself_is_refused(
    tmp_path: Path, text: str, said: str | None
) -> None:
    (tmp_path / "map.csv").write_text("from,to\n" + text)
    if said is None:
        assert load_map(tmp_path / "map.csv") == {"a": "b"}
        return
    with pytest.raises(DataError) as caught:
        load_map(tmp_path / "map.csv")
    assert said in str(caught.value)


def test_a_map_that_leaves_nothing_or_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="leaves no recording"):
        mapped(tmp_path, labels="0123,\nacafly,\namegfi,\n")
    with pytest.raises(DataError, match="outside the lab"):
        load(tmp_path, BirdclefSource(path=".", labels="../labels.csv"))


def test_columns_of_windows_are_joined_by_their_maximum(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "train.csv", list(clip("a", 1)), [clip("a", 1), clip("b", 2), clip("c", 3)]
    )
    write_csv(tmp_path / "sample_submission.csv", ["row_id", "c", "a", "b"], [])
    (tmp_path / "soundscape_labels.csv").write_text("row_id,a,b,c\ns_5,1,0,1\ns_10,0,0.5,1\n")
    (tmp_path / "map.csv").write_text("from,to\na,x\nb,x\nc,\n")
    data = load(tmp_path, BirdclefSource(path=".", labels="map.csv"))
    assert data.class_list.codes == ("x",)
    assert list(data.soundscape_labels.columns) == ["row_id", "x"]
    assert data.soundscape_labels["x"].tolist() == [1.0, 0.5]


LABELS = st.sampled_from([f"s{i}" for i in range(12)])


@given(
    rows=st.lists(st.tuples(LABELS, st.lists(LABELS, max_size=4)), min_size=1, max_size=20),
    known=st.dictionaries(LABELS, st.sampled_from(["", "x", "y", "z"]), min_size=12, max_size=12),
)
def test_a_map_renames_row_by_row(
    rows: list[tuple[str, list[str]]],
    known: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    lab = tmp_path_factory.mktemp("lab")
    lines = "".join(f"{old},{new}\n" for old, new in known.items())
    (lab / "map.csv").write_text("from,to\n" + lines)
    recordings = pd.DataFrame(
        {
            "recording": [str(i) for i in range(len(rows))],
            "primary_label": [primary for primary, _ in rows],
            "secondary_labels": pd.Series([tuple(also) for _, also in rows], dtype=object),
        }
    )
    data = Dataset("set", lab, recordings)
    source = BirdclefSource(path=".", labels="map.csv")
    kept = [(i, known[p], also) for i, (p, also) in enumerate(rows) if known[p]]
    if not kept:
        with pytest.raises(DataError, match="leaves no recording"):
            map_labels(data, source, lab)
        return
    out = map_labels(data, source, lab).recordings
    assert out["recording"].tolist() == [str(i) for i, _, _ in kept]
    assert out["primary_label"].tolist() == [primary for _, primary, _ in kept]
    for found, (_, primary, also) in zip(out["secondary_labels"], kept, strict=True):
        assert set(found) == {known[label] for label in also} - {"", primary}
        assert len(found) == len(set(found))


def test_822_species_become_the_264_that_are_scored(tmp_path: Path) -> None:
    many = [f"{i:04d}" for i in range(822)]
    rows = [clip(code, i, secondary_labels=f"['{many[i - 1]}']") for i, code in enumerate(many)]
    write_csv(tmp_path / "train_metadata.csv", list(rows[0]), rows)
    scored = set(many[::3][:264])
    lines = "".join(f"{code},{code if code in scored else ''}\n" for code in many)
    (tmp_path / "scored.csv").write_text("from,to\n" + lines)
    data = load(tmp_path, BirdclefSource(path=".", labels="scored.csv"))
    assert data.class_list.codes == tuple(sorted(scored))
    assert len(data.recordings) == 264
    assert data.recordings["secondary_labels"].map(len).sum() == 0
    assert len(load(tmp_path).class_list) == 822
