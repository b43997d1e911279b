"""What lies in a download folder: a ledger line per finished file, and the table of recordings.

    recordings.csv       a row per finished recording; what birdlab reads
    ledger.csv           a row per finished file: recordist, licence, address, date, size, sha256
    skipped.csv          what the last command left out or could not fetch, and why
    audio/<label>/XC<number>.<suffix>

The ledger grows by a line as soon as a file is whole, so that a killed command loses nothing.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from birdlab.data.audiofile import SUFFIXES
from birdlab.data.xenocanto.recording import RATINGS
from birdlab.data.xenocanto.selection import Skip, Wanted
from birdlab.data.xenocanto.species import is_label
from birdlab.errors import DataError
from birdlab.lab import write_whole

AUDIO, LEDGER, RECORDINGS, SKIPPED = "audio", "ledger.csv", "recordings.csv", "skipped.csv"
LEDGER_COLUMNS = ("xc_id", "file", "recordist", "licence", "url", "fetched", "size", "sha256")
RECORDING_COLUMNS = (
    *("xc_id", "filename", "primary_label", "secondary_labels", "scientific_name", "common_name"),
    *("author", "license", "rating", "type", "latitude", "longitude", "duration_s", "url", "date"),
    *("sample_rate_hz", "size", "sha256"),
)
SKIPPED_COLUMNS = ("xc_id", "primary_label", "scientific_name", "reason", "detail")

_FILE = re.compile(r"([^/]+)/XC([0-9]{1,12})(\.[a-z0-9]+)")

Row = dict[str, str]
Finished = dict[str, Row]
"""Ledger rows of the files that are there in full, by number of the recording."""


def load_finished(out: Path) -> Finished:
    """The files that the ledger lists and that have the size it says; {} for a new folder.

    A line that was torn when a command was killed, or that names a place outside, is left out.
    Raises DataError for a ledger that cannot be read.
    """
    finished: Finished = {}
    for row in _load_rows(out / LEDGER, LEDGER_COLUMNS):
        named = _FILE.fullmatch(row["file"])
        if named is None or named[2] != row["xc_id"] or named[3] not in SUFFIXES:
            continue
        whole = re.fullmatch(r"[0-9a-f]{64}", row["sha256"]) and is_label(named[1])
        path = out / AUDIO / row["file"]
        if whole and path.is_file() and str(path.stat().st_size) == row["size"]:
            finished[row["xc_id"]] = row
    return finished


def ledger_row(wanted: Wanted, file: str, size: int, sha256: str) -> Row:
    """The ledger's row of a file fetched now; `file` is relative to the audio folder."""
    recording = wanted.recording
    values = (
        recording.xc_id,
        file,
        recording.author,
        recording.license,
        recording.url,
        datetime.now(UTC).isoformat(timespec="seconds"),
        str(size),
        sha256,
    )
    return dict(zip(LEDGER_COLUMNS, values, strict=True))


def append_ledger(out: Path, row: Row) -> None:
    """Add a row to the ledger and see it safely on the disk."""
    with (out / LEDGER).open("a", encoding="utf-8", newline="") as file:
        file.write(_as_csv([row], LEDGER_COLUMNS, header=file.tell() == 0))
        file.flush()
        os.fsync(file.fileno())


def save_ledger(out: Path, finished: Finished) -> None:
    """Replace the ledger by the rows of finished files."""
    write_whole(out / LEDGER, _as_csv(finished.values(), LEDGER_COLUMNS))


def save_recordings(out: Path, finished: Finished, wanted: Iterable[Wanted]) -> None:
    """Replace the table of recordings: a row per finished file, by label and number.

    So the table does not tell in how many goes the files came. What Xeno-canto said just now
    counts; recordings that this command did not ask for keep the row that they have.
    """
    rows = {row["xc_id"]: row for row in _load_rows(out / RECORDINGS, RECORDING_COLUMNS)}
    rows.update({w.recording.xc_id: _recording_row(w) for w in wanted})
    listed = [
        {**rows[xc_id], "filename": kept["file"], "size": kept["size"], "sha256": kept["sha256"]}
        for xc_id, kept in finished.items()
        if xc_id in rows
    ]
    listed.sort(key=lambda row: (row["primary_label"], int(row["xc_id"])))
    write_whole(out / RECORDINGS, _as_csv(listed, RECORDING_COLUMNS))


def save_skipped(out: Path, skipped: Iterable[Skip]) -> None:
    """Replace the list of recordings that were left out."""
    rows = [
        dict(
            zip(
                SKIPPED_COLUMNS,
                (s.xc_id, s.label, s.scientific_name, s.reason, s.detail),
                strict=True,
            )
        )
        for s in skipped
    ]
    write_whole(out / SKIPPED, _as_csv(rows, SKIPPED_COLUMNS))


def count_labels(finished: Finished) -> Counter[str]:
    """The number of finished files of each label."""
    return Counter(row["file"].partition("/")[0] for row in finished.values())


def _recording_row(wanted: Wanted) -> Row:
    r = wanted.recording
    return {
        "xc_id": r.xc_id,
        "primary_label": wanted.label,
        "secondary_labels": repr(list(wanted.secondary_labels)),
        "scientific_name": r.scientific_name,
        "common_name": r.common_name,
        "author": r.author,
        "license": r.license,
        "rating": str(RATINGS.get(r.quality, "")),
        "type": r.type,
        "latitude": _shown(r.latitude),
        "longitude": _shown(r.longitude),
        "duration_s": _shown(r.duration_s),
        "url": r.url,
        "date": r.date,
        "sample_rate_hz": r.sample_rate_hz,
    }


def _shown(number: float) -> str:
    return "" if math.isnan(number) else f"{number:.10g}"


def _as_csv(
    rows: Iterable[Mapping[str, str]], columns: Sequence[str], *, header: bool = True
) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _load_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The whole rows of a table that this module wrote; [] when there is none.

    Raises DataError for one that cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        table = list(csv.reader(io.StringIO(text.replace("\0", ""))))[1:]
    except FileNotFoundError:
        return []
    except (OSError, csv.Error) as error:
        raise DataError(
            "a table of a download cannot be read",
            where=str(path),
            got=str(error),
            fix="put it back from a copy, or name another --out",
        ) from None
    return [dict(zip(columns, row, strict=True)) for row in table if len(row) == len(columns)]
