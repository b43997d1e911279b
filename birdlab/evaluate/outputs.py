"""Stored outputs: what a cell leaves behind for every later score, blend and comparison.

A folder with two Parquet files. `windows.parquet`: recording, end_s, and P and M as
fixed-size lists of float32 in class order, which the schema metadata spells out.
`recordings.parquet`: recording, primary_label, secondary_labels, n_windows, and apart where a
part of some recording is in training. Further tables may lie beside them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from birdlab.data.classes import ClassList
from birdlab.errors import OutputsError
from birdlab.evaluate.predictor import Floats, WindowOutputs


@dataclass(frozen=True)
class StoredOutputs:
    """Window outputs together with the labels of their recordings, in the same order."""

    windows: WindowOutputs
    labels: pd.DataFrame

    @property
    def classes(self) -> ClassList:
        """The scored classes in column order."""
        return ClassList(self.windows.codes)


def save_outputs(
    folder: Path, stored: StoredOutputs, beside: Mapping[str, pd.DataFrame] | None = None
) -> None:
    """Write the outputs into `folder`, which appears whole or not at all.

    `beside` are further tables by name, see `load_table`.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    w = stored.windows
    table = pa.table(
        {
            "recording": pa.array(np.asarray(w.recordings, object)[w.recording_index]),
            "end_s": pa.array(w.end_s),
            "P": _lists(w.clip_probs),
            "M": _lists(w.time_max),
        }
    ).replace_schema_metadata({"classes": json.dumps(list(w.codes))})
    options = {"compression": "zstd", "use_byte_stream_split": ["P.list.element", "M.list.element"]}
    pq.write_table(table, temporary / "windows.parquet", use_dictionary=["recording"], **options)
    labels = stored.labels.assign(
        secondary_labels=[list(labels) for labels in stored.labels["secondary_labels"]],
        n_windows=np.bincount(w.recording_index, minlength=len(w.recordings)),
    )
    labels.to_parquet(temporary / "recordings.parquet", index=False)
    for name, beside_table in (beside or {}).items():
        beside_table.to_parquet(temporary / f"{name}.parquet", index=False)
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)


def load_outputs(folder: Path) -> StoredOutputs:
    """The outputs in `folder`; OutputsError when they are missing or unreadable."""
    try:
        table = pq.read_table(folder / "windows.parquet")
        labels = pd.read_parquet(folder / "recordings.parquet")
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(folder, error) from None
    try:
        return _joined(table, labels)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # not what we write
        raise _unreadable(folder, error) from None


def _joined(table: pa.Table, labels: pd.DataFrame) -> StoredOutputs:
    """What the two tables say; KeyError, TypeError or the like where they are none of ours."""
    codes = tuple(json.loads(table.schema.metadata[b"classes"]))
    recordings = tuple(labels["recording"])
    place = {name: i for i, name in enumerate(recordings)}
    index = [place[name] for name in table["recording"].to_pylist()]
    labels["secondary_labels"] = [tuple(labels) for labels in labels["secondary_labels"]]
    columns = ["recording", "primary_label", "secondary_labels", "apart"]
    return StoredOutputs(
        WindowOutputs(
            recordings,
            codes,
            np.asarray(index, np.int64),
            table["end_s"].to_numpy(),
            _matrix(table["P"], len(codes)),
            _matrix(table["M"], len(codes)),
        ),
        labels[[column for column in columns if column in labels]],
    )


def load_table(folder: Path, name: str) -> pd.DataFrame:
    """A table that was saved beside outputs; OutputsError when it is missing or unreadable."""
    try:
        return pd.read_parquet(folder / f"{name}.parquet")
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(folder, error) from None


def _unreadable(folder: Path, error: Exception) -> OutputsError:
    return OutputsError(
        "stored outputs cannot be read",
        where=str(folder),
        got=f"{type(error).__name__}: {error}",
        fix="run the experiment again: finished cells are kept, missing outputs are made",
    )


def _lists(matrix: Floats) -> pa.FixedSizeListArray:
    flat = pa.array(np.ascontiguousarray(matrix, np.float32).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])


def _matrix(column: pa.ChunkedArray, n_columns: int) -> Floats:
    chunks = [np.asarray(chunk.flatten()) for chunk in column.chunks]
    flat = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    return flat.astype(np.float32, copy=False).reshape(len(column), n_columns)
