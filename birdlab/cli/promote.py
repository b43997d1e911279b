"""`birdlab promote`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import (
    DryRunOption,
    InsecureOption,
    JobsOption,
    JsonOption,
    Place,
    SchedulerOption,
    SlurmOption,
    TrackOption,
    tracked,
)
from birdlab.cli.promote_words import plan_lines, promotion_words, say_gates
from birdlab.cli.voice import print_json, print_note

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.promote.request import PromotionRequest


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("promote", context_settings={"ignore_unknown_options": True})(promote)


def promote(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="The runs to promote, or one ensemble file (YAML)."),
    ],
    weights: Annotated[
        str | None,
        typer.Option(help="full (default): train on all data; folds: fold models; averaged."),
    ] = None,
    soup: Annotated[
        str | None,
        typer.Option(help="Average weights over folds, over seeds, or over all of a run's models."),
    ] = None,
    blend: Annotated[
        str | None, typer.Option(help="mean (default), power:2, geometric or rank.")
    ] = None,
    shares: Annotated[
        str | None, typer.Option(help="Of the runs: equal (default), fitted, or numbers: 2,1,1.")
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="A further form of the file: int8, ... (repeatable).")
    ] = None,
    gate: Annotated[
        float, typer.Option(help="How far a variant may move the out-of-fold score.")
    ] = 0.001,
    soundscapes: Annotated[
        Path | None,
        typer.Option(help="Unlabelled recordings to compare full-data models on."),
    ] = None,
    post: Annotated[
        str | None,
        typer.Option(help="A file of post-processing steps, or none (default: as scored)."),
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Seconds between windows (default: as scored).")
    ] = None,
    alias: Annotated[
        str | None, typer.Option(help="The alias that moves to the model (default: champion).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote although gates refuse.")] = False,
    reason: Annotated[str, typer.Option(help="Why it is forced; written down.")] = "",
    register_: Annotated[
        bool, typer.Option("--register/--no-register", help="Into MLflow's Model Registry or not.")
    ] = True,
    dry_run: DryRunOption = False,
    jobs: JobsOption = None,
    scheduler: SchedulerOption = None,
    slurm: SlurmOption = False,
    insecure: InsecureOption = False,
    mlflow: TrackOption = True,
    json_: JsonOption = False,
) -> None:
    """Make runs one ONNX file: gates, models on all data, parity, registry, and the alias last.

    Every gate is listed with what brings the evidence it lacks; one that is not met refuses, with
    exit code 1. --dry-run ends with 0 whatever the gates say: scripts read `state` in its --json.

    Example: birdlab promote lr:best --dry-run
    """
    from birdlab.lab import open_lab
    from birdlab.promote.request import PromotionRequest, parse_blend, parse_shares
    from birdlab.tracking.resolve import resolve_run

    if force and not reason.strip():
        raise typer.BadParameter('--force needs --reason "..."', param_hint="--reason")
    lab = open_lab()
    named, said = _read_ensemble(runs)
    asked = said | {
        key: value
        for key, value in (
            ("weights", weights or (None if soup is None else "averaged")),
            ("soup", soup),
            ("blend", None if blend is None else parse_blend(blend)),
            ("shares", None if shares is None else parse_shares(shares)),
            ("variants", tuple(dict.fromkeys(variant or ())) or None),
            ("alias", alias),
        )
        if value is not None
    }
    request = PromotionRequest(
        **asked,
        force=force,
        reason=reason,
        register=register_,
        gate=gate,
        soundscapes=soundscapes,
        post=_read_steps(post),
        hop_s=hop,
    )
    records = [resolve_run(lab, run) for run in named]
    if dry_run:
        _preview(lab, records, request, json_=json_)
    else:
        place = Place(jobs, scheduler, slurm, insecure)
        _promote(lab, records, request, place, mlflow, json_=json_)


def _read_ensemble(runs: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The runs that are named, and what an ensemble file asks for besides; nothing without one."""
    if len(runs) != 1 or Path(runs[0]).suffix not in (".yaml", ".yml"):
        return runs, {}
    from birdlab.promote.request import parse_blend
    from birdlab.spec.ensemble import load_ensemble

    spec = load_ensemble(runs[0])
    return list(spec.members), {
        "weights": spec.weights,
        "blend": parse_blend(spec.blend),
        "shares": spec.shares,
        "variants": spec.variants,
        "alias": spec.alias,
    }


def _read_steps(post: str | None) -> tuple[dict[str, Any], ...] | None:
    """The steps of a file, () for `none`, None where the runs decide."""
    if post is None or post == "none":
        return None if post is None else ()
    from birdlab.evaluate.steps import load_steps, portable_mappings

    return tuple(portable_mappings(load_steps(Path(post)), overlap=True))


def _preview(
    lab: Lab, records: Sequence[dict[str, Any]], request: PromotionRequest, *, json_: bool
) -> None:
    """Print the plan and the gates as far as the lab tells them."""
    from birdlab.cli.progress import print_lines
    from birdlab.cli.result_json import gates_json
    from birdlab.promote.promote import check_runs

    found = check_runs(lab, records, request)
    if json_:
        gates = gates_json(found.gates)
        print_json({"gates": gates, "lengths": found.lengths, "sentences": found.told})
        return
    lines = plan_lines(records, request)
    lines += [f"  {name} on all data: {'; '.join(told)}" for name, told in found.lengths.items()]
    print_lines("\n".join([*lines, *(f"  {sentence}" for sentence in found.told)]))
    say_gates(found.gates, print_lines)


def _promote(
    lab: Lab,
    records: Sequence[dict[str, Any]],
    request: PromotionRequest,
    place: Place,
    mlflow: bool,
    *,
    json_: bool,
) -> None:
    """Promote, print what happens, and what came of it."""
    from birdlab.cli.driving import driving
    from birdlab.cli.estimates import announce_runs
    from birdlab.cli.progress import print_lines
    from birdlab.cli.result_json import promotion_json
    from birdlab.promote.fullweights import Training
    from birdlab.promote.promote import promote_runs

    say = print_note if json_ else print_lines
    say("\n".join(plan_lines(records, request)))
    name = f"promote-{request.alias}"
    with (
        tracked(lab, mlflow) as sinks,
        driving(lab, name, "promote") as command,
        place.open(lab, apart=False) as executor,
    ):
        promotion = promote_runs(
            lab,
            records,
            request,
            progress=print_note,
            judged=lambda gates: say_gates(gates, say),
            training=Training(
                executor,
                sinks,
                command.emit,
                command.step,
                command.driver.wanted,
                announce_runs(lab, place),
            ),
        )
        command.end(f"{promotion.name} is @{promotion.alias}")
    if json_:
        print_json(promotion_json(promotion))
    else:
        print_lines(promotion_words(promotion, request))
