"""The tables of a lab with its blends as runs of their own."""

from __future__ import annotations

import functools

from birdlab.infer.models import list_models
from birdlab.lab import Lab
from birdlab.recorded import load_record
from birdlab.runtables import load_fold_tables
from birdlab.study.species import FoldTables
from birdlab.study.submission_blends import BlendedTables, Read, add_blends
from birdlab.study.tables import StudyTables

KEPT = 12
"""How many runs are held in memory; their outputs can be 70 MB a run."""


def load_blends(lab: Lab, tables: StudyTables, read: Read) -> BlendedTables:
    """The tables with the blends of the ledger and the promoted ones, see `add_blends`.

    Raises PredictError for a promoted model whose card cannot be read.
    """
    return add_blends(tables, list_models(lab.models), read)


def stored_reader(lab: Lab) -> Read:
    """What gives the held-out tables of a run from its stored outputs; the last 12 are kept."""

    @functools.lru_cache(maxsize=KEPT)
    def read(run: str) -> FoldTables:
        return load_fold_tables(lab, load_record(lab, run))

    return read
