"""Shards of the waveform store that no data set of the lab uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from birdlab.data.audiofile import SUFFIXES
from birdlab.data.hashes import hash_files
from birdlab.data.index import content_key
from birdlab.data.shards import list_shards, load_rows, samples_path
from birdlab.lab import BUILT_IN_DATA, Lab
from birdlab.recorded import load_records
from birdlab.words import texts_in

_USUAL_RATE_HZ = 32_000


def find_unused_shards(lab: Lab) -> list[Path]:
    """The index files of shards of which no recording belongs to a data set of the lab.

    A recording belongs to one when audio of the same content lies where the lab file says that a
    data set, or a part of it, lies: all of it is hashed, unless its hash is known. What is removed
    can be decoded again.
    """
    used = _used_keys(lab)
    shards = list_shards(lab.waves)
    rows = {shard: load_rows(lab.waves, shard)["key"] for shard in shards}
    return [
        samples_path(lab.waves, shard).with_suffix(".npy")
        for shard, keys in rows.items()
        if not any(key in used for key in keys.tolist())
    ]


def remove_shard(lab: Lab, index: Path) -> None:
    """Remove a shard: its index first, without which the samples count for nothing.

    Raises filelock.Timeout while someone builds the store.
    """
    with FileLock(lab.waves / "lock", timeout=0):
        index.unlink()
        index.with_suffix(".i16").unlink(missing_ok=True)


def _used_keys(lab: Lab) -> set[bytes]:
    """The keys of all audio below the data sets, at every rate that a run ever used."""
    roots = {root for name in (*lab.file.data, *BUILT_IN_DATA) for root in _places(lab, name)}
    files = {file for root in roots for file in _audio(root)}
    digests = set(hash_files(sorted(files), lab.waves / "hashes.sqlite")) - {None}
    rates = {_USUAL_RATE_HZ, *_rates([r.get("spec") for r in load_records(lab)])}
    return {content_key(str(digest), rate).encode() for digest in digests for rate in rates}


def _audio(root: Path) -> Iterator[Path]:
    """Every audio file at or below a path, through linked folders too."""
    if root.is_file():
        yield root
    for folder, _, files in os.walk(root, followlinks=True):
        yield from (Path(folder, file) for file in files if Path(file).suffix.lower() in SUFFIXES)


def _places(lab: Lab, name: str) -> Iterator[Path]:
    """Every path of the lab that the description of a data set holds."""
    for text in texts_in(lab.source(name).model_dump(mode="json")):
        if text and (lab.root / text).exists():
            yield (lab.root / text).absolute()


def _rates(value: Any) -> Iterator[int]:
    """Every sample rate that recorded specs name."""
    if isinstance(value, list):
        for inner in value:
            yield from _rates(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key == "sample_rate_hz" and isinstance(inner, int):
                yield inner
            else:
                yield from _rates(inner)
