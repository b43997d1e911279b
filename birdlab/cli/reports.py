"""Results in the form that the study's reports take."""

from __future__ import annotations

import pandas as pd

from birdlab.evaluate.score import chosen_sentence
from birdlab.record import RunResult
from birdlab.spec.diff import title_of
from birdlab.study.chosen import chosen_words
from birdlab.study.report import RunReportInfo, SweepReportInfo
from birdlab.study.views import parse_setting
from birdlab.sweep.driver import SweepResult

FOLD_COLUMNS = (
    "fold",
    "seed",
    "padded_cmap",
    "macro_auc",
    "top1",
    "floor",
    "n_rows",
    "soundscapes_padded_cmap",
    "soundscapes_macro_auc",
    "soundscapes_floor",
    "soundscapes_n_windows",
    "cell_id",
)


def run_report_info(result: RunResult) -> RunReportInfo:
    """What the report of one run shows."""
    cells = result.cells
    columns = [c for c in FOLD_COLUMNS if c in cells]
    validated = cells.dropna(subset=["fold"])
    curves = result.curves.melt(
        ["fold", "seed", "stage", "epoch"], ["loss", "lr"], var_name="key"
    ).rename(columns={"epoch": "step"})
    if curves["stage"].nunique() > 1:
        curves["key"] = curves["stage"] + " " + curves["key"]
    return RunReportInfo(
        name=result.spec.name or result.note.title or result.spec_id,
        run=result.spec_id,
        delta=title_of(result.note.delta),
        metric="padded cmAP",
        scores=result.scores,
        floor=result.scores.get("cv/floor", float("nan")),
        n_rows=int(validated.drop_duplicates("fold")["n_rows"].sum()) if len(validated) else 0,
        n_classes=int(validated["n_classes"].iloc[0]) if len(validated) else 0,
        n_folds=int(validated["fold"].nunique()),
        n_seeds=int(cells["seed"].nunique()),
        folds=cells[columns],
        classes=result.classes.rename(columns={"code": "class"}),
        curves=curves[["fold", "seed", "step", "key", "value"]],
        notes=tuple(n for n in (result.spec.notes, result.spec.expect) if n),
        chosen=chosen_sentence(result.chosen),
    )


def sweep_report_info(result: SweepResult) -> SweepReportInfo | None:
    """What the report of a sweep shows; None when too few arms have a score."""
    if result.ranking is None:
        return None
    spec = result.sweep.spec
    setting, values = parse_setting({arm.title: title_of(arm.delta) for arm, _ in result.scored})
    return SweepReportInfo(
        name=spec.name,
        question=spec.notes or f"Which of {', '.join(spec.entries)} is best?",
        metric="padded cmAP",
        ranking=result.ranking,
        scores=pd.DataFrame(result.scores),
        expect=spec.expect,
        setting=setting,
        values=values,
        smallest_effect=spec.smallest_effect,
        race=result.race_sentences,
        chosen=tuple(
            chosen_words([a.title for a, _ in result.scored], [r.chosen for _, r in result.scored])
        ),
    )
