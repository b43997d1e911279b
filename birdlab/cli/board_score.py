"""`birdlab lb score`, and how a score comes into the ledger."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import JsonOption, RunArgument, copy_to_mlflow, load_result_spec
from birdlab.cli.voice import print_json
from birdlab.errors import LedgerError

if TYPE_CHECKING:
    from birdlab.heldout import HeldOutScore
    from birdlab.lab import Lab


def score(
    run: RunArgument,
    on: Annotated[
        list[str] | None,
        typer.Option("--on", help="A data set with labelled soundscapes (repeatable)."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Score the mean of a run's fold models on the labelled public and private soundscapes.

    They are those of --on, else of `data.soundscapes` of the spec, else the base's own.

    Example: birdlab lb score lr:best
    """
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.heldout import score_soundscapes
    from birdlab.lab import open_lab
    from birdlab.plan import plan_experiment
    from birdlab.tracking.resolve import resolve_run

    lab = open_lab()
    record = resolve_run(lab, run)
    spec = load_result_spec(record)
    if on:
        data = spec.data.model_copy(update={"soundscapes": tuple(on)})
        spec = spec.model_copy(update={"data": data})
    with CellProgress() as shown:
        plan = plan_experiment(spec, lab, progress=shown.step)
        scores = score_soundscapes(plan, lab, progress=shown.step)
    if not json_:
        print_lines("\n".join(_lines(scores)))
    try:
        stored = enter_row(lab, _scored_row(record, scores))
    except LedgerError as error:
        if "already" not in str(error):
            raise
        stored = {}
    if json_:
        print_json({"run": record["spec_id"], "scores": scores, "row": stored.get("id")})
    elif stored:
        print_lines(entered_words(stored))
    else:
        print_lines("the ledger has these scores already")


def _lines(scores: Sequence[HeldOutScore]) -> list[str]:
    """A line a data set, then the labels that are no class."""
    lines = [
        f"{s.name:<8} {s.metric} {s.score:.4f}  (floor {s.floor:.4f}, {s.n_files} files, "
        f"{s.n_windows} windows, mean of {s.n_models} models)"
        for s in scores
    ]
    for dataset, unknown in {s.dataset: s.unknown for s in scores if s.unknown}.items():
        counted = ", ".join(f"{label} {n}" for label, n in list(unknown.items())[:8])
        more = ", ..." if len(unknown) > 8 else ""
        lines.append(f"labels of {dataset} that are no class: {counted}{more}")
    return lines


def _scored_row(record: Mapping[str, Any], scores: Sequence[HeldOutScore]) -> dict[str, object]:
    """The ledger row of what the fold models of a run scored on soundscapes."""
    from birdlab.tracking.attributes import checkpoint_of

    named = _ledger_columns(scores)
    return {
        "run": record["spec_id"],
        "name": record["name"],
        "public": named.pop("public", None),
        "private": named.pop("private", None),
        "other": named or None,
        "metric": scores[0].metric,
        "source": "score",
        "note": f"{scores[0].n_models} fold models",
        "weights": "folds",
        "checkpoint": checkpoint_of(record["spec"]),
        "precision": "fp32",
    }


def _ledger_columns(scores: Sequence[HeldOutScore]) -> dict[str, float]:
    """Each score under its ledger column; LedgerError when two would share one."""
    columns: dict[str, float] = {}
    for s in scores:
        column = re.sub(r"[^a-z0-9_]", "_", s.name.lower())
        column = column if column[0].isalpha() else f"at_{column}"
        if column in columns:
            raise LedgerError(
                "two data sets would share a column of the ledger",
                got=f"{s.name}: {column}",
                fix="rename one of them in birdlab.toml: their names differ in case or signs only",
            )
        columns[column] = s.score
    return columns


def enter_row(lab: Lab, row: Mapping[str, object]) -> dict[str, Any]:
    """The row as the ledger stores it, its scores also in MLflow; LedgerError for one it has."""
    from birdlab.study.ledger import append_row

    stored = dict(append_row(lab.ledger, row))
    copy_to_mlflow(lab, [stored["run"]])
    return stored


def entered_words(stored: Mapping[str, Any]) -> str:
    """That a row is in the ledger, and what is next."""
    return f"entered as {stored['id']}; next: birdlab dashboard"
