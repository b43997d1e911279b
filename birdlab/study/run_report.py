"""The report of one run: its scores with floor and evidence, folds, classes, training curves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from birdlab.evaluate.score import chosen_sentence
from birdlab.spec.diff import NO_CHANGE, title_of
from birdlab.study import run_figures
from birdlab.study.document import (
    Commands,
    Document,
    Drawing,
    Listing,
    Part,
    Table,
    Words,
    build_document,
    build_section,
    file_name,
)
from birdlab.study.evidence_words import code_sentence, environment_table, evidence_sentences
from birdlab.study.recipe_words import recipe_lines

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
    "synthetic_padded_cmap",
    "synthetic_macro_auc",
    "synthetic_floor",
    "synthetic_n_windows",
    "cell_id",
)


@dataclass(frozen=True, eq=False)
class RunReportInfo:
    """One run as its report shows it.

    `scores`: name → value in the order to show. `folds`: a row per fold (or cell) with the
    columns to show. `classes`: class, support, ap and what else is known per class. `curves`:
    fold, seed, step, key, value. `recipe`, `evidence`, `environment`, `code` and `commands` are as
    in the report of a sweep. What is empty is left out of the page. `chosen`: a sentence on scores
    whose weights were picked by them.
    """

    name: str
    run: str
    delta: str
    metric: str
    scores: Mapping[str, float]
    folds: pd.DataFrame
    classes: pd.DataFrame
    curves: pd.DataFrame
    notes: tuple[str, ...] = ()
    chosen: str = ""
    stopped_at: str = ""
    recipe: Mapping[str, str] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    environment: pd.DataFrame = field(default_factory=pd.DataFrame)
    code: str = ""
    commands: tuple[str, ...] = ()


def describe_run(
    record: Mapping[str, Any], classes: pd.DataFrame, curves: pd.DataFrame
) -> RunReportInfo:
    """What the report of a recorded run shows; a foreign one has no recipe and no curves.

    classes: code, support, ap and more per species; curves: what each epoch of each cell said.
    """
    cells, spec = pd.DataFrame(record["cells"]), record["spec"]
    return RunReportInfo(
        name=record["name"] or record["spec_id"],
        run=record["spec_id"],
        delta=title_of(record["delta"]),
        metric="padded cmAP",
        scores={k: v for k, v in record["scores"].items() if v is not None},
        folds=cells[[c for c in FOLD_COLUMNS if c in cells]],
        classes=classes.rename(columns={"code": "class"}),
        curves=_long_curves(curves),
        notes=()
        if spec is None
        else tuple(n for n in (spec.get("notes"), spec.get("expect")) if n),
        chosen=chosen_sentence(record.get("chosen", "")),
        stopped_at=record.get("stopped_at", ""),
        recipe=recipe_lines(record),
        evidence=evidence_sentences([record]),
        environment=environment_table([record]),
        code="" if spec is None else code_sentence([record]),
        commands=() if spec is None else (f"birdlab rerun {record['spec_id']}",),
    )


def _long_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """fold, seed, step, key, value of the loss and the rate; the stage in the key where several."""
    if curves.empty:
        return pd.DataFrame()
    rows = curves.melt(["fold", "seed", "stage", "epoch"], ["loss", "lr"], var_name="key")
    rows = rows.rename(columns={"epoch": "step"})
    if rows["stage"].nunique() > 1:
        rows["key"] = rows["stage"] + " " + rows["key"]
    return rows[["fold", "seed", "step", "key", "value"]]


def build_run_document(info: RunReportInfo) -> Document:
    """The report of a run as a document; what there is nothing to say of is left out."""
    scores = pd.DataFrame({"score": list(info.scores), "value": list(info.scores.values())})
    changed = "" if info.delta in ("", NO_CHANGE) else f": {info.delta}"
    return build_document(
        info.name,
        f"Run {info.run}{changed}",
        _answer(info),
        [
            build_section("Notes", Listing(info.notes)),
            build_section("Scores", Table("scores", scores)),
            build_section("How much evidence", Listing(info.evidence)),
            build_section("Folds", Table("folds", info.folds)),
            build_section("Classes", *_classes(info)),
            build_section("Training", *_curves(info)),
            build_section(
                "Recipe",
                Table(
                    "recipe",
                    pd.DataFrame({"part": list(info.recipe), "as run": list(info.recipe.values())}),
                ),
            ),
            build_section("Where it ran, and on what", Table("environment", info.environment)),
            build_section("How to repeat it", Words(info.code), Commands(info.commands)),
        ],
    )


def _answer(info: RunReportInfo) -> str:
    """The score and its floor in a sentence, or why there is none."""
    if info.stopped_at:
        return f"No score: a race stopped it {info.stopped_at}."
    score, floor = info.scores.get("cv/padded_cmap"), info.scores.get("cv/floor")
    if score is None or floor is None:
        others = [f"{name} {value:.4f}" for name, value in info.scores.items()]
        return ", ".join(others) + "." if others else "No score: it was validated on nothing."
    said = f"{info.metric} {score:.4f}; a constant predictor scores {floor:.4f}."
    return f"{said} {info.chosen}".strip()


def _classes(info: RunReportInfo) -> list[Part]:
    if info.classes.empty:
        return []
    drawn = run_figures.get_class_info(info.classes, score_label="average precision")
    figure = run_figures.plot_class_scores(drawn)
    said = "Average precision of each class over its number of positive recordings."
    return [
        Drawing("classes", figure, said),
        Table("classes", info.classes.sort_values("ap", kind="stable")),
    ]


def _curves(info: RunReportInfo) -> list[Part]:
    if info.curves.empty:
        return []
    return [
        Drawing(f"curve-{file_name(curve.key)}", run_figures.plot_curves(curve), f"{curve.key}.")
        for curve in run_figures.get_curves_info(info.curves)
    ]
