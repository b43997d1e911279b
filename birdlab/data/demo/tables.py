"""The tables of the demo competition, as BirdCLEF writes them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from birdlab.data.demo.rendering import Truth, mark_windows
from birdlab.data.demo.settings import WINDOW_S, DemoSettings, build_generator
from birdlab.data.demo.world import RecordingPlan, SoundscapePlan, World

Row = Sequence[object]
METADATA_COLUMNS = (
    "primary_label",
    "secondary_labels",
    "type",
    "latitude",
    "longitude",
    "scientific_name",
    "common_name",
    "author",
    "license",
    "rating",
    "url",
    "filename",
    "duration_s",
)


def _save_rows(path: Path, header: Row, rows: Iterable[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _metadata_row(
    settings: DemoSettings, world: World, plan: RecordingPlan, audible: Mapping[str, Truth]
) -> Row:
    """One row of `train_metadata.csv`; a background species is listed when it can be heard."""
    rng = build_generator(settings.seed, "metadata", plan.filename)
    home = build_generator(settings.seed, "home", plan.recordist)
    species = world.species[world.codes.index(plan.primary)]
    n_windows = int(np.ceil(plan.duration_s / WINDOW_S))
    heard = [c for c in plan.background if mark_windows(audible[c], n_windows).any()]
    latitude = home.uniform(-35, 60) + rng.normal(0, 0.2)
    longitude = home.uniform(-120, 140) + rng.normal(0, 0.2)
    number = Path(plan.filename).stem[2:]  # after the two letters that files begin with
    return (
        plan.primary,
        str(sorted(heard)),
        str([str(rng.choice(["song", "call"], p=[0.8, 0.2]))]),
        round(float(latitude), 4),
        round(float(longitude), 4),
        species.scientific_name,
        species.common_name,
        plan.author,
        "Creative Commons Zero v1.0 Universal",
        float(rng.integers(0, 11)) / 2,
        f"https://demo.invalid/{number}",
        plan.filename,
        plan.duration_s,
    )


def mark_rows(
    plan: SoundscapePlan, codes: Sequence[str], audible: Mapping[str, Truth]
) -> list[Row]:
    """The row id of each window of a soundscape with a 1 or 0 per code."""
    n_windows = round(plan.duration_s / WINDOW_S)
    silent = np.zeros(n_windows, dtype=bool)
    columns = [mark_windows(audible[c], n_windows) if c in audible else silent for c in codes]
    stem = Path(plan.filename).stem
    ends = range(WINDOW_S, WINDOW_S * n_windows + 1, WINDOW_S)
    truth = np.stack(columns, axis=1).astype(int)
    return [(f"{stem}_{end}", *row) for end, row in zip(ends, truth.tolist(), strict=True)]


def save_tables(
    root: Path, settings: DemoSettings, world: World, audible: Mapping[str, Mapping[str, Truth]]
) -> None:
    """Write the tables of what `world` holds below `root`.

    `audible` holds, per file name, the audible frames of each species in the file.
    """
    if world.recordings:
        _save_rows(
            root / "train_metadata.csv",
            METADATA_COLUMNS,
            (_metadata_row(settings, world, p, audible[p.filename]) for p in world.recordings),
        )
    if world.recordings or world.soundscapes:
        _save_rows(
            root / "taxonomy.csv",
            ("primary_label", "scientific_name", "common_name"),
            ((s.code, s.scientific_name, s.common_name) for s in world.species),
        )
    if world.backgrounds or world.recordings:
        _save_rows(
            root / "background.csv",
            ("filename", "label", "duration_s"),
            ((p.filename, p.kind, p.duration_s) for p in world.backgrounds),
        )
    if world.soundscapes:
        _save_soundscapes(root, world, audible)


def _save_soundscapes(root: Path, world: World, audible: Mapping[str, Mapping[str, Truth]]) -> None:
    """The soundscapes, the labels of their windows, and a submission for the public ones.

    No table of labels is written where no soundscape has any.
    """
    codes = world.codes
    _save_rows(
        root / "soundscapes.csv",
        ("filename", "split", "duration_s"),
        ((p.filename, p.split, p.duration_s) for p in world.soundscapes),
    )
    labelled = [p for p in world.soundscapes if p.split != "unlabelled"]
    if not labelled:
        return
    rows = [(p.split, row) for p in labelled for row in mark_rows(p, codes, audible[p.filename])]
    header = ("row_id", *codes)
    _save_rows(root / "soundscape_labels.csv", header, (row for _, row in rows))
    guess = [1 / len(codes)] * len(codes)
    public = [(row[0], *guess) for split, row in rows if split == "public"]
    if public:
        _save_rows(root / "sample_submission.csv", header, public)
