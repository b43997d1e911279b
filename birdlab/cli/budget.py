"""`birdlab budget`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import JsonOption
from birdlab.cli.voice import print_json, print_note

if TYPE_CHECKING:
    from birdlab.infer.budget import Workload
    from birdlab.lab import Lab
    from birdlab.promote.budget import Budget
    from birdlab.promote.machines import Machine
    from birdlab.spec.competition import CompetitionSpec

IDLE_SHARE = 0.85
"""Of its cores a benchmark gets at least so much where little else runs."""


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("budget", context_settings={"ignore_unknown_options": True})(budget)


def budget(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN...]", help="Runs that would be members, one model each; or use --model."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A promoted model instead; default without runs: @champion.")
    ] = None,
    variant: Annotated[str, typer.Option(help="The form of the promoted model.")] = "fp32",
    profile: Annotated[
        str | None, typer.Option(help="A competition profile; default: that of the run or model.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="The limit, instead of a profile's.")
    ] = None,
    files: Annotated[int | None, typer.Option(help="How many soundscapes.")] = None,
    file_minutes: Annotated[float | None, typer.Option(help="The length of one.")] = None,
    hop: Annotated[
        float | None,
        typer.Option(help="Seconds between windows; default: that of the runs or the model."),
    ] = None,
    cores: Annotated[
        int | None, typer.Option(min=1, help="Cores there; default 2, or those of --machine.")
    ] = None,
    machine: Annotated[
        Path | None, typer.Option(help="What the benchmark of a bundle wrote on another machine.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again.")] = False,
    json_: JsonOption = False,
) -> None:
    """Predict the minutes of a submission, by part, and say what fits the limit.

    Example: birdlab budget --model @champion --profile birdclef-2023
    """
    from dataclasses import replace

    from birdlab.cli.progress import print_lines
    from birdlab.cli.result_json import budget_json
    from birdlab.errors import SpecError
    from birdlab.infer.budget import read_machine
    from birdlab.lab import open_lab
    from birdlab.promote.budget import build_budget
    from birdlab.spec.competition import load_competition

    if runs and model is not None:
        raise SpecError("name runs or --model, not both", got=f"{', '.join(runs)} and {model}")
    lab = open_lab()
    there = None if machine is None else read_machine(machine)
    n_cores = cores or (2 if there is None else int(there["cores"]))

    def tell(text: str) -> None:
        print_note(f"{text} ...")

    if runs:
        measured, competition, hops_s = _of_runs(lab, runs, n_cores, fresh, there, tell)
    else:
        found = _of_model(lab, model, variant, n_cores, fresh, there, tell)
        measured, competition, hops_s = found
    if profile is not None:
        competition = load_competition(profile)
    hop_s = _choose_hop(hop, hops_s, measured["window_s"])
    workload = replace(_workload(competition, minutes, files, file_minutes), hop_s=hop_s)
    asked = build_budget(measured, workload, n_cores)
    if json_:
        print_json(budget_json(asked))
    else:
        print_lines(budget_table(asked))


def _of_runs(
    lab: Lab,
    runs: list[str],
    cores: int,
    fresh: bool,
    there: Machine | None,
    tell: Callable[[str], None],
) -> tuple[Machine, CompetitionSpec | None, set[float | None]]:
    from birdlab.promote.budget import join_machines, move_to
    from birdlab.promote.machines import measure_run
    from birdlab.recorded import spec_of
    from birdlab.tracking.resolve import resolve_run

    records = [resolve_run(lab, run) for run in runs]
    measured = join_machines(
        [measure_run(lab, r, cores=cores, fresh=fresh, progress=tell) for r in records]
    )
    if there is not None:
        measured = move_to(lab, measured, there, cores=cores, progress=tell)
    specs = [spec_of(record) for record in records]
    return measured, specs[0].competition, {spec.evaluate.hop_s for spec in specs}


def _of_model(
    lab: Lab,
    model: str | None,
    variant: str,
    cores: int,
    fresh: bool,
    there: Machine | None,
    tell: Callable[[str], None],
) -> tuple[Machine, CompetitionSpec | None, set[float | None]]:
    from birdlab.infer.models import find_model
    from birdlab.infer.session import open_predictor
    from birdlab.promote.budget import find_measured, move_to
    from birdlab.promote.bundle import competition_of
    from birdlab.promote.machines import measure_model

    if there is not None and model is None:
        path, _ = find_measured(lab, there)
        measured = there
    else:
        path = find_model(lab.models, model or "@champion")
        measured = measure_model(lab, path, variant, cores=cores, fresh=fresh, progress=tell)
        if there is not None:
            measured = move_to(lab, measured, there, cores=cores, progress=tell)
    return measured, competition_of(lab, path), {open_predictor(path, threads=1).card.hop_s}


def _choose_hop(
    asked_s: float | None, own_s: Collection[float | None], window_s: float
) -> float | None:
    """The hop that is asked for, else that of all; SpecError for none, and for no part of a window.

    None for windows one after the other.
    """
    from birdlab.errors import SpecError

    if asked_s is None:
        if len(own_s) > 1:
            raise SpecError(
                "the runs were scored on windows that overlap differently, and a model has one hop",
                got=", ".join(sorted(f"every {hop or window_s:g} s" for hop in own_s)),
                fix=f"say which it gets: --hop {window_s:g} for windows one after the other",
            )
        return next(iter(own_s))
    parts = window_s / asked_s if asked_s > 0 else 0.0
    if round(parts) < 1 or abs(parts - round(parts)) > 1e-6:
        raise SpecError(
            "the hop is no whole part of a window",
            where="--hop",
            got=f"{asked_s:g} s",
            expected=f"{window_s:g} s divided by 1, 2, 3 ...",
        )
    return asked_s


def _workload(
    competition: CompetitionSpec | None,
    minutes: float | None,
    files: int | None,
    file_minutes: float | None,
) -> Workload:
    """The workload of a competition, changed by what was given; without one all is needed."""
    from birdlab.errors import SpecError
    from birdlab.infer.budget import Workload
    from birdlab.promote.budget import workload_of

    given = {"--minutes": minutes, "--files": files, "--file-minutes": file_minutes}
    lacking = [option for option, value in given.items() if value is None]
    if competition is None and lacking:
        raise SpecError(
            "the model names no competition that is known here",
            fix=f"add --profile NAME, or {' '.join(lacking)}",
        )
    base = Workload(1, 1, 1) if competition is None else workload_of(competition)
    return Workload(
        files=base.files if files is None else files,
        file_minutes=base.file_minutes if file_minutes is None else file_minutes,
        limit_minutes=base.limit_minutes if minutes is None else minutes,
        name=base.name if len(lacking) == len(given) else "custom",
    )


def budget_table(b: Budget) -> str:
    """The budget as the command prints it."""
    machine, line, work = b.machine, b.line, b.workload
    windows = work.count_windows(machine["window_s"])
    rows = [
        ("decode", None, line.decode_minutes),
        ("mel", machine["mel_ms_per_window"], line.mel_minutes),
    ]
    for name, member, minutes in zip(
        b.members, machine["members"], line.member_minutes, strict=True
    ):
        rows.append((name, member["ms_per_window"], minutes))
    rows.append(("start", None, line.startup_minutes))
    width = max(len("with 20 % kept free"), *(len(name) for name, _, _ in rows))
    head = [
        f"{work.name}: {work.files} files of {work.file_minutes:g} min, {windows} windows, "
        f"limit {work.limit_minutes:g} min",
        f"{machine['processor']}, measured with {machine['cores']} cores, said for {b.cores}",
        "",
        f"{'':<{width}}  {'ms a window':>11}  {'minutes':>7}",
    ]
    if machine.get("measured_by") == "clock" and machine.get("share_of_cores", 1.0) < IDLE_SHARE:
        head[1] += (
            f"\nit was busy: the benchmark had {machine['share_of_cores']:.0%} of these cores, "
            "so idle it is that much quicker"
        )
    body = [
        f"{name:<{width}}  {'' if ms is None else f'{ms:.2f}':>11}  {minutes:7.1f}"
        for name, ms, minutes in rows
    ]
    kept = f"with {line.margin:.0%} kept free"
    ends = [
        f"{name:<{width}}  {'':>11}  {minutes:7.1f}"
        for name, minutes in (
            ("total", line.total_minutes),
            (kept, line.needed_minutes),
            ("limit", line.limit_minutes),
        )
    ]
    return "\n".join([*head, *body, *ends, "", _verdict(b)])


def _verdict(b: Budget) -> str:
    """What fits, in words."""
    n, fit = len(b.members), b.fit
    if b.line.fits:
        left = b.line.limit_minutes - b.line.needed_minutes
        more = [f"  {count} more like {b.members[i]}" for i, count in enumerate(fit.more)]
        return "\n".join([f"fits: {left:.1f} min are left, enough for one of", *more])
    if not fit.most:
        return "does not fit: not even the cheapest member does"
    cheapest = ", ".join(b.members[i] for i in fit.most)
    return (
        f"does not fit: of {n} members the first {fit.prefix} do; "
        f"cheapest first, {len(fit.most)}: {cheapest}"
    )
