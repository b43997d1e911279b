"""Rows to train on or to score: a table with the waveform of each row, and what identifies it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.catalog import recordist_keys
from birdlab.data.classes import ClassList
from birdlab.sed.targets import Targets


@dataclass(frozen=True, eq=False)
class Rows:
    """A table to train on: its rows, one content line per row, the key of each waveform.

    A key is None where the audio file is missing.
    """

    table: pd.DataFrame
    keys: tuple[str | None, ...]

    @cached_property
    def names(self) -> npt.NDArray[np.object_]:
        """Each row's recording, with the part of it where the row is only a part."""
        names: npt.NDArray[np.object_] = self.table["recording"].to_numpy(object).copy()
        for row in np.flatnonzero(~np.isnan(self.spans_s).all(axis=1)):
            start, end = self.spans_s[row]
            names[row] += f"[{np.nan_to_num(start):g}-{'' if np.isnan(end) else f'{end:g}'}]"
        return names

    @cached_property
    def spans_s(self) -> npt.NDArray[np.float64]:
        """The used part of each recording, [N, 2] seconds; NaN for its own start or end."""
        spans: npt.NDArray[np.float64] = self.table[["start_s", "end_s"]].to_numpy(np.float64)
        return spans

    @cached_property
    def lines(self) -> npt.NDArray[np.object_]:
        """What identifies each row: id and part, labels, waveform."""
        columns = (self.table[c] for c in ("primary_label", "secondary_labels"))
        marks = np.where(self.table["apart"], "\x1fapart", "")
        lines = [
            "\x1f".join((name, label, ",".join(also), key or "missing")) + mark
            for name, label, also, key, mark in zip(
                self.names, *columns, self.keys, marks, strict=True
            )
        ]
        return np.asarray(lines, object)

    @cached_property
    def recordists(self) -> npt.NDArray[np.object_]:
        """Who made each row's recording: the author without case and outer spaces.

        Where the author is not known it is the recording, as if someone had made it alone.
        """
        authors = recordist_keys(self.table["author"])
        found: npt.NDArray[np.object_] = authors.where(authors != "", self.table["recording"])
        return np.asarray(found, object)

    @cached_property
    def places(self) -> npt.NDArray[np.float64]:
        """Where each row's recording was made, [N, 2] latitude and longitude in degrees.

        NaN for both where it is not known.
        """
        places: npt.NDArray[np.float64] = self.table[["latitude", "longitude"]].to_numpy(np.float64)
        known = (np.abs(places[:, 0]) <= 90) & (np.abs(places[:, 1]) <= 180)
        return np.where(known[:, None], places, np.nan)

    @cached_property
    def made_digest(self) -> str:
        """A hash over who made the recordings of all rows in order, and where.

        Ids of rows hold neither.
        """
        found = hashlib.sha256("\x1f".join(self.recordists).encode())
        found.update(np.ascontiguousarray(self.places).tobytes())
        return found.hexdigest()[:16]

    def with_keys(self) -> pd.DataFrame:
        """The table with the key of each waveform in a column `key`, "" where it is missing."""
        return self.table.assign(key=[key or "" for key in self.keys])

    def digest(self, chosen: npt.NDArray[np.int64]) -> str:
        """A hash over the chosen rows in order."""
        key = chosen.tobytes()
        if key not in self._digests:
            text = "\n".join(self.lines[chosen])
            self._digests[key] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._digests[key]

    def targets(self, classes: ClassList, secondary: float | Literal["mask"]) -> Targets:
        """The labels of all rows as columns of `classes`.

        Secondary labels that are no class are left out. Raises DataError for primary labels
        that are none.
        """
        if classes.digest not in self._targets:
            also = [
                [classes.index[label] for label in labels if label in classes]
                for labels in self.table["secondary_labels"]
            ]
            self._targets[classes.digest] = Targets(
                classes.columns(self.table["primary_label"]),
                np.concatenate([[0], np.cumsum([len(a) for a in also])]).astype(np.int64),
                np.fromiter((c for columns in also for c in columns), np.int32),
                len(classes),
            )
        return replace(self._targets[classes.digest], secondary=secondary)

    @cached_property
    def _digests(self) -> dict[bytes, str]:
        return {}

    @cached_property
    def _targets(self) -> dict[str, Targets]:
        return {}
