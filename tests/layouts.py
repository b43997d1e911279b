"""Miniature competition folders: each year's real file and column names, invented content.

Audio is empty files, for sources look at names only. Every year has a species code that looks
like a number; those of 2025 and 2026 are of the form that those years used.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from birdlab.data.catalog import ANNOTATIONS, Dataset
from birdlab.data.sources import load_source
from birdlab.spec.sources import BirdclefSource, SourceSpec

COLUMNS_2020 = (
    "rating,playback_used,ebird_code,channels,date,pitch,duration,filename,speed,species,"
    "number_of_notes,title,secondary_labels,bird_seen,sci_name,location,latitude,sampling_rate,"
    "type,elevation,description,bitrate_of_mp3,file_type,volume,background,xc_id,url,country,"
    "author,primary_label,longitude,length,time,recordist,license"
)
COLUMNS_EXTENDED = (
    "rating,playback_used,ebird_code,date,duration,filename,species,bird_seen,sci_name,location,"
    "latitude,type,elevation,xc_id,url,country,author,longitude,time,recordist,license"
)
COLUMNS_2021 = (
    "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,author,"
    "date,filename,license,rating,time,url"
)
COLUMNS_2022 = (
    "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,author,"
    "license,rating,time,url,filename"
)
COLUMNS_2023 = (
    "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,author,"
    "license,rating,url,filename"
)
COLUMNS_2025 = (
    "primary_label,secondary_labels,type,filename,collection,rating,url,latitude,longitude,"
    "scientific_name,common_name,author,license"
)
COLUMNS_2026 = (
    "primary_label,secondary_labels,type,latitude,longitude,scientific_name,common_name,"
    "class_name,inat_taxon_id,author,license,rating,url,filename,collection"
)
TAXONOMY = "primary_label,inat_taxon_id,scientific_name,common_name,class_name"
EBIRD_TAXONOMY = (
    "TAXON_ORDER,CATEGORY,SPECIES_CODE,PRIMARY_COM_NAME,SCI_NAME,ORDER1,FAMILY,SPECIES_GROUP,"
    "REPORT_AS"
)

Row = Mapping[str, str]


def load(root: Path, source: SourceSpec | None = None, **options: Any) -> Dataset:
    """The data set `set` in `root`, as a competition unless a source says otherwise."""
    return load_source(source or BirdclefSource(path="."), "set", root, root, **options)


def annotated(data: Dataset) -> list[tuple[str, float, float, str]]:
    """The annotations of a data set without their paths."""
    assert tuple(data.annotations.columns) == ANNOTATIONS
    rows = data.annotations[["filename", "start_s", "end_s", "label"]]
    return [tuple(row) for row in rows.itertuples(index=False)]


def write_csv(path: Path, columns: str | Sequence[str], rows: Iterable[Row]) -> None:
    """A CSV file in which a row leaves what it does not name empty."""
    columns = columns.split(",") if isinstance(columns, str) else columns
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def touch(root: Path, *names: str) -> None:
    """Empty files below `root`."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def clip(code: str, number: int, suffix: str = "ogg", **cells: str) -> dict[str, str]:
    """The cells that most years share, for a Xeno-canto recording."""
    return {
        "primary_label": code,
        "secondary_labels": "[]",
        "author": f"Recordist {number % 3}",
        "rating": "4.5",
        "latitude": "-1.5",
        "longitude": "36.75",
        "license": "Creative Commons Attribution-NonCommercial-ShareAlike 4.0",
        "url": f"https://www.xeno-canto.org/{number}",
        "filename": f"{code}/XC{number}.{suffix}",
    } | cells


def clip_2020(code: str, sci: str, common: str, number: int, **cells: str) -> dict[str, str]:
    """A row of 2020: birds by both names, times and rates as words."""
    return {
        "ebird_code": code,
        "sci_name": sci,
        "species": common,
        "primary_label": f"{sci}_{common}",
        "secondary_labels": "[]",
        "filename": f"XC{number}.mp3",
        "xc_id": str(number),
        "duration": "25",
        "rating": "3.5",
        "latitude": "44.793",
        "longitude": "-92.962",
        "sampling_rate": "48000 (Hz)",
        "file_type": "mp3",
        "author": "Jonathon Jongsma",
        "recordist": "Jonathon Jongsma",
        "url": f"https://www.xeno-canto.org/{number}",
    } | cells


def write_2020(root: Path) -> None:
    """birdsong-recognition: ebird_code, mp3, other birds by their names, flat file names."""
    rows = [
        clip_2020(
            "aldfly",
            "Empidonax alnorum",
            "Alder Flycatcher",
            134874,
            secondary_labels=str(
                ["Turdus migratorius_American Robin", "Rallus elegans_King Rail", "Sitta x_Nobody"]
            ),
        ),
        clip_2020("amerob", "Turdus migratorius", "American Robin", 135454),
        clip_2020("0123", "Vireo cassinii", "Cassin's Vireo", 135455, latitude="Not specified"),
        clip_2020(
            "0123",
            "Vireo cassinii",
            "Cassin's Vireo",
            135456,
            secondary_labels="['Rallus elegans_King Rail', 'Empidonax alnorum_Alder Flycatcher']",
        ),
    ]
    write_csv(root / "train.csv", COLUMNS_2020, rows)
    write_csv(
        root / "test.csv",
        ["site", "row_id", "seconds", "audio_id"],
        [{"site": "site_1", "row_id": "site_1_0a99_5", "seconds": "5", "audio_id": "0a99"}],
    )
    write_csv(
        root / "sample_submission.csv",
        ["row_id", "birds"],
        [{"row_id": "site_1_0a99_5", "birds": "nocall"}],
    )
    touch(root, *(f"train_audio/{row['ebird_code']}/{row['filename']}" for row in rows))
    touch(root, "example_test_audio/BLKFR-10-CPL_20190611_093000.pt540.mp3")


def write_extension(root: Path, *parts: str) -> None:
    """The Xeno-canto extension of 2020: each part comes with the table of both."""
    rows = [
        clip_2020("aldfly", "Empidonax alnorum", "Alder Flycatcher", 133197),
        clip_2020("merlin", "Falco columbarius", "Merlin", 133198),
        clip_2020("norcar", "Cardinalis cardinalis", "Northern Cardinal", 133199),
        clip_2020("zothaw", "Buteo albonotatus", "Zone-tailed Hawk", 133200),
    ]
    kept = [
        {name: row[name] for name in COLUMNS_EXTENDED.split(",") if name in row} for row in rows
    ]
    write_csv(root / "train_extended.csv", COLUMNS_EXTENDED, kept)
    for row in rows:
        part = "A-M" if row["ebird_code"] < "n" else "N-Z"
        if part in parts:
            touch(root, f"{part}/{row['ebird_code']}/{row['filename']}")


def write_2021(root: Path) -> None:
    """birdclef-2021: train_short_audio, labelled train_soundscapes, flat file names."""
    rows = [
        clip("acafly", 109605, filename="XC109605.ogg", secondary_labels="['amegfi', '0123']"),
        clip("amegfi", 109606, filename="XC109606.ogg", time="12:30", date="2012-09-12"),
        clip("0123", 109607, filename="XC109607.ogg", type="['call', 'flight call']"),
    ]
    write_csv(root / "train_metadata.csv", COLUMNS_2021, rows)
    birds = {
        ("COR", "7019"): ["nocall", "nocall"],
        ("SSW", "10534"): ["acafly", "nocall", "0123 acafly"],
    }
    write_csv(
        root / "train_soundscape_labels.csv",
        ["row_id", "site", "audio_id", "seconds", "birds"],
        (
            {
                "row_id": f"{audio}_{site}_{5 * end}",
                "site": site,
                "audio_id": audio,
                "seconds": str(5 * end),
                "birds": heard,
            }
            for (site, audio), windows in birds.items()
            for end, heard in enumerate(windows, 1)
        ),
    )
    write_csv(root / "test.csv", ["row_id", "site", "audio_id", "seconds"], [])
    write_csv(root / "sample_submission.csv", ["row_id", "birds"], [])
    touch(root, *(f"train_short_audio/{r['primary_label']}/{r['filename']}" for r in rows))
    touch(
        root,
        "train_soundscapes/7019_COR_20190904.ogg",
        "train_soundscapes/10534_SSW_20170429.ogg",
        "train_soundscapes/44957_COR_20190923.ogg",
        "test_soundscapes/test.csv",
    )


def write_2022(root: Path) -> None:
    """birdclef-2022: scored_birds.json, a submission of row and target, an eBird taxonomy."""
    rows = [
        clip("afrsil1", 125458, time="08:00", secondary_labels="['houspa', '0123']"),
        clip("houspa", 125459),
        clip("0123", 125460),
    ]
    write_csv(root / "train_metadata.csv", COLUMNS_2022, rows)
    (root / "scored_birds.json").write_text('["afrsil1", "0123"]')
    write_csv(
        root / "sample_submission.csv",
        ["row_id", "target"],
        [{"row_id": "soundscape_453028782_afrsil1_5", "target": "False"}],
    )
    write_csv(
        root / "test.csv",
        ["row_id", "file_id", "bird", "end_time"],
        [{"row_id": "soundscape_453028782_afrsil1_5", "file_id": "soundscape_453028782"}],
    )
    write_csv(root / "eBird_Taxonomy_v2021.csv", EBIRD_TAXONOMY, [{"SPECIES_CODE": "ostric2"}])
    touch(root, *(f"train_audio/{row['filename']}" for row in rows))
    touch(root, "test_soundscapes/soundscape_453028782.ogg")


def write_2023(root: Path) -> None:
    """birdclef-2023: a column per class in the submission, in an order of its own."""
    rows = [clip("abethr1", 128013, secondary_labels="['0123']"), clip("zitcis1", 128014)]
    write_csv(root / "train_metadata.csv", COLUMNS_2023, rows)
    write_csv(root / "sample_submission.csv", ["row_id", "zitcis1", "0123", "abethr1"], [])
    write_csv(root / "eBird_Taxonomy_v2021.csv", EBIRD_TAXONOMY, [{"SPECIES_CODE": "ostric2"}])
    touch(root, *(f"train_audio/{row['filename']}" for row in rows))
    touch(root, "test_soundscapes/soundscape_29201.ogg")


def write_2024(root: Path) -> None:
    """birdclef-2024: unlabelled soundscapes, named by numbers."""
    rows = [clip("asbfly", 134896), clip("zitcis1", 164848), clip("0123", 175797)]
    write_csv(root / "train_metadata.csv", COLUMNS_2023, rows)
    write_csv(root / "sample_submission.csv", ["row_id", "0123", "asbfly", "zitcis1"], [])
    write_csv(root / "eBird_Taxonomy_v2021.csv", EBIRD_TAXONOMY, [{"SPECIES_CODE": "ostric2"}])
    touch(root, *(f"train_audio/{row['filename']}" for row in rows))
    touch(root, "unlabeled_soundscapes/460830.ogg", "unlabeled_soundscapes/1000170626.ogg")


def _insects_and_birds() -> list[dict[str, str]]:
    return [
        clip("1139490", 1, filename="1139490/CSA36385.ogg", collection="CSA", type="['']")
        | {"secondary_labels": "['']", "latitude": "", "longitude": ""},
        clip("grekis", 2, collection="XC", secondary_labels="['1139490']"),
        clip("grekis", 3, filename="grekis/iNat1159640.ogg", collection="iNat", author=""),
    ]


def write_2025(root: Path) -> None:
    """birdclef-2025: train.csv, taxonomy.csv, a collection, unlabelled train_soundscapes."""
    rows = _insects_and_birds()
    write_csv(root / "train.csv", COLUMNS_2025, rows)
    classes = [
        {"primary_label": "1139490", "inat_taxon_id": "1139490", "class_name": "Insecta"},
        {"primary_label": "grekis", "inat_taxon_id": "16520", "class_name": "Aves"},
    ]
    write_csv(root / "taxonomy.csv", TAXONOMY, classes)
    write_csv(root / "sample_submission.csv", ["row_id", "1139490", "grekis"], [])
    (root / "recording_location.txt").write_text("Middle Magdalena Valley\n")
    touch(root, *(f"train_audio/{row['filename']}" for row in rows))
    touch(
        root,
        "train_soundscapes/H02_20230420_074000.ogg",
        "train_soundscapes/H02_20230420_112000.ogg",
    )


def write_2026(root: Path) -> None:
    """birdclef-2026: some train_soundscapes are labelled, rows repeat, a class has no clip."""
    rows = _insects_and_birds()
    write_csv(root / "train.csv", COLUMNS_2026, rows)
    codes = ["1139490", "22961", "47158son01", "grekis"]
    write_csv(root / "taxonomy.csv", TAXONOMY, ({"primary_label": code} for code in codes))
    write_csv(root / "sample_submission.csv", ["row_id", *codes], [])
    name = "BC2026_Train_0039_S22_20211231_201500.ogg"
    windows = [("00:00:00", "00:00:05", "22961;47158son01"), ("00:00:05", "00:00:10", "grekis")]
    write_csv(
        root / "train_soundscapes_labels.csv",
        ["filename", "start", "end", "primary_label"],
        (
            {"filename": name, "start": start, "end": end, "primary_label": labels}
            for start, end, labels in [*windows, *windows]
        ),
    )
    (root / "recording_location.txt").write_text("Pantanal\n")
    touch(root, *(f"train_audio/{row['filename']}" for row in rows))
    touch(
        root,
        f"train_soundscapes/{name}",
        "train_soundscapes/BC2026_Train_0001_S08_20250606_030007.ogg",
    )


YEARS: dict[int, Callable[[Path], None]] = {
    2020: write_2020,
    2021: write_2021,
    2022: write_2022,
    2023: write_2023,
    2024: write_2024,
    2025: write_2025,
    2026: write_2026,
}
