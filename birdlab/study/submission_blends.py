"""Submissions of several runs as runs of their own: their CV from stored held-out outputs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from birdlab.errors import BirdlabError, DataError
from birdlab.evaluate.blends import blend_members
from birdlab.evaluate.evidence import Cell, FoldTable
from birdlab.evaluate.metrics import clamp_probs
from birdlab.evaluate.score import score_fold
from birdlab.infer.models import PromotedModel
from birdlab.study.blend_recipes import Recipe, list_recipes, word_blend_error
from birdlab.study.species import FoldTables
from birdlab.study.tables import COMPARABLE, StudyTables
from birdlab.words import count_words, list_some

Read = Callable[[str], FoldTables]
SCORES = ("padded_cmap", "macro_auc")
MOST_WORK = 1.5e9
"""Probabilities of all members of all blends: about half a minute on one core."""


@dataclass(frozen=True, eq=False)
class BlendedTables:
    """Tables in which blends are runs with a CV score and cells, and their submissions theirs.

    recipes: of the blends that were added; told: how they were scored; left_out: which were not,
    and why.
    """

    tables: StudyTables
    recipes: tuple[Recipe, ...] = ()
    told: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    def find(self, text: str) -> str | None:
        """The id of the blend of this name, or of which this is the id of a submission or its
        start; None for none or several."""
        names = {recipe.run for recipe in self.recipes if text in (recipe.name, recipe.run)}
        ours = self.tables.ledger[self.tables.ledger["run"].isin([r.run for r in self.recipes])]
        rows = ours.loc[[bool(text) and str(i).startswith(text) for i in ours["id"]], "run"]
        found = names or set(rows)
        return str(found.pop()) if len(found) == 1 else None

    def reader(self, read: Read) -> Read:
        """What gives the held-out tables of a blend too, where `read` gives those of a run."""
        blends = {recipe.run: recipe for recipe in self.recipes}

        def read_any(run: str) -> FoldTables:
            recipe = blends.get(run)
            if recipe is None:
                return read(run)
            return blend_cells(recipe, [read(member) for member in recipe.members])

        return read_any


def add_blends(
    tables: StudyTables,
    models: Iterable[PromotedModel],
    read: Read,
    *,
    most_work: float = MOST_WORK,
) -> BlendedTables:
    """The tables with each blend of the ledger, and each promoted one, as a run of its own.

    `read` gives the held-out tables of a run by (fold, seed). A submission that names a promoted
    model is blended as its card says, another as the mean of equal shares. The newest go first;
    no more than `most_work` probabilities are read.
    """
    by_name = {model.name: model for model in models}
    known = {str(row["run"]): row for row in tables.runs.to_dict("records")}
    recipes, of_row, left_out = list_recipes(tables.ledger, by_name)
    rows: list[dict[str, Any]] = []
    cells: list[dict[Hashable, Any]] = []
    done: dict[str, Recipe] = {}
    work = 0.0
    for recipe in recipes:
        try:
            work += _check_members(recipe, known)
            if work > most_work:
                raise DataError("too many blends for one command", fix="name those to pick from")
            found = score_blend(recipe, [read(run) for run in recipe.members])
        except BirdlabError as error:
            left_out.append(word_blend_error(recipe.name, error))
            continue
        done[recipe.run] = recipe
        rows.append(_build_run(recipe, [known[run] for run in recipe.members], found))
        cells += found.assign(run=recipe.run, name=recipe.name).to_dict("records")
    ledger = tables.ledger.copy()
    for place, run in of_row.items():
        if run in done:
            ledger.at[place, "run"] = run
            ledger.at[place, "members"] = [run]
    added = StudyTables(_join(tables.runs, rows), _join(tables.cells, cells), ledger)
    return BlendedTables(added, tuple(done.values()), _word_done(done.values()), tuple(left_out))


def score_blend(recipe: Recipe, members: Sequence[FoldTables]) -> pd.DataFrame:
    """fold, seed and SCORES of the blend of held-out tables, a row per cell of `blend_cells`."""
    rows = []
    for (fold, seed), table in blend_cells(recipe, members).items():
        scored = score_fold(table)
        scores = {name: getattr(scored, name) for name in SCORES}
        rows.append({"fold": fold, "seed": seed, **scores})
    return pd.DataFrame(rows)


def blend_cells(recipe: Recipe, members: Sequence[FoldTables]) -> dict[Cell, FoldTable]:
    """The held-out tables of a blend by fold and number of the seed.

    The first seeds of all members make the first blend, the second ones the second, up to the
    smallest number of seeds: so a blend has as many seeds in it as a run, and no more. Raises
    DataError for members that were not scored on the same recordings and classes fold by fold.
    """
    if not all(members):
        raise DataError("a member has no stored held-out outputs", fix="run its experiment again")
    folds = [sorted({fold for fold, _ in own}) for own in members]
    seeds = [sorted({seed for _, seed in own}) for own in members]
    if any(own != folds[0] for own in folds):
        raise _apart(f"folds {' and '.join(sorted({str(own) for own in folds}))}")
    found = {}
    for fold in folds[0]:
        for k in range(min(map(len, seeds))):
            parts = [own[fold, seed[k]] for own, seed in zip(members, seeds, strict=True)]
            first = parts[0]
            for part in parts[1:]:
                if part.recordings != first.recordings or part.codes != first.codes:
                    raise _apart(f"other recordings or classes in fold {fold}")
                if not np.array_equal(part.targets, first.targets):
                    raise _apart(f"other labels in fold {fold}")
            probs = blend_members([part.probs for part in parts], recipe.blend, recipe.shares)
            found[fold, k] = replace(first, probs=clamp_probs(probs))
    return found


def _check_members(recipe: Recipe, known: Mapping[str, Mapping[str, Any]]) -> float:
    """The number of probabilities of all members; DataError for members that do not compare."""
    gone = [run for run in recipe.members if run not in known]
    if gone:
        raise DataError(
            "a member is not among the runs of the lab",
            got=", ".join(gone),
            fix="import its run: birdlab import ARCHIVE",
        )
    own = [known[run] for run in recipe.members]
    for column in COMPARABLE:
        values = {str(row[column]) for row in own}
        if len(values) > 1:
            raise _apart(f"{column} {', '.join(sorted(values))}")
    sizes = [row.get("n_rows", 0) * row.get("n_classes", 0) * row["n_seeds"] for row in own]
    return float(np.nan_to_num(np.array(sizes, dtype=float)).sum())


def _apart(got: str) -> DataError:
    return DataError(
        "its members were not scored on the same recordings and classes, fold by fold",
        got=got,
        fix="run the member that differs with the folds and data of the others",
    )


def _build_run(
    recipe: Recipe, members: Sequence[Mapping[str, Any]], found: pd.DataFrame
) -> dict[str, Any]:
    """The row of a blend among the runs: what its members have in common, and its own scores."""
    folds = found.groupby("fold")[list(SCORES)].mean()
    row = {
        name: members[0][name]
        for name in (*COMPARABLE, "project", "metric", "floor", "n_rows", "n_classes")
        if name in members[0]
    }
    for name in ("split", "checkpoint", "family"):
        values = {str(member.get(name, "")) for member in members}
        row[name] = values.pop() if len(values) == 1 else ("blend" if name == "family" else "")
    row["chosen"] = next((str(m["chosen"]) for m in members if m.get("chosen")), "")
    row |= {"run": recipe.run, "name": recipe.name, "lineage": "", "status": "finished"}
    row |= {"delta": str(recipe.blend), "sweeps": [], "stopped_at": ""}
    row["n_seeds"] = found["seed"].nunique()
    row |= {f"cv/{name}": float(folds[name].mean()) for name in SCORES}
    if len(folds) > 1:
        row |= {f"cv/{name}_sd": float(folds[name].std(ddof=1)) for name in SCORES}
    return row


def _join(table: pd.DataFrame, more: Sequence[Mapping[Any, Any]]) -> pd.DataFrame:
    """The table with more rows, its columns as they were."""
    if not more:
        return table
    listed = [*table.to_dict("records"), *more]
    return pd.DataFrame(listed, columns=list(table.columns))


def _word_done(recipes: Iterable[Recipe]) -> tuple[str, ...]:
    given: list[str] = []
    assumed: list[str] = []
    for recipe in recipes:
        (assumed if recipe.assumed else given).append(recipe.name)
    words = []
    if given:
        words.append(
            f"{count_words(len(given), 'blend')} with a CV score of the blend and shares of the "
            f"promoted model: {list_some(given)}."
        )
    if assumed:
        words.append(
            f"{count_words(len(assumed), 'blend')} with a CV score as the mean of equal shares, "
            f"since no promoted model is named that says more: {list_some(assumed)}."
        )
    return tuple(words)
