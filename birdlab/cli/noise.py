"""`birdlab noise`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import (
    InsecureOption,
    JobsOption,
    JsonOption,
    Place,
    SchedulerOption,
    SetOption,
    SlurmOption,
    TrackOption,
)
from birdlab.cli.voice import print_json, print_note

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.study.noise import NoiseFloor, Spread

SEEDS_SHOWN = (1, 2, 3, 5, 10)
ARMS_SHOWN = (1, 3, 10)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("noise", context_settings={"ignore_unknown_options": True})(noise)


def noise(
    spec: Annotated[
        str, typer.Argument(metavar="SPEC|RUN", help="An experiment file, or a run with 2 seeds.")
    ],
    seeds: Annotated[
        int, typer.Option(min=2, help="Of an experiment file: so many seeds, 0, 1, 2 ...")
    ] = 5,
    set_: SetOption = None,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    slurm: SlurmOption = False,
    insecure: InsecureOption = False,
    mlflow: TrackOption = True,
    json_: JsonOption = False,
) -> None:
    """Measure how far scores scatter over folds and seeds, and what differences that hides.

    A file is run with several seeds, a finished run is taken as it is; the result is stored with
    the lab. Example: birdlab noise experiments/baseline.yaml --seeds 5
    """
    from birdlab.cli.progress import print_lines
    from birdlab.errors import DataError, SpecError
    from birdlab.lab import open_lab
    from birdlab.recorded import is_foreign
    from birdlab.study.noise_file import measure_noise, save_noise
    from birdlab.tracking.index import load_record, load_records
    from birdlab.tracking.resolve import resolve_run

    lab = open_lab()
    if Path(spec).suffix in (".yaml", ".yml"):
        place = Place(jobs, scheduler, slurm, insecure)
        record = load_record(lab, _train(lab, Path(spec), seeds, set_ or [], place, mlflow, json_))
    elif set_:
        raise SpecError("--set goes with an experiment file", got=spec)
    else:
        record = resolve_run(lab, spec)
    try:
        measured = measure_noise(record, load_records(lab))
    except DataError as error:
        if not is_foreign(record):
            raise
        fix = "birdlab import --oof TABLE, with a column seed, takes in several seeds"
        raise DataError(error.what, got=error.got, fix=fix) from None
    path = save_noise(lab, record, measured)
    if json_:
        print_json({"run": record["spec_id"], "noise": measured, "stored": path})
        return
    lines = describe_noise(measured, record["name"] or record["spec_id"])
    print_lines("\n".join([*lines, "", f"stored in {lab.name_path(path)}"]))


def _train(
    lab: Lab, path: Path, seeds: int, overrides: list[str], place: Place, mlflow: bool, json_: bool
) -> str:
    """The spec id of an experiment that was run with these seeds, and summarised."""
    from birdlab.cli.summaries import summarise_run
    from birdlab.cli.training import print_run, train_and_print
    from birdlab.more import add_cells
    from birdlab.spec.experiment import load_spec, parse_overrides

    experiment = add_cells(load_spec(path, overrides), n_seeds=seeds)
    if not experiment.name:
        experiment = experiment.model_copy(update={"name": path.stem})
    show = (lambda result: print_note(summarise_run(result))) if json_ else print_run
    delta = parse_overrides(overrides)
    return train_and_print(experiment, lab, place, mlflow, delta, show=show).spec_id


def describe_noise(noise: NoiseFloor, name: str) -> list[str]:
    """The parts of the noise with their intervals, and the differences that studies find."""
    from birdlab.study.contrasts import MIN_FOLDS

    lines = [
        f"noise of {name}: padded cmAP {noise.mean:.4f} over {noise.n_folds} folds and "
        f"{noise.n_seeds} seeds (SD, 95 % interval)",
        _line("between folds", noise.fold, "some folds are harder; pairing by fold removes it"),
        _line("another seed", noise.repeat, "the same fold trained again"),
        _line("  in all folds", noise.seed, "the part that all folds share"),
    ]
    if noise.fold_arm is None:
        lines.append("  recipe by fold  unknown: no other run has these folds and seeds")
    else:
        told = f"recipes rank differently by fold; from {noise.n_arms} runs"
        lines.append(_line("recipe by fold", noise.fold_arm, told))
    if noise.seed.low > 0:
        lines.append("A seed moves all folds together: more folds do not average that out.")
    if noise.n_folds < MIN_FOLDS:
        return [*lines, "", f"no verdicts under {MIN_FOLDS} folds, so no difference can be found"]
    return [*lines, "", *_differences(noise)]


def _line(name: str, spread: Spread, told: str) -> str:
    return f"  {name:<15} {spread.sd:.4f} ({spread.low:.4f} to {spread.high:.4f})  {told}"


def _differences(noise: NoiseFloor) -> list[str]:
    """A table: seeds against arms, the true difference that is found in 80 % of studies."""
    from birdlab.study.noise import detectable_delta

    least = " at least, since recipes may differ by fold" if noise.fold_arm is None else ""
    lines = [f"true difference that {noise.n_folds} folds find in 80 % of studies{least}:"]
    lines.append("  seeds" + "".join(f"{f'{n} arm' + 's' * (n > 1):>10}" for n in ARMS_SHOWN))
    for seeds in SEEDS_SHOWN:
        deltas = [detectable_delta(noise, noise.n_folds, seeds, n) for n in ARMS_SHOWN]
        lines.append(f"  {seeds:>5}" + "".join(f"{delta:>10.4f}" for delta in deltas))
    return lines
