"""A plan in words: what would run, on what, for how long, what is there already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from birdlab.cellfiles import is_finished, is_trained
from birdlab.cellplan import CellPlan
from birdlab.cli.rounds_words import describe_rounds
from birdlab.cli.stage_plans import describe_stage
from birdlab.data.leaks import describe_leaks
from birdlab.evaluate.metrics import constant_floor
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.sed.sampler import row_weights
from birdlab.spec.parts import StageSpec
from birdlab.spec.samplers import InversePower


def describe_plan(plan: Plan, lab: Lab) -> str:
    """The plan of one experiment, for `--dry-run`."""
    spec, rows = plan.spec, plan.rows.table
    base = rows[rows["dataset"] == spec.data.base]
    lines = [
        f"{spec.name or 'experiment'}  spec {plan.spec_id}  competition {spec.competition.name}",
        f"rows      {len(rows):,} ({len(base):,} base, {len(rows) - len(base):,} extra), "
        f"{len(plan.data.classes)} classes",
        f"metric    padded cmAP over folds, floor {describe_floor(plan)} "
        f"(leaderboard: {spec.competition.metric})",
        f"folds     {_folds(plan)}",
    ]
    lines += [f"weights   {_weights(stage, plan)}" for stage in spec.stages[-1:]]
    lines += describe_rounds(spec)
    lines += ["", *waterfall_table(plan.data.waterfall)]
    lines += ["", "stages"]
    lines += [line for stage in spec.stages for line in describe_stage(stage, plan)]
    lines += ["", *describe_cells(plan, lab)]
    lines += [f"missing   {text}" for text in plan.missing]
    lines += [f"leak      {text}" for text in describe_open_leaks(plan)]
    lines += [f"note      {text}" for text in plan.notes]
    expected = spec.competition.n_classes
    if expected is not None and expected != len(plan.data.classes):
        lines.append(
            f"notice    {spec.competition.name} scores {expected} classes, "
            f"this table has {len(plan.data.classes)}"
        )
    return "\n".join(lines)


def describe_cells(plan: Plan, lab: Lab) -> list[str]:
    """Every cell of a plan: in the cache, or how many steps it takes."""
    if plan.unknown_stages:
        return [f"cells     {len(plan.cells)}; their ids wait for the unknown rows"]
    done = sum(is_finished(lab, cell) for cell in plan.cells)
    cells = [f"  {c.cell_id}  {c.title}  {_cached(c, lab)}" for c in plan.cells]
    return [f"cells     {len(plan.cells)}, {done} of them cached", *cells]


def describe_open_leaks(plan: Plan) -> list[str]:
    """What pretraining shares with validation, and that a run would stop there."""
    accepted = plan.spec.data.accept_leaks
    lines = describe_leaks(plan.leaks, accepted)
    open_rules = sorted(set(plan.leaks["rule"]) - set(accepted))
    if open_rules:
        lines.append(
            "refused before training: drop them as experiments/birdclef2023.yaml does, or write "
            f"data.accept_leaks: [{', '.join(open_rules)}]"
        )
    return lines


def _cached(cell: CellPlan, lab: Lab) -> str:
    if is_finished(lab, cell):
        return "cached"
    if is_trained(lab, cell):
        return "trained; hears again what it lacks outputs of"
    return f"{cell.steps.total:,} steps"


def waterfall_table(waterfall: pd.DataFrame) -> list[str]:
    """The waterfall as lines of text: per table and rule the rows and species before and after."""
    cells = [("waterfall", "rule", "rows", "", "species", "", "")]
    above = ""
    for line in waterfall.to_dict("records"):
        name, above = "" if line["table"] == above else line["table"], line["table"]
        rows, species = (
            (f"{line[f'{what}_before']:,}", f"-> {line[f'{what}_after']:,}")
            for what in ("rows", "species")
        )
        cells.append((name, line["rule"], *rows, *species, line["note"]))
    widths = [max(len(row[column]) for row in cells) for column in range(7)]
    to_the_right = (2, 4)
    return [
        "  ".join(
            text.rjust(width) if column in to_the_right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def _targets(plan: Plan, rows: Sequence[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    table = plan.rows.table.iloc[list(rows)]
    weight = 1.0 if plan.spec.evaluate.secondary == "count" else 0.0
    encoded = plan.data.classes.encode(
        list(table["primary_label"]), list(table["secondary_labels"]), secondary_weight=weight
    )
    return np.asarray(encoded > 0)


def describe_floor(plan: Plan) -> str:
    """What a constant predictor scores on the folds asked for, on average."""
    scored = {c.fold: c.validation for c in plan.final_cells if c.validation is not None}
    if not scored:
        return "none (no validation)"
    apart = plan.rows.table["apart"].to_numpy(bool)
    floors = [constant_floor(_targets(plan, list(v[~apart[v]]))) for v in scored.values()]
    return f"{np.mean(floors):.4f}"


def _folds(plan: Plan) -> str:
    folds = plan.rows.table["fold"].to_numpy()
    asked = plan.spec.fold_numbers
    sizes = [f"{int((folds == f).sum()):,}" for f in range(int(folds.max()) + 1)]
    kind = getattr(plan.spec.data.folds, "kind", "")
    extra = int((folds < 0).sum())
    return (
        f"{kind}, validation rows {', '.join(sizes)}; asked for {list(asked) or 'none (all data)'}"
        + (f"; {extra:,} rows in every training fold" if extra else "")
    )


def _weights(stage: StageSpec, plan: Plan) -> str:
    cell = plan.final_cells[0]
    labels = list(cell.rows.table["primary_label"].iloc[cell.chosen])
    if not isinstance(stage.train.sampler, InversePower) or not labels:
        return f"{getattr(stage.train.sampler, 'kind', '')} sampling of {len(labels):,} rows"
    weights = row_weights(labels, stage.train.sampler.power)
    rare, common = int(weights.argmax()), int(weights.argmin())
    return (
        f"inverse power {stage.train.sampler.power:g}: {weights[rare]:.2f} ({labels[rare]}, "
        f"{labels.count(labels[rare])} rows) to {weights[common]:.2f} ({labels[common]}, "
        f"{labels.count(labels[common]):,} rows)"
    )
