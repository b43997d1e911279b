"""The label suspects of a page: of a run together with the others that were scored on its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from birdlab.errors import OutputsError, ResolveError
from birdlab.evaluate.evidence import Cell
from birdlab.study.run_choice import alike, name_runs, runs_with_cells
from birdlab.study.species import FoldTables
from birdlab.study.suspect_evidence import Networks
from birdlab.study.suspects import Suspects, find_suspects
from birdlab.study.tables import StudyTables

MOST_RUNS = 8
"""A page waits for what it reads: the newest so many speak, the command asks all."""


@dataclass(frozen=True, eq=False)
class SuspectsView:
    """The suspects, the runs that were asked by spec id, and what is to be said of them."""

    suspects: Suspects
    runs: Mapping[str, str]
    sentences: tuple[str, ...]

    @property
    def command(self) -> str:
        """How the list is written as a file."""
        return f"birdlab suspects {' '.join(self.runs)} --csv lists/suspects.csv"


def judging_runs(tables: StudyTables, run: str) -> dict[str, str]:
    """The run and the newest others on its rows, classes and folds: names by spec id."""
    runs = runs_with_cells(tables)
    chosen = [run, *alike(runs, run)["run"]][:MOST_RUNS]
    names = name_runs(runs)
    return {str(one): names[one] for one in chosen}


def _networks(tables: StudyTables, names: Mapping[str, str]) -> Networks:
    """Which cells speak for runs, by name and (fold, seed)."""
    found: dict[str, dict[Cell, str]] = {name: {} for name in names.values()}
    cells = tables.cells[tables.cells["run"].isin(set(names))]
    for row in cells[cells["fold"].notna()].itertuples():
        found[names[str(row.run)]][int(row.fold), int(row.seed)] = str(row.cell_id)
    return found


def build_suspects_view(
    tables: StudyTables, read: Callable[[str], FoldTables], run: str
) -> SuspectsView:
    """What the models of `run` and of those like it say against labels.

    `read` gives the out-of-fold tables of a run. One whose outputs are gone is left out and named.
    """
    names, own, gone = judging_runs(tables, run), dict[str, FoldTables](), []
    for spec_id, name in names.items():
        try:
            found = read(spec_id)
        except (OutputsError, ResolveError):
            found = {}
        if found:
            own[name] = found
        else:
            gone.append(f"The stored outputs of {name} are gone.")
    suspects = find_suspects(own, _networks(tables, names))
    kept = {spec_id: name for spec_id, name in names.items() if name in own}
    return SuspectsView(suspects, kept, (*suspects.sentences, *gone))
