"""`birdlab lb import`: submissions from Kaggle, and ledgers that were kept elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.board_options import (
    CheckpointOption,
    PostprocessingOption,
    PrecisionOption,
    doubt_of_metric,
    submission_fields,
)
from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json, print_note

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.study.submissions import ImportReport
    from birdlab.upkeep.foreign_ledger import LedgerImport


def import_(
    file: Annotated[Path, typer.Argument(help="A CSV, from Kaggle or with --map from anywhere.")],
    metric: Annotated[str, typer.Option(help="The leaderboard's metric.")],
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=COLUMN",
            help="A foreign ledger: name=exp, cv/macro_auc=cv_mean (repeatable), or a YAML file.",
        ),
    ] = None,
    competition: Annotated[
        str, typer.Option(help="With --map: where the scores are from; the project of the runs.")
    ] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="With --map: write runs anew that came otherwise.")
    ] = False,
    weights: Annotated[str | None, typer.Option(help="folds (default for Kaggle) or full.")] = None,
    checkpoint: CheckpointOption = "",
    postprocessing: PostprocessingOption = "",
    precision: PrecisionOption = "",
    json_: JsonOption = False,
) -> None:
    """Import submissions of Kaggle, matched by an id in their description, or a foreign ledger.

    With --map every line becomes a run of its own, which has scores and nothing else
    (docs/leaderboard.md). Importing a file again adds what is new in it.
    Example: birdlab lb import submissions.csv --metric padded_cmap
    """
    from birdlab.errors import SpecError
    from birdlab.lab import open_lab

    if map_ and not competition:
        raise SpecError("a foreign ledger needs a competition", fix="--competition birdclef-2025")
    if (competition or replace) and not map_:
        raise SpecError("--competition and --replace are for a foreign ledger", fix="add --map")
    lab = open_lab()
    if weights is None:
        weights = "" if map_ else "folds"
    said = submission_fields(weights, checkpoint, postprocessing, precision)
    doubt = doubt_of_metric(lab, metric)  # asked now: the import makes the metric a known one
    if map_:
        _take_ledger(lab, file, metric, map_, competition, said, replace, json_)
    else:
        _take_submissions(lab, file, metric, said, json_)
    print_note(doubt)


def _take_submissions(lab: Lab, file: Path, metric: str, said: dict[str, str], json_: bool) -> None:
    from birdlab.cli.common import copy_to_mlflow
    from birdlab.cli.progress import print_lines
    from birdlab.infer.models import list_models
    from birdlab.study.submissions import Bundle, import_submissions
    from birdlab.tracking.index import load_runs

    bundles = [Bundle(model.runs, model.name, model.version) for model in list_models(lab.models)]
    report = import_submissions(
        file, lab.ledger, load_runs(lab), metric=metric, bundles=bundles, said=said
    )
    copy_to_mlflow(lab, [row["run"] for row in (*report.added, *report.updated)])
    if json_:
        print_json(report)
    else:
        print_lines("\n".join(_submission_lines(report)))


def _submission_lines(report: ImportReport) -> list[str]:
    updated = f", {len(report.updated)} with new scores" if report.updated else ""
    lines = [f"{len(report.added)} entered{updated}, {len(report.known)} known already"]
    told = [("entered  ", f"{row['name']}: {row['note']}") for row in report.added]
    told += [("new score", f"{row['name']}: {row['note']}") for row in report.updated]
    told += [("unmatched", text) for text in report.unmatched]
    lines += [f"  {what}  {' '.join(text.split())}" for what, text in told]
    if report.strange:
        lines.append(
            f"{len(report.strange)} of the known ones are there as scores of another metric, and "
            "stay: birdlab lb remove them, then import the file again"
        )
    if report.unmatched:
        lines.append(
            "put the id of a run or a promoted model into the description of a submission, "
            "or use birdlab lb add"
        )
    return lines


def _take_ledger(
    lab: Lab,
    file: Path,
    metric: str,
    map_: list[str],
    competition: str,
    said: dict[str, str],
    replace: bool,
    json_: bool,
) -> None:
    from birdlab.cli.progress import print_lines
    from birdlab.study.foreign_ledger import parse_mapping, read_foreign_ledger
    from birdlab.upkeep.foreign_ledger import import_ledger

    ledger = read_foreign_ledger(file, parse_mapping(map_), metric=metric)
    done = import_ledger(lab, ledger, competition=competition, defaults=said, replace=replace)
    if json_:
        print_json({"imported": done, "remarks": ledger.remarks})
        return
    lines = [_import_line(done), *(f"note: {remark}" for remark in ledger.remarks)]
    if done.n_other_rows:
        lines.append(
            f"{done.n_other_rows} of the known scores stand with other weights, checkpoint, "
            "post-processing, precision or bundle; --replace enters them anew"
        )
    unsubmitted = sum(not line.is_submitted for line in ledger.lines)
    if unsubmitted:
        lines.append(f"lines without a leaderboard score, which are runs only: {unsubmitted}")
    lines.append(f"next: birdlab runs --project {competition} | birdlab dashboard")
    print_lines("\n".join(lines))


def _import_line(done: LedgerImport) -> str:
    return (
        f"{len(done.runs)} runs and {len(done.rows)} leaderboard scores entered; "
        f"{done.n_known_runs} runs and {done.n_known_rows} scores known already"
    )
