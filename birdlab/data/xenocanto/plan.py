"""What a download would do: ask, choose, and compare with what is there."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from birdlab.data.catalog import Dataset
from birdlab.data.xenocanto.client import Answer, OnPage, search
from birdlab.data.xenocanto.download import files_to_fetch
from birdlab.data.xenocanto.ledger import Finished, count_labels, load_finished
from birdlab.data.xenocanto.selection import Filters, Selection, Wanted, select_recordings
from birdlab.data.xenocanto.species import SpeciesList, species_found
from birdlab.data.xenocanto.table import build_species_table
from birdlab.data.xenocanto.web import Web


@dataclass(frozen=True)
class Known:
    """What a data set has: the numbers of its Xeno-canto recordings, and rows per label."""

    name: str
    xc_ids: frozenset[str]
    counts: Mapping[str, int]


@dataclass(frozen=True)
class DownloadPlan:
    """The answer of Xeno-canto, what was chosen of it, and what the folder held before.

    `to_fetch` are those of the chosen recordings that the folder lacks, at most the limit.
    """

    answer: Answer
    species: SpeciesList
    selection: Selection
    before: Finished
    to_fetch: tuple[Wanted, ...]
    known: Known | None

    @property
    def n_here(self) -> int:
        """How many of the chosen recordings the folder holds already."""
        return sum(w.recording.xc_id in self.before for w in self.selection.wanted)

    @property
    def most_bytes(self) -> float:
        """The most that the files to fetch can take, less those of `n_unknown`."""
        return float(np.nansum([w.recording.most_bytes for w in self.to_fetch]))

    @property
    def n_unknown(self) -> int:
        """How many files to fetch have no known bound of their size."""
        return sum(math.isnan(w.recording.most_bytes) for w in self.to_fetch)

    def table(self, after: Finished) -> pd.DataFrame:
        """Recordings per species before and after, as `build_species_table` gives them."""
        counts = self.known.counts if self.known else None
        before = count_labels(self.before)
        return build_species_table(
            self.species, self.selection, before, count_labels(after), counts
        )


def known_recordings(dataset: Dataset) -> Known:
    """What a data set of the lab has, for `plan_download`."""
    rows = dataset.recordings
    return Known(
        dataset.name, frozenset(set(rows["xc_id"]) - {""}), Counter(rows["primary_label"].tolist())
    )


def plan_download(
    web: Web,
    out: Path,
    wish: SpeciesList | str,
    filters: Filters,
    *,
    known: Known | None = None,
    limit: int | None = None,
    on_page: OnPage | None = None,
) -> DownloadPlan:
    """Ask Xeno-canto for the species of a list, or a query, and choose; nothing is written.

    With a query every species that it finds is labelled by its name in lower_snake form. Raises
    DataError as `search` does, and when a recording in `out` has another label.
    """
    queries = [wish] if isinstance(wish, str) else wish.queries
    answer = search(web, queries, on_page=on_page)
    species = species_found(answer.recordings) if isinstance(wish, str) else wish
    owner = dict.fromkeys(known.xc_ids, known.name) if known else {}
    selection = select_recordings(answer.recordings, species, filters, web.foreign, owner)
    before = load_finished(out)
    todo = files_to_fetch(selection, before, limit)
    return DownloadPlan(answer, species, selection, before, tuple(todo), known)
