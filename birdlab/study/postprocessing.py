"""What steps of post-processing are worth: scores of stored windows with and without them.

The windows of labelled files are changed by each step alone and by the whole chain, made into the
rows that are scored, and compared with the rows without any step. Intervals are over files, by
`recordings.weigh_recordists`. The model is held fixed, so that nothing is trained.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.errors import SpecError
from birdlab.evaluate.evidence import Cell, FoldTable
from birdlab.evaluate.metrics import MIN_POSITIVES
from birdlab.evaluate.postprocess import (
    RANKED_WITHIN_CLASS,
    apply_steps,
    deployed_steps,
    why_unchanged,
)
from birdlab.evaluate.steps import title_of, to_mappings
from birdlab.evaluate.windows import pool_recordings
from birdlab.spec.postprocess import PostStep
from birdlab.study.post_choice import NONE, HalfChoice, Tables, choose_on_halves, mean_score
from birdlab.study.recordings import (
    MIN_RECORDISTS,
    Measure,
    RecordingInterval,
    weigh_recordists,
    weighted_aucs,
    weighted_precisions,
)

Steps = Sequence[Mapping[str, Any]]
CHAIN = "the whole chain"
MEASURES: dict[str, Measure] = {
    "padded_cmap": weighted_precisions,
    "macro_auc": weighted_aucs,
    "cmap_min5": functools.partial(weighted_precisions, n_pad=0),
}
"""How the classes of each metric are scored when rows have weights."""


@dataclass(frozen=True, eq=False)
class LabelledWindows:
    """What one model says of the windows of labelled files, and the truth of the rows they become.

    probs: [W, C] float32; file: [W] the file of each window, rising; end_s: [W]; row: [W] the
    scored row that a window counts for, -1 for none; a row is the maximum of its windows. rows:
    names [R]; targets: [R, C] bool; group: what rows hang together by, by their names (file or
    recordist).
    """

    codes: tuple[str, ...]
    probs: npt.NDArray[np.float32]
    file: npt.NDArray[np.int64]
    end_s: npt.NDArray[np.float64]
    window_s: float
    row: npt.NDArray[np.int64]
    rows: tuple[str, ...]
    targets: npt.NDArray[np.bool_]
    group: Mapping[str, str]

    def table(self, steps: Steps) -> FoldTable:
        """The scored rows after the steps, as `birdlab predict` would have them."""
        really = deployed_steps(steps, self.end_s, self.window_s)
        probs = apply_steps(self.probs, self.file, self.end_s, self.codes, really)
        scored = self.row >= 0
        return FoldTable(
            self.rows,
            self.codes,
            np.zeros(len(self.rows), np.int64),
            self.targets,
            pool_recordings(probs[scored], self.row[scored]),
        )


@dataclass(frozen=True)
class PostScore:
    """One step, or the whole chain: its score, and how much more that is than without.

    interval: of the difference over other files, as the folds' means; None where it cannot differ
    or there are fewer than MIN_RECORDISTS files.
    unchanged: why it cannot change the metric, in words; "" where it may.
    """

    title: str
    score: float
    delta: float
    interval: RecordingInterval | None
    unchanged: str


@dataclass(frozen=True)
class PostScores:
    """The scores of some steps on labelled files.

    base: without any step; n_groups: how many files or recordists the rows come from, which are
    what intervals and halves are over; choice: None where less than two could change anything.
    """

    metric: str
    base: float
    steps: tuple[PostScore, ...]
    n_rows: int
    n_groups: int
    n_models: int
    choice: HalfChoice | None


def score_steps(
    cells: Mapping[Cell, LabelledWindows],
    steps: Sequence[PostStep],
    metric: str = "padded_cmap",
    *,
    n_draws: int = 500,
) -> PostScores:
    """What each of the steps alone and all of them in a row are worth.

    `cells` has the windows by (fold, seed) of the model, all with equal codes; scores are means
    over folds of means over seeds. Raises SpecError for a metric that is not one of
    RANKED_WITHIN_CLASS or no step, OutputsError where the metric has no class to count.
    """
    if metric not in RANKED_WITHIN_CLASS:
        raise SpecError("unknown metric", got=metric, expected=", ".join(RANKED_WITHIN_CLASS))
    if not steps:
        raise SpecError(
            "there is no step to score", fix="name some: --step smooth, or --steps FILE"
        )
    tried: dict[str, Steps] = {title_of(step): to_mappings([step]) for step in steps}
    if len(steps) > 1:
        tried[CHAIN] = to_mappings(steps)
    group = {name: of for windows in cells.values() for name, of in windows.group.items()}
    base = _tables(cells, [])
    base_score = mean_score(base, metric)
    live, scored = {NONE: base}, []
    for title, chain in tried.items():
        tables, unchanged = _tables(cells, chain), _why_unchanged(cells, chain, metric)
        score = mean_score(tables, metric)
        if score != base_score:
            unchanged = ""  # float32 made ties of values that lie close, or near 0
        interval = None if unchanged else _interval(base, tables, group, metric, n_draws)
        scored.append(PostScore(title, score, score - base_score, interval, unchanged))
        if not unchanged:
            live[title] = tables
    folds = {fold: windows for (fold, _), windows in cells.items()}.values()
    return PostScores(
        metric,
        base_score,
        tuple(scored),
        len({name for w in folds for name in w.rows}),
        len({group[name] for w in folds for name in w.rows}),
        len(cells),
        choose_on_halves(live, group, metric) if len(live) > 2 else None,
    )


def _tables(cells: Mapping[Cell, LabelledWindows], steps: Steps) -> dict[Cell, FoldTable]:
    return {cell: windows.table(steps) for cell, windows in cells.items()}


def _why_unchanged(cells: Mapping[Cell, LabelledWindows], steps: Steps, metric: str) -> str:
    """Why the steps cannot change the metric on these windows; "" where they may.

    Overlapping windows are averaged in any case: what comes before that is no longer a matter of
    order, and what comes after it counts alone.
    """
    first = next(iter(cells.values()))
    base = deployed_steps([], first.end_s, first.window_s)
    really = deployed_steps(steps, first.end_s, first.window_s)
    if really[: len(base)] != base:
        return ""
    if len(really) == len(base):
        return f"cannot change {metric}: overlapping windows are averaged so in any case"
    whole = all(np.array_equal(windows.row, windows.file) for windows in cells.values())
    return why_unchanged(really[len(base) :], metric, of_maxima=whole)


def _interval(
    base: Tables, tables: Tables, group: Mapping[str, str], metric: str, n_draws: int
) -> RecordingInterval | None:
    """The difference over other files; None for fewer than MIN_RECORDISTS."""
    if len(set(group.values())) < MIN_RECORDISTS:
        return None
    pairs = {cell: (_counted(base[cell], metric), _counted(tables[cell], metric)) for cell in base}
    return weigh_recordists(pairs, group, n_draws=n_draws, measure=MEASURES[metric])


def _counted(table: FoldTable, metric: str) -> FoldTable:
    """The table with the classes alone that the metric averages over."""
    n_positives = table.targets.sum(axis=0)
    counts = {
        "padded_cmap": n_positives >= 0,
        "macro_auc": (n_positives > 0) & (n_positives < len(table.targets)),
        "cmap_min5": n_positives >= MIN_POSITIVES,
    }[metric]
    codes = tuple(code for code, counted in zip(table.codes, counts, strict=True) if counted)
    return replace(
        table, codes=codes, targets=table.targets[:, counts], probs=table.probs[:, counts]
    )
