"""`birdlab export` and `birdlab import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json, print_note
from birdlab.errors import SpecError

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.upkeep.archive import Room


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command("export", context_settings={"ignore_unknown_options": True})(export)
    app.command("import")(import_)


def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="The archive to write.")],
    runs: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN...]", help="What to take along.")
    ] = None,
    sweep: Annotated[
        list[str] | None, typer.Option(help="A sweep with all its arms (repeatable).")
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights/--no-weights", help="With weights (default) or without.")
    ] = True,
    json_: JsonOption = False,
) -> None:
    """Write runs with their cells and leaderboard scores into one tar file.

    A sweep goes along, with its bets, when every arm of it does.

    Example: birdlab export lr:best baseline -o best.tar
    """
    from birdlab.cli.gc import in_bytes
    from birdlab.cli.progress import print_lines
    from birdlab.lab import open_lab
    from birdlab.recorded import load_record
    from birdlab.study.sweep_records import load_sweep_record
    from birdlab.tracking.resolve import resolve_run
    from birdlab.upkeep.exchange import export_runs
    from birdlab.words import count_words

    lab = open_lab(extensions=False)
    if not (runs or sweep):
        raise SpecError("there is nothing to export", fix="name runs, or a sweep by --sweep NAME")
    named = [resolve_run(lab, run) for run in runs or []]
    for name in sweep or []:
        told = load_sweep_record(lab, name)
        named += [load_record(lab, arm["spec_id"]) for arm in (*told["arms"], *told["stopped"])]
    records = {r["spec_id"]: r for r in named}
    manifest = export_runs(
        lab,
        list(records.values()),
        output,
        weights=weights,
        announce=lambda room: _tell_room(f"writing {output}", room),
    )
    cells = {name.split("/")[1] for name in manifest.files if name.startswith("cells/")}
    sweeps = [Path(name).stem for name in manifest.files if name.startswith("sweeps/")]
    if json_:
        said = {"archive": output, "size_bytes": output.stat().st_size, "runs": manifest.runs}
        scores = len(manifest.ledger)
        print_json({**said, "cells": sorted(cells), "ledger_rows": scores, "sweeps": sweeps})
        return
    print_lines(
        f"{output}: {count_words(len(manifest.runs), 'run')}, {count_words(len(cells), 'cell')}, "
        f"{count_words(len(manifest.ledger), 'leaderboard score')}, "
        f"{in_bytes(output.stat().st_size)}"
    )
    if sweeps:
        print_lines(f"sweeps of which every arm goes along: {', '.join(sweeps)}")


def import_(
    archive: Annotated[Path | None, typer.Argument(help="What `birdlab export` wrote.")] = None,
    oof: Annotated[
        Path | None, typer.Option(help="A foreign model's out-of-fold table (Parquet or CSV).")
    ] = None,
    onnx: Annotated[Path | None, typer.Option(help="The foreign model itself, to be kept.")] = None,
    like: Annotated[str, typer.Option(help="The RUN on whose rows the table is scored.")] = "",
    name: Annotated[str, typer.Option(help="What the foreign run is called.")] = "",
    max_gb: Annotated[float, typer.Option(min=0.001, help="Larger archives are refused.")] = 100.0,
    json_: JsonOption = False,
) -> None:
    """Take runs of another lab into this one, or a model that birdlab did not train.

    Nothing that the lab has is overwritten. A foreign model comes as a table of predictions
    (docs/lab.md) and joins runs and comparisons; it has no spec.
    Example: birdlab import best.tar
    """
    from birdlab.lab import open_lab

    if (archive is None) == (oof is None):
        raise SpecError("give an archive, or --oof with a foreign model's table")
    if archive is not None:
        _take_archive(open_lab(extensions=False), archive, max_gb, json_)
    elif oof is not None:
        if not (like and name):
            raise SpecError(
                "a foreign run needs a name and the run on whose rows it is scored",
                fix="--name perch --like baseline",
            )
        _take_foreign(open_lab(), oof, onnx, like, name, json_)


def _take_archive(lab: Lab, archive: Path, max_gb: float, json_: bool) -> None:
    from birdlab.cli.progress import print_lines
    from birdlab.upkeep.exchange import import_runs
    from birdlab.words import count_words

    done = import_runs(
        lab,
        archive,
        max_gb=max_gb,
        announce=lambda room: _tell_room(f"unpacking {archive}", room),
    )
    if json_:
        print_json(done)
        return
    scores = count_words(done.ledger_rows, "leaderboard score")
    lines = [
        f"new: {count_words(len(done.runs), 'run')}, {count_words(len(done.cells), 'cell')}, "
        f"{scores}; here already: {count_words(len(done.kept_runs), 'run')}, "
        f"{count_words(len(done.kept_cells), 'cell')}"
    ]
    lines += [f"  {run}" for run in done.runs]
    lines += [
        f"  the cell {cell} was trained here to other numbers (another device?); it stays as it is"
        for cell in done.odd_cells
    ]
    lines += [f"  the sweep {name} is new" for name in done.sweeps.new]
    lines += [
        f"  the sweep {name} is here otherwise, so that of the archive is not taken; its runs are"
        for name in done.sweeps.other
    ]
    print_lines("\n".join(lines))


def _tell_room(what: str, room: Room) -> None:
    from birdlab.cli.gc import in_bytes

    print_note(f"{what}: {in_bytes(room.needed_bytes)}, {in_bytes(room.free_bytes)} free")


def _take_foreign(
    lab: Lab, oof: Path, onnx: Path | None, like: str, name: str, json_: bool
) -> None:
    from birdlab.cli.common import load_result_spec
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.plan import plan_experiment
    from birdlab.tracking.resolve import resolve_run
    from birdlab.upkeep.foreign import import_foreign, same_folds

    record = resolve_run(lab, like)
    with CellProgress() as shown:
        plan = plan_experiment(load_result_spec(record), lab, strict=False, progress=shown.step)
    made = import_foreign(lab, plan, oof, name, like=record["spec_id"], onnx=onnx)
    scores = made["scores"]
    if json_:
        alike = same_folds(plan, made)
        print_json({"run": made["spec_id"], "name": name, "scores": scores, "same_folds": alike})
        return
    print_lines(
        f"{name}  {made['spec_id']}  padded cmAP {scores['cv/padded_cmap']:.4f} "
        f"(floor {scores['cv/floor']:.4f}), AUC {scores['cv/macro_auc']:.4f}, "
        f"{made['evaluation']['n_rows']} rows"
    )
    if not same_folds(plan, made):
        print_lines(f"its folds are not those of {like}: scores do not compare")
