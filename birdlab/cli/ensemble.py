"""`birdlab ensemble`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json, print_note

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from birdlab.lab import Lab
    from birdlab.study.ensemble_summary import EnsembleQuestion, EnsembleSummary, MemberCosts


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("ensemble", context_settings={"ignore_unknown_options": True})(ensemble)


def ensemble(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN ...", help="Runs, named as in `show`, or one FILE.yaml."),
    ],
    blend: Annotated[
        str | None, typer.Option(help="mean (default), power:2, geometric or rank.")
    ] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Fit weights, with nested folds.")] = False,
    greedy: Annotated[bool, typer.Option("--greedy", help="Choose members step by step.")] = False,
    minutes: Annotated[
        float | None, typer.Option(help="--greedy: the limit for all soundscapes.")
    ] = None,
    cores: Annotated[int, typer.Option(min=1, help="--minutes: on so many cores.")] = 2,
    budget_ms: Annotated[
        float | None, typer.Option(help="--greedy: the limit for a window on one core.")
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="--greedy: time ONNX files as `birdlab budget` does."),
    ] = False,
    machine: Annotated[
        Path | None,
        typer.Option(help="--greedy: times on the machine where a bundle's benchmark wrote this."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="--greedy: a member may be chosen again.")
    ] = False,
    weights: Annotated[
        str | None, typer.Option(help="What a run costs: full, one model (default), or folds, all.")
    ] = None,
    metric: Annotated[str, typer.Option(help="padded_cmap or macro_auc.")] = "padded_cmap",
    json_: JsonOption = False,
) -> None:
    """Show what runs are worth together: likeness, gain, ways to blend, fitted weights, a choice.

    All from stored out-of-fold predictions; nothing is trained.

    Example: birdlab ensemble baseline lr:best --fit --greedy --minutes 90
    """
    from birdlab.cli.common import name_records
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.runtables import load_fold_tables
    from birdlab.study.ensemble_summary import summarise_ensemble
    from birdlab.tracking.resolve import resolve_run

    members, said = _read_file(runs)
    timed = measure or machine is not None
    if (minutes is not None or budget_ms is not None or again or timed) and not greedy:
        raise typer.BadParameter("limits, times and --again go with --greedy")
    if timed and budget_ms is not None:
        raise typer.BadParameter("--budget-ms is a limit of its own; leave --measure out")
    asked = _question(
        blend or said.get("blend", "mean"),
        metric,
        weights or said.get("weights", "full"),
        shares=said["shares"] if isinstance(said.get("shares"), tuple) else (),
        fit=fit or said.get("shares") == "fitted",
        greedy=greedy,
        minutes=minutes,
        budget_ms=budget_ms,
        cores=cores,
        again=again,
    )
    lab = open_lab()
    records = name_records([resolve_run(lab, run) for run in members])
    tables = {name: load_fold_tables(lab, record) for name, record in records.items()}
    measured = _measure(lab, records, asked, machine) if timed else None
    found = summarise_ensemble(lab, records, tables, asked, measured)
    if json_:
        print_json(_plain(found, asked))
    else:
        print_lines("\n".join(_lines(found, asked)))


def _read_file(runs: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The members, and what an ensemble file says beside them; nothing for runs."""
    if len(runs) != 1 or not runs[0].endswith((".yaml", ".yml")):
        return runs, {}
    from birdlab.spec.ensemble import load_ensemble

    spec = load_ensemble(Path(runs[0]))
    return list(spec.members), {"blend": spec.blend, "weights": spec.weights, "shares": spec.shares}


def _measure(
    lab: Lab, records: dict[str, dict[str, Any]], asked: EnsembleQuestion, machine: Path | None
) -> MemberCosts:
    """The costs of runs as `birdlab budget` measures them, and what the limit leaves for them.

    Windows are those of the shortest hop of any run.
    """
    from dataclasses import replace

    from birdlab.promote.budget import workload_of
    from birdlab.promote.member_costs import measure_members
    from birdlab.recorded import spec_of

    specs = [spec_of(record) for record in records.values()]
    shortest_s = min((s.evaluate.hop_s for s in specs if s.evaluate.hop_s), default=None)
    workload = workload_of(specs[0].competition, shortest_s)
    if asked.minutes is not None:
        workload = replace(workload, limit_minutes=asked.minutes)
    folds = asked.weights == "folds"
    return measure_members(
        lab,
        records,
        workload,
        cores=asked.cores,
        models={name: len(r["cells"]) if folds else 1 for name, r in records.items()},
        machine=machine,
        progress=lambda text: print_note(f"{text} ..."),
    )


def _question(blend: str, metric: str, weights: str, **more: Any) -> EnsembleQuestion:
    from birdlab.cli.common import check_choice
    from birdlab.promote.request import parse_blend
    from birdlab.study.blending_scores import METRICS
    from birdlab.study.ensemble_summary import EnsembleQuestion

    return EnsembleQuestion(
        parse_blend(blend),
        check_choice("--metric", metric, METRICS),
        weights=check_choice("--weights", weights, ("full", "folds", "averaged")),
        **more,
    )


def _lines(found: EnsembleSummary, asked: EnsembleQuestion) -> list[str]:
    from birdlab.cli.summaries import table_lines
    from birdlab.study.blending import NAMES
    from birdlab.study.ensemble_tables import shares_words, steps_words

    lines = [found.answer, "", *_shown(_members_table(found))]
    if len(found.members.names) > 1:
        lines += ["", "Rank correlation of members, within folds and classes:"]
        alike = found.correlation.copy()
        alike.index = alike.columns = [str(i + 1) for i in range(len(alike))]
        lines += [f"  {line}" for line in alike.to_string(float_format="{:.2f}".format).split("\n")]
    if found.blends is not None:
        lines += ["", f"Ways to blend, equal weights ({NAMES[asked.metric]}):"]
        lines += table_lines(found.blends)
    if found.given is not None:
        lines += ["", "The weights of the file:", *table_lines(found.given)]
    if found.fitted is not None:
        lines += ["", "Fitted weights:", *_shown(shares_words(found.fitted))]
        lines += [f"  {sentence}" for sentence in found.fitted.sentences]
    if found.greedy is not None:
        held = "" if found.limit_ms == float("inf") else f" within {found.limit_ms:.3g} ms a window"
        if found.measured is None and asked.minutes is not None:
            held += f" ({asked.minutes:g} min on {asked.cores} cores; decoding comes on top)"
        lines += ["", f"Greedy choice{held}:", *_shown(steps_words(found.greedy))]
        lines += [f"  {sentence}" for sentence in found.greedy.sentences]
        lines += [] if found.measured is None else [f"  {found.measured.sentence}"]
    remarks = found.remarks
    return [*lines, *([""] if remarks else []), *remarks, "", f"next: {found.command}"]


def _shown(table: pd.DataFrame) -> list[str]:
    return [f"  {line}".rstrip() for line in table.to_string(index=False).split("\n")]


def _members_table(found: EnsembleSummary) -> pd.DataFrame:
    import pandas as pd

    from birdlab.study.ensemble_tables import number_words, time_words

    t = found.weighed
    columns: dict[str, Any] = {
        "#": range(1, len(t) + 1),
        "member": t["name"],
        "alone": number_words(t["alone"]),
    }
    if len(t) > 1:
        columns |= {
            "without it": number_words(t["without"]),
            "gain": number_words(t["gain"], sign="+"),
            "helps in": t["helps"],
        }
    return pd.DataFrame(columns | {"ms a window": time_words(found.costs_ms)})


def _plain(found: EnsembleSummary, asked: EnsembleQuestion) -> dict[str, Any]:
    """The summary as JSON takes it; null where there is no number."""
    from birdlab.cli.common import table_rows

    fitted, greedy = found.fitted, found.greedy
    return {
        "members": list(found.members.names),
        "blend": str(asked.blend),
        "metric": asked.metric,
        "answer": found.answer,
        "weighed": table_rows(found.weighed.assign(ms=found.costs_ms)),
        "correlation": json.loads(found.correlation.to_json(orient="values")),
        "blends": [] if found.blends is None else table_rows(found.blends.table),
        "fitted": None
        if fitted is None
        else {
            "weights": list(fitted.weights),
            "fitted": list(fitted.fitted),
            "in_sample": fitted.in_sample,
            **_or_null(nested=fitted.nested, low=fitted.interval[0], high=fitted.interval[1]),
            "equal": fitted.equal,
            "verdict": fitted.verdict,
            "shrunk": fitted.shrunk,
            "sentences": list(fitted.sentences),
        },
        "greedy": None
        if greedy is None
        else {
            "steps": table_rows(greedy.steps),
            "best": greedy.best,
            "chosen": list(greedy.chosen),
            "weights": list(greedy.weights),
            "sentences": list(greedy.sentences),
        },
        "given": [] if found.given is None else table_rows(found.given.table),
        "remarks": list(found.remarks),
        "next": found.command,
    }


def _or_null(**values: float) -> Mapping[str, float | None]:
    return {name: None if value != value else value for name, value in values.items()}
