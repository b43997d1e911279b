"""What the pages read of a lab, each file once as long as it stays as it is."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from birdlab.errors import BirdlabError, ResolveError
from birdlab.evaluate.score import FoldTable
from birdlab.lab import Lab
from birdlab.recorded import (
    in_order,
    is_ledger_line,
    load_record,
    load_record_file,
    record_paths,
)
from birdlab.runtables import load_curves, load_fold_tables, load_table, tables_folder
from birdlab.study.blend_tables import load_blends
from birdlab.study.effects import load_effects
from birdlab.study.ledger import load_ledger
from birdlab.study.noise import NoiseFloor
from birdlab.study.noise_file import load_noise
from birdlab.study.other_effects import prior_of
from birdlab.study.output_likeness import Likeness, measure_likeness
from birdlab.study.overview import find_unscored, load_unscored
from birdlab.study.shrinkage import EffectPrior
from birdlab.study.submission_blends import BlendedTables
from birdlab.study.sweep_records import load_sweep_record
from birdlab.study.tables import StudyTables
from birdlab.tracking.index import load_cells, load_runs
from birdlab.tracking.resolve import resolve_run

FRESH_S = 5.0
"""Files are looked at again after this many seconds: one click asks for the same several times."""
KEPT = 12
"""How many tables of single runs are kept of each kind; stored outputs can be 20 MB a run."""

T = TypeVar("T")


class LabSource:
    """The tables of a lab, and what single runs hold when a page asks for it.

    Everything is kept while the files it comes from stay as they are. What is returned is shared:
    pages never change it. A run is named by its spec_id as in `tables().runs`; ResolveError for
    one that is not there. Safe to call from several threads.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.version = 0
        """How often the tables were read: what is worked out from them is kept while it stays."""
        self._lock = threading.RLock()
        self._looked_at = float("-inf")
        self._held: tuple[object, StudyTables] | None = None
        self._records: dict[str, tuple[object, dict[str, Any]]] = {}
        self._kept: dict[str, OrderedDict[Any, Any]] = {}
        self._reading: dict[tuple[str, object], threading.RLock] = {}

    def tables(self) -> StudyTables:
        """Runs, cells and ledger; files are looked at every 5 s, and read where they changed."""
        with self._lock:
            now = time.monotonic()
            if self._held is None or now - self._looked_at > FRESH_S:
                state = self.state()
                if self._held is None or self._held[0] != state:
                    self._held = (state, self.read_tables())
                    self.version += 1
                self._looked_at = now
            return self._held[1]

    def state(self) -> object:
        """What is equal as long as no file that `read_tables` reads was written."""
        return [_stamp(path) for path in (*sorted(self.lab.runs.glob("*.json")), self.lab.ledger)]

    def read_tables(self) -> StudyTables:
        """Runs, cells and ledger; of the records only those that were written since are read."""
        held: dict[str, tuple[object, dict[str, Any]]] = {}
        for path in record_paths(self.lab):
            stamp, known = _stamp(path), self._records.get(path.name)
            if known is None or known[0] != stamp:
                known = (stamp, load_record_file(path))
            held[path.name] = known
        self._records = held
        records = in_order(record for _, record in held.values())
        return StudyTables(
            load_runs(self.lab, records=records),
            load_cells(self.lab, records=records),
            load_ledger(self.lab.ledger),
        )

    def unscored(self) -> pd.DataFrame:
        """The finished cells that no run scores; their cards are read when one was written."""
        paths = find_unscored(self.lab, self.tables().cells)
        state = [(path.parent.name, _stamp(path)) for path in paths]
        return self.keep("unscored", "", state, lambda: load_unscored(paths))

    def sweeps(self) -> Mapping[str, Mapping[str, Any]]:
        """The record of every sweep by name, of those that can be read."""
        return self._sweep_records()[0]

    def unread_sweeps(self) -> Mapping[str, str]:
        """The sweeps whose record cannot be read, with the reason."""
        return self._sweep_records()[1]

    def _sweep_records(self) -> tuple[Mapping[str, Mapping[str, Any]], Mapping[str, str]]:
        folder = self.lab.stores / "sweeps"
        paths = sorted(folder.glob("*.json"))

        def read() -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
            found: dict[str, Mapping[str, Any]] = {}
            unread: dict[str, str] = {}
            for path in paths:
                try:
                    found[path.stem] = load_sweep_record(self.lab, path.stem)
                except BirdlabError as error:
                    unread[path.stem] = error.what
            return found, unread

        return self.keep("sweeps", "", [_stamp(path) for path in paths], read)

    def record(self, run: str) -> Mapping[str, Any]:
        """The record of a run."""
        return self.of_run("record", run, lambda: load_record(self.lab, run))

    def has_record(self, run: str) -> bool:
        """Whether the record of a run is there now; it may have been removed since `tables`."""
        return (self.lab.runs / f"{run}.json").is_file()

    def champions(self) -> list[str]:
        """The runs that were promoted as the champion; none where there is none, or are several."""

        def read() -> list[str]:
            try:
                return [str(resolve_run(self.lab, "@champion")["spec_id"])]
            except ResolveError:
                return []

        self.tables()
        state = self.version, _stamp(self.lab.models / "aliases.json")
        return self.keep("champions", "", state, read)

    def blended(self) -> BlendedTables:
        """`tables()` with the blends of the ledger and the promoted ones as runs of their own."""
        tables = self.tables()
        cards = [_stamp(path) for path in sorted(self.lab.models.glob("*/card.json"))]
        state = self.version, cards
        return self.keep(
            "blended", "", state, lambda: load_blends(self.lab, tables, self.fold_tables)
        )

    def likeness(self, runs: tuple[str, ...]) -> Likeness:
        """How alike the outputs of runs and blends are; DataError where that cannot be had."""
        read = self.blended().reader(self.fold_tables)
        return self.keep("likeness", runs, self.version, lambda: measure_likeness(runs, read))

    def classes(self, run: str) -> pd.DataFrame:
        """code, support, ap and auc of each class of a run; no rows where they are not stored."""
        folder = tables_folder(self.lab, run)
        return self.of_run("classes", run, lambda: load_table(folder, "classes"))

    def curves(self, run: str) -> pd.DataFrame:
        """What each epoch of each cell said: stage, fold, seed, epoch, loss and more."""
        cells = [cell["cell_id"] for cell in self.record(run)["cells"]]
        return self.of_run("curves", run, lambda: load_curves(self.lab, cells))

    def recordists(self, run: str) -> Mapping[str, str]:
        """Who made each recording that a run was validated on; empty where its record is older."""
        return self.of_run("recordists", run, lambda: _recordists(self.lab, run))

    def noise(self, rows_hash: str, classes_hash: str) -> NoiseFloor | None:
        """The noise floor of data, None where none was measured."""
        state = [_stamp(path) for path in sorted((self.lab.stores / "noise").glob("*.json"))]
        key = rows_hash, classes_hash
        return self.keep("noise", key, state, lambda: load_noise(self.lab, *key))

    def effects(self) -> pd.DataFrame:
        """What every sweep of the lab found, kept until a sweep ends or a run changes."""
        ended = [(name, record.get("updated_at")) for name, record in self.sweeps().items()]
        return self.keep("effects", "", (ended, self.state()), lambda: load_effects(self.lab))

    def prior(self, sweep: str, rows_hash: str) -> EffectPrior | None:
        """How the effects of other sweeps than this one are distributed; None for too few."""
        return prior_of(self.effects(), rows_hash, besides=sweep)

    def fold_tables(self, run: str) -> Mapping[tuple[int, int], FoldTable]:
        """Truth and deployed probabilities by (fold, seed); empty for a run without outputs.

        Raises OutputsError for a run that has lost those of some of its cells.
        """

        def read() -> Mapping[tuple[int, int], FoldTable]:
            if not self.has_record(run) or not _has_outputs(self.record(run)):
                return {}
            return load_fold_tables(self.lab, self.record(run))

        return self.of_run("fold_tables", run, read)

    def of_run(self, kind: str, run: str, read: Callable[[], T]) -> T:
        """What `read` returns, kept while the record of the run stays as it is."""
        if run not in set(self.tables().runs["run"]):
            raise ResolveError(
                "there is no such run in this lab",
                got=run,
                fix="birdlab runs lists those that there are",
            )
        return self.keep(kind, run, _stamp(self.lab.runs / f"{run}.json"), read)

    def keep(self, kind: str, key: object, state: object, read: Callable[[], T]) -> T:
        """What `read` returned when `state` was the same; else it is read now.

        The 12 values of a kind that were asked for last are kept. Who asks for another value does
        not wait while one is read.
        """
        with self._lock:
            reading = self._reading.setdefault((kind, key), threading.RLock())
        with reading:
            with self._lock:
                held = self._kept.setdefault(kind, OrderedDict())
                known = held.get(key)
            if known is None or known[0] != state:
                known = (state, read())
            with self._lock:
                held[key] = known
                held.move_to_end(key)
                while len(held) > KEPT:
                    held.popitem(last=False)
            value: T = known[1]
            return value


def _stamp(path: Path) -> tuple[str, int, int]:
    """The name, time and size of a file; zeros for one that is not there."""
    try:
        found = path.stat()
    except OSError:
        return path.name, 0, 0
    return path.name, found.st_mtime_ns, found.st_size


def _recordists(lab: Lab, run: str) -> dict[str, str]:
    table = load_table(tables_folder(lab, run), "recordings")
    return dict(zip(table["recording"], table["recordist"], strict=True)) if len(table) else {}


def _has_outputs(record: Mapping[str, Any]) -> bool:
    scored = any(cell.get("eval_id") is not None for cell in record["cells"])
    return scored and not is_ledger_line(record)
