"""`birdlab show` and `birdlab diff`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import JsonOption, RunArgument, load_result_spec
from birdlab.cli.voice import print_json

if TYPE_CHECKING:
    from birdlab.lab import Lab


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("show", context_settings={"ignore_unknown_options": True})(show)
    app.command("diff", context_settings={"ignore_unknown_options": True})(diff)


def show(run: RunArgument, json_: JsonOption = False) -> None:
    """Show one run: scores, folds, cells, sweeps, settings, and what goes on from it.

    Example: birdlab show lr:best
    """
    import pandas as pd

    from birdlab.cli.progress import print_lines
    from birdlab.evaluate.score import chosen_sentence
    from birdlab.lab import open_lab
    from birdlab.recorded import is_ledger_line
    from birdlab.spec.diff import title_of
    from birdlab.tracking.resolve import resolve_run

    lab = open_lab()
    record = resolve_run(lab, run)
    facts = _facts(lab, record)
    if json_:
        print_json({**record, **facts})
        return
    lines = [f"{record['name']}  {record['spec_id']}  {title_of(record['delta'])}"]
    if record.get("chosen"):
        lines.append(chosen_sentence(record["chosen"]))
    if record.get("rounds"):
        lines.append(record["rounds"])
    if record.get("stopped_at"):
        lines.append(f"stopped by a race, so without a score: {record['stopped_at']}")
    lines += [
        f"  {key:<29} {value:.4f}" for key, value in record["scores"].items() if value is not None
    ]
    hidden = ["eval_id", *record.get("estimators", ())]
    cells = pd.DataFrame(record["cells"]).drop(columns=hidden, errors="ignore")
    scored = cells if len(cells) else pd.DataFrame(record.get("fold_scores", ()))
    lines += ["", scored.to_string(index=False), ""] if len(scored) else [""]
    lines += [f"  in sweep  {name}: {said}" for name, said in facts["in_sweeps"].items()]
    lines.append(f"  MLflow    {facts['mlflow_run_id'] or 'not logged'}")
    at = f"{facts['cells_at']} ({facts['weights']})"
    lines.append(f"  cells     {'none: only scores are known' if is_ledger_line(record) else at}")
    lines += [f"  next      {command}" for command in facts["next"]]
    lines += ["", *(f"  {key:<32} {value}" for key, value in facts["settings"].items())]
    print_lines("\n".join(lines))


def _facts(lab: Lab, record: dict[str, Any]) -> dict[str, Any]:
    """What is known of a run besides its record: where it lies, what goes on from it."""
    from birdlab.cellfiles import WEIGHTS
    from birdlab.recorded import is_foreign
    from birdlab.spec.diff import flatten, title_of
    from birdlab.tracking.index import load_link

    run, cells = record["spec_id"], record["cells"]
    here = sum((lab.cells / str(cell["cell_id"]) / WEIGHTS).is_file() for cell in cells)
    commands = [
        f"birdlab {command}"
        for command in (f"extend {run} --folds all --seeds 3", f"rerun {run}", f"promote {run}")
    ]
    if is_foreign(record):
        settings = {f"foreign.{key}": value for key, value in record["foreign"].items()}
        metric = record["evaluation"]["metric"]
        commands = [f"birdlab lb add {run} --metric {metric} --public SCORE"]
    else:
        settings = flatten(load_result_spec(record))
        if here < len(cells):
            commands[-1:] = [f"birdlab rerun {run} --keep all   (trains the dropped weights again)"]
    sweeps = {
        name: (said["title"] or title_of(said["delta"]))
        + (f" (stopped at {said['stopped_at']})" if said.get("stopped_at") else "")
        for name, said in record["sweeps"].items()
    }
    return {
        "in_sweeps": sweeps,
        "mlflow_run_id": load_link(lab, run).get("parent", ""),
        "cells_at": str(lab.cells),
        "weights": f"weights of {here} of {len(cells)} scored cells",
        "next": commands,
        "settings": settings,
    }


def diff(
    a: Annotated[str, typer.Argument(metavar="RUN")],
    b: Annotated[str, typer.Argument(metavar="RUN")],
    json_: JsonOption = False,
) -> None:
    """Show what differs between two runs: settings, then scores.

    Example: birdlab diff baseline lr:best
    """
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.recorded import is_foreign
    from birdlab.spec.diff import diff_specs
    from birdlab.tracking.resolve import resolve_run

    lab = open_lab()
    one, two = resolve_run(lab, a), resolve_run(lab, b)
    changes = []
    if not (is_foreign(one) or is_foreign(two)):
        changes = diff_specs(load_result_spec(one), load_result_spec(two))
    if json_:
        print_json(_difference(one, two, changes))
        return
    width = max([len(key) for key, _, _ in changes] + [20])
    lines = [f"{'':<{width}}  {one['spec_id']:<20} {two['spec_id']}"]
    lines += [f"{key:<{width}}  {x!s:<20} {y!s}" for key, x, y in changes]
    if is_foreign(one) or is_foreign(two):
        lines.append("a foreign run has no spec: only scores compare")
    alike = _same_evaluation(one, two)
    lines.append("")
    for key in _COMPARED:
        x, y = one["scores"].get(key), two["scores"].get(key)
        if x is not None and y is not None:
            same = alike[_rows_of(key)]
            gap = f"  {y - x:+.4f}" if same else "  (other rows, classes or folds: no difference)"
            lines.append(f"{key:<{width}}  {x:<20.4f} {y:.4f}{gap}")
    chosen = [record.get("chosen", "") for record in (one, two)]
    if any(chosen):
        said = [text or "fixed beforehand" for text in chosen]
        lines.append(f"{'weights':<{width}}  {said[0]:<20} {said[1]}")
    print_lines("\n".join(lines))


_COMPARED = (
    "cv/padded_cmap",
    "cv/macro_auc",
    "cv/soundscapes_padded_cmap",
    "cv/soundscapes_macro_auc",
    "cv/synthetic_padded_cmap",
    "cv/synthetic_macro_auc",
)


_HEARD = ("soundscapes", "synthetic")


def _rows_of(score: str) -> str:
    """What a score is over: the recordings of folds, or soundscapes of one kind."""
    return next((name for name in _HEARD if score.startswith(f"cv/{name}_")), "folds")


def _same_evaluation(one: dict[str, Any], two: dict[str, Any]) -> dict[str, bool]:
    """Whether two runs were scored on the same recordings, and on the same soundscapes."""

    from birdlab.recorded import rows_heard

    a, b = one["evaluation"], two["evaluation"]
    alike = all(a.get(key) == b.get(key) for key in ("classes_hash", "folds"))
    return {
        "folds": alike and a.get("rows_hash") == b.get("rows_hash"),
        **{name: alike and rows_heard(a, name) == rows_heard(b, name) for name in _HEARD},
    }


def _difference(
    one: dict[str, Any], two: dict[str, Any], changes: list[tuple[str, Any, Any]]
) -> dict[str, Any]:
    """The difference of two runs as data; scores that do not compare have no difference."""
    alike, scores = _same_evaluation(one, two), {}
    for key in _COMPARED:
        x, y = one["scores"].get(key), two["scores"].get(key)
        if x is not None and y is not None:
            same = alike[_rows_of(key)]
            scores[key] = {"a": x, "b": y, "difference": y - x if same else None}
    return {
        "a": one["spec_id"],
        "b": two["spec_id"],
        "settings": [{"field": key, "a": x, "b": y} for key, x, y in changes],
        "scores": scores,
    }
