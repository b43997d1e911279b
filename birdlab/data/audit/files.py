"""What the files of a table are: unreadable, clipped, silent; formats, rates, lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

CLIPPED_SHARE = 1e-3
"""A recording counts as clipped when more than this share of its samples lies in flat tops."""
SILENT_SHARE = 0.9
"""A recording counts as silent when more than this share of it lies 60 dB below its loudest."""
SHORT_S, LONG_S = 5.0, 60.0
OFF_S, OFF_SHARE = 0.5, 0.02
"""A stated duration is off when it differs from the header by more than both."""
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)

BAD = ("role", "dataset", "recording", "reason")
OFF = ("role", "dataset", "recording", "stated_s", "header_s")
FORMATS = ("sample_rate_hz", "codec", "channels", "n_files", "share")
LOUDNESS = ("role", "dataset", "recording", "peak", "clipped_share", "silent_share", "verdict")


@dataclass(frozen=True, eq=False)
class Files:
    """What is known of the files of all tables, each file once.

    n_files, n_headers, n_signals: all files, those that were looked at, those whose samples are
    known. absent: role, dataset, recording of files that are not there, once any header was read.
    bad: BAD, files that are there and cannot be read. formats: FORMATS, most files first.
    lengths: role, dataset, length_s, a row per row of the tables (of its time range where it has
    one; NaN = unknown). length_summary: per role and data set the number of rows, shares below
    5 s and above 60 s, and quantiles. off: OFF. loudness: LOUDNESS of every file whose samples
    were read, the clipped and silent ones by `verdict`.
    """

    n_files: int
    n_headers: int
    n_signals: int
    absent: pd.DataFrame
    bad: pd.DataFrame
    formats: pd.DataFrame
    lengths: pd.DataFrame
    length_summary: pd.DataFrame
    off: pd.DataFrame
    loudness: pd.DataFrame


def find_files(
    rows: pd.DataFrame,
    stages: Mapping[str, pd.DataFrame],
    headers: pd.DataFrame | None = None,
    signals: pd.DataFrame | None = None,
) -> Files:
    """What the facts say of the files of `rows` and of the pretraining tables.

    `headers` (sample_rate_hz, channels, codec, duration_s, reason) and `signals` (peak,
    clipped_share, silent_share, reason) have the path as text for index; a file that `headers`
    does not list is absent, one that `signals` does not list was not decoded. None: not looked at.
    """
    names = ["role", "dataset", "recording", "path", "duration_s", "start_s", "end_s"]
    every = pd.concat([rows[names], *(t[names] for t in stages.values())], ignore_index=True)
    every["path"] = every["path"].astype(str)
    files = every.drop_duplicates("path").set_index("path")
    known = files.index.isin(headers.index) if headers is not None else np.zeros(len(files), bool)
    found = _joined(files, headers)
    heard = _joined(files, signals)
    readable = found[found["reason"] == ""] if len(found) else found
    from_header = readable["found_s"] if len(readable) else pd.Series(dtype=float)
    lengths = _lengths(every, from_header)
    absent = files[~known] if headers is not None else files[:0]
    return Files(
        len(files),
        len(found),
        int((heard["reason"] == "").sum()) if len(heard) else 0,
        absent[["role", "dataset", "recording"]].reset_index(drop=True),
        _bad(found, heard),
        _formats(readable),
        lengths,
        summarise_lengths(lengths),
        _off(readable),
        _loudness(heard),
    )


def _joined(files: pd.DataFrame, facts: pd.DataFrame | None) -> pd.DataFrame:
    if facts is None or facts.empty:
        return files[:0]
    renamed = facts.rename(columns={"duration_s": "found_s"})
    return files.join(renamed[~renamed.index.duplicated()], how="inner")


def _bad(found: pd.DataFrame, heard: pd.DataFrame) -> pd.DataFrame:
    parts = [part[part["reason"] != ""] for part in (found, heard) if len(part)]
    if not parts:
        return pd.DataFrame(columns=list(BAD))
    bad = pd.concat([part[list(BAD)] for part in parts])
    return bad[~bad.index.duplicated()].sort_values(["dataset", "recording"]).reset_index(drop=True)


def _formats(readable: pd.DataFrame) -> pd.DataFrame:
    if readable.empty:
        return pd.DataFrame(columns=list(FORMATS))
    columns = ["sample_rate_hz", "codec", "channels"]
    mix = readable.astype({"sample_rate_hz": np.int64, "channels": np.int64})
    table = mix.groupby(columns, sort=True).size().rename("n_files").reset_index()
    table["share"] = table["n_files"] / len(readable)
    return table.sort_values("n_files", ascending=False, kind="stable").reset_index(drop=True)


def _lengths(every: pd.DataFrame, from_header: pd.Series) -> pd.DataFrame:
    duration = every["path"].map(from_header).astype(np.float64).fillna(every["duration_s"])
    end, start = every["end_s"].fillna(duration), every["start_s"].fillna(0.0)
    return every[["role", "dataset"]].assign(length_s=(end - start).astype(np.float64))


def summarise_lengths(lengths: pd.DataFrame) -> pd.DataFrame:
    """A row per role and data set: n_rows, n_unknown, total_h, short_share, long_share, quantiles.

    Shares and quantiles (`q0`, `q0.01`, ... in seconds) are over the rows of known length, NaN
    without one.
    """
    lines = []
    for (role, dataset), part in lengths.groupby(["role", "dataset"], sort=False):
        values: npt.NDArray[np.float64] = part["length_s"].to_numpy(np.float64)
        values = values[~np.isnan(values)]
        nothing = [float("nan")] * len(QUANTILES)
        quantiles = np.quantile(values, QUANTILES).tolist() if len(values) else nothing
        lines.append(
            {
                "role": role,
                "dataset": dataset,
                "n_rows": len(part),
                "n_unknown": len(part) - len(values),
                "total_h": float(values.sum() / 3600),
                "short_share": float((values < SHORT_S).mean()) if len(values) else float("nan"),
                "long_share": float((values > LONG_S).mean()) if len(values) else float("nan"),
                **{f"q{q:g}": value for q, value in zip(QUANTILES, quantiles, strict=True)},
            }
        )
    return pd.DataFrame(lines)


def _off(readable: pd.DataFrame) -> pd.DataFrame:
    if readable.empty:
        return pd.DataFrame(columns=list(OFF))
    stated, header = readable["duration_s"], readable["found_s"].astype(np.float64)
    gap = (stated - header).abs()
    off = readable[(gap > OFF_S) & (gap > OFF_SHARE * header)]
    table = off.rename(columns={"duration_s": "stated_s", "found_s": "header_s"})
    return table[list(OFF)].sort_values(["dataset", "recording"]).reset_index(drop=True)


def _loudness(heard: pd.DataFrame) -> pd.DataFrame:
    if heard.empty:
        return pd.DataFrame(columns=list(LOUDNESS))
    table = heard[heard["reason"] == ""].copy()
    dead = table["peak"] == 0
    silent = ~dead & (table["silent_share"] > SILENT_SHARE)
    clipped = table["clipped_share"] > CLIPPED_SHARE
    table["verdict"] = np.select([dead, silent, clipped], ["all zero", "silent", "clipped"], "")
    return table[list(LOUDNESS)].reset_index(drop=True)
