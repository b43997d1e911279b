"""`birdlab rescore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import JsonOption, table_rows
from birdlab.cli.voice import print_json

if TYPE_CHECKING:
    import pandas as pd

    from birdlab.lab import Lab
    from birdlab.spec.estimators import EstimatorSpec


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("rescore", context_settings={"ignore_unknown_options": True})(rescore)


HEARD = {"soundscape_windows": "soundscapes", "synthetic_windows": "synthetic"}
"""The estimators over windows of soundscapes, and what of a record names these."""


def rescore(
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="RUN ...", help="Runs, named as in `show`.")
    ] = None,
    metric: Annotated[
        str, typer.Option(help="padded_cmap, macro_auc, cmap_min5, or any kind of estimator.")
    ] = "padded_cmap",
    validator: Annotated[
        str,
        typer.Option(
            help="folds, pooled, new_recordists, new_sites, soundscapes, synthetic, or a data set "
            "of soundscapes."
        ),
    ] = "folds",
    pad: Annotated[int | None, typer.Option(min=1, help="Rows of ones of the padded cmAP.")] = None,
    sweep: Annotated[str, typer.Option(help="All arms of this sweep.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="All runs of the lab.")] = False,
    json_: JsonOption = False,
) -> None:
    """Score runs again from their stored outputs, by another metric or on other rows.

    Nothing is trained and no record changes.

    Example: birdlab rescore lr:best baseline --metric padded_cmap --pad 3
    """
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.study.rescoring import build_estimator

    lab = open_lab()
    records, named = _chosen(lab, runs or [], sweep, all_)
    estimator = build_estimator(metric, validator, pad)
    table, left_out = _rescored(lab, records, estimator, validator, strict=named)
    remarks = _remarks(records, table, estimator)
    if json_:
        rows = table_rows(table)
        said: dict[str, Any] = {
            "estimator": estimator.model_dump(mode="json"),
            "validator": validator,
        }
        said |= {"runs": rows, "left_out": left_out, "remarks": remarks}
        print_json(said)
        return
    print_lines("\n".join(_lines(table, [*left_out, *remarks], estimator, validator)))


def _chosen(
    lab: Lab, runs: list[str], sweep: str, everything: bool
) -> tuple[list[dict[str, Any]], bool]:
    """The records asked for, each once, and whether they were named one by one."""
    from birdlab.errors import ResolveError
    from birdlab.tracking.index import load_records
    from birdlab.tracking.resolve import resolve_run

    if bool(runs) + bool(sweep) + everything != 1:
        raise ResolveError(
            "it is not clear which runs are meant", expected="RUN ..., --sweep NAME, or --all"
        )
    if runs:
        found = [resolve_run(lab, text) for text in runs]
    else:
        found = [r for r in load_records(lab) if everything or sweep in r["sweeps"]]
        if not found:
            raise ResolveError(
                "no run fits",
                got=sweep or "the lab has none",
                fix="birdlab runs lists the runs and their sweeps",
            )
    return list({record["spec_id"]: record for record in found}.values()), bool(runs)


def _rescored(
    lab: Lab,
    records: list[dict[str, Any]],
    estimator: EstimatorSpec,
    validator: str,
    *,
    strict: bool,
) -> tuple[pd.DataFrame, list[str]]:
    """A row per run, the highest score first, and in words which runs have none.

    Raises for a run that cannot be scored when it was named (`strict`).
    """
    from dataclasses import asdict

    import pandas as pd

    from birdlab.errors import BirdlabError
    from birdlab.study.rescoring import VALIDATORS, rescore_run
    from birdlab.tracking.evidence import load_evidence
    from birdlab.words import list_some

    on = "" if validator in VALIDATORS else validator
    new = estimator.kind in ("new_recordists", "new_sites")
    heard, synthetic = (estimator.kind == kind for kind in HEARD)
    rows, without = [], dict[str, list[str]]()
    for record in records:
        name = record["name"] or record["spec_id"]
        try:
            evidence = load_evidence(lab, record, new=new, heard=heard, on=on, synthetic=synthetic)
        except BirdlabError as error:
            if strict:
                raise
            why = error.what + (f" ({error.got})" if error.got else "")
            without.setdefault(why, []).append(name)
            continue
        found = asdict(rescore_run(evidence, estimator))
        if found["why"]:
            without.setdefault(found["why"], []).append(name)
        over = _over(record, estimator.kind)
        rows.append({"run": record["spec_id"], "name": name, **found, "over": over})
    columns = ["run", "name", "score", "sd", "floor", "n_folds", "n_seeds", "n_rows", "n_classes"]
    table = pd.DataFrame(rows, columns=[*columns, "over"])
    table = table.sort_values("score", ascending=False, kind="stable", ignore_index=True)
    return table, [f"{list_some(names)}: {why}" for why, names in without.items()]


def _remarks(
    records: list[dict[str, Any]], table: pd.DataFrame, estimator: EstimatorSpec
) -> list[str]:
    """What makes the scores in the table less comparable; no soundscape picked weights."""
    from birdlab.recorded import name_remarks

    heard = {"chosen": ""} if estimator.kind == "soundscape_windows" else {}
    scored = set(table["run"])
    return name_remarks(
        {r["name"] or r["spec_id"]: r | heard for r in records if r["spec_id"] in scored}
    )


def _over(record: dict[str, Any], kind: str) -> str:
    """What is equal for runs whose scores compare by an estimator of this kind."""
    from birdlab.recorded import rows_heard

    said = record["evaluation"]
    rows = rows_heard(said, HEARD[kind]) if kind in HEARD else said["rows_hash"]
    return "/".join(str(part) for part in (rows, said["classes_hash"], said["folds"]))


def _lines(
    table: pd.DataFrame, said: list[str], estimator: EstimatorSpec, validator: str
) -> list[str]:
    width = max([len("run"), *(len(str(name)) for name in table["name"])])
    rows = "windows" if estimator.kind in HEARD else "rows"
    lines = [
        f"{estimator.name}, on {validator}, from stored outputs",
        f"  {'run':<{width}}  {'score':>7} {'sd':>7} {'floor':>7}  folds seeds {rows:>7} classes",
    ]
    for row in table.to_dict("records"):
        sd = "" if row["sd"] != row["sd"] else f"{row['sd']:.4f}"
        lines.append(
            f"  {row['name']:<{width}}  {row['score']:7.4f} {sd:>7} {row['floor']:7.4f}  "
            f"{row['n_folds']:>5} {row['n_seeds']:>5} {row['n_rows']:>7} {row['n_classes']:>7}"
        )
    n_sets = table["over"].nunique()
    if n_sets > 1:
        lines += ["", f"they are over {n_sets} sets of rows: scores compare within a set only"]
    return [*lines, *([""] if said else []), *said]
