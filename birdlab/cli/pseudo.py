"""`birdlab pseudo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birdlab.cli.common import JsonOption, SetOption, load_result_spec
from birdlab.cli.files import write_file
from birdlab.cli.voice import print_json
from birdlab.errors import CellError, SpecError

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.plan import Plan
    from birdlab.spec.experiment import ExperimentSpec
    from birdlab.spec.parts import StageSpec
    from birdlab.study.pseudo_labels import LabelSets


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("pseudo")(pseudo)


def pseudo(
    spec: Annotated[str, typer.Argument(metavar="SPEC|RUN", help="An experiment file, or a run.")],
    stage: Annotated[
        str | None, typer.Option(help="The stage whose labels; default: every stage that has some.")
    ] = None,
    set_: SetOption = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with windows to listen to, of the last stage.")
    ] = None,
    species: Annotated[
        str | None, typer.Option(help="Species on the page: a,b; default: those labelled most.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="So many species on the page.")] = 30,
    examples: Annotated[int, typer.Option(min=1, max=20, help="Windows of each kind.")] = 2,
    json_: JsonOption = False,
) -> None:
    """Show what is pseudo-labelled: windows, species, confidence, whether teachers agree.

    Nothing is trained or heard: the labels are those that a run has stored.

    Example: birdlab pseudo experiments/pseudo.yaml --html labels.html
    """
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.lab import open_lab
    from birdlab.plan import plan_experiment

    lab = open_lab()
    experiment, name = _open_spec(lab, spec, set_ or [])
    _stages_of(experiment, stage)
    with CellProgress() as shown:
        plan = plan_experiment(experiment, lab, strict=False, progress=shown.step)
    found = _load_all(lab, plan, _stages_of(plan.spec, stage), spec)
    if json_:
        print_json([as_json(s, labels) for s, labels, _ in found])
    else:
        print_lines("\n\n".join(describe_labels(name, *each) for each in found))
    if html is not None:
        _write_page(lab, plan, name, found[-1], html, species, most, examples)
        if not json_:
            print_lines(f"\nwrote {html}")


def _open_spec(lab: Lab, text: str, changes: list[str]) -> tuple[ExperimentSpec, str]:
    """The experiment in a file or of a run, and what to call it."""
    from birdlab.spec.experiment import load_spec
    from birdlab.tracking.resolve import resolve_run

    if Path(text).is_file():
        experiment = load_spec(Path(text), changes)
        return experiment, experiment.name or Path(text).stem
    if changes:
        raise SpecError("--set changes an experiment file, and this is a run", got=text)
    record = resolve_run(lab, text)
    return load_result_spec(record), record["name"] or record["spec_id"]


def _stages_of(experiment: ExperimentSpec, stage: str | None) -> list[StageSpec]:
    labelled = [s for s in experiment.stages if s.pseudo is not None]
    chosen = [s for s in labelled if stage in (None, s.name)]
    if not chosen:
        raise SpecError(
            "no stage of this experiment has `pseudo`"
            if not labelled
            else f"the stage {stage!r} has no `pseudo`",
            got=", ".join(s.name for s in experiment.stages),
            expected=", ".join(s.name for s in labelled) or "a stage with `pseudo`",
        )
    return chosen


def _load_all(
    lab: Lab, plan: Plan, stages: list[StageSpec], asked: str
) -> list[tuple[StageSpec, LabelSets, int]]:
    """Each stage that has stored labels, with how many of its cells lack them."""
    from birdlab.study.pseudo_labels import join_labels, load_label_sets

    found = []
    for stage in stages:
        sets, n_lacking = load_label_sets(plan, stage, lab)
        if sets:
            assert stage.pseudo is not None
            found.append((stage, join_labels(sets, stage.pseudo, plan.data.classes), n_lacking))
    if not found:
        command = "run" if Path(asked).is_file() else "rerun"
        raise CellError(
            "no soundscape of this experiment is labelled yet",
            where=", ".join(stage.name for stage in stages),
            fix=f"birdlab {command} {asked}: teachers are trained, then they label",
        )
    return found


def describe_labels(name: str, stage: StageSpec, labels: LabelSets, n_lacking: int) -> str:
    """The labels of a stage in lines: what is labelled, how surely, species by species."""
    from birdlab.study.pseudo_report import table_words

    table = table_words(labels)
    widths = {column: max(len(column), *table[column].map(len)) for column in table}
    lines = [f"{name}, stage {stage.name}", *(f"  {s}" for s in sentences_of(stage, labels))]
    if n_lacking:
        lines.append(f"  {n_lacking} cells of the stage have no labels yet")
    lines += ["", "  " + "  ".join(c.ljust(w) for c, w in widths.items()).rstrip()]
    for row in table.to_dict("records"):
        cells = (
            str(row[c]).ljust(w) if c in ("species", "in tenths") else str(row[c]).rjust(w)
            for c, w in widths.items()
        )
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def sentences_of(stage: StageSpec, labels: LabelSets) -> list[str]:
    """What there is to say of the labels of a stage, beside the table of species."""
    from birdlab.durations import in_time
    from birdlab.spec.teaching import text_of
    from birdlab.words import count_words

    spec, n = labels.spec, len(labels)
    passed = sum(labels.passing) / len(labels.passing)
    each = f" ({', '.join(map(str, labels.passing))})" if len(labels.passing) > 1 else ""
    sets = count_words(len(labels.teachers), "teacher")
    said = [
        f"{count_words(len(labels.keys), 'soundscape')} of {', '.join(spec.soundscapes)}, "
        f"{in_time(labels.seconds)}, labelled by {text_of(spec.teacher)} ({sets})",
        f"{passed:.0f} of {n} windows{each} reach the threshold {spec.threshold:g}; "
        f"floor {spec.floor:g}, power {spec.power:g}",
        f"highest probability of each window, in tenths from 0 to 1: "
        f"{' '.join(map(str, labels.histogram))}",
    ]
    both, either = labels.agreed
    if len(labels.teachers) > 1 and either:
        said.append(
            f"agreement: of {either} pairs of window and species that any teacher puts at the "
            f"threshold or above, all do in {100 * both / either:.0f} %"
        )
    table = labels.table
    never = table.loc[table["known"] & (table["highest"] < spec.threshold), "species"]
    if len(never):
        said.append(f"never at the threshold: {', '.join(never)}")
    strange = table.loc[~table["known"], "species"]
    if len(strange):
        said.append(f"not known to every teacher: {', '.join(strange)}")
    return said


def as_json(stage: StageSpec, labels: LabelSets) -> dict[str, Any]:
    """The numbers of a stage as plain data."""
    from birdlab.cli.common import table_rows

    both, either = labels.agreed
    return {
        "stage": stage.name,
        "pseudo": labels.spec.model_dump(mode="json"),
        "soundscapes": len(labels.keys),
        "windows": len(labels),
        "seconds": labels.seconds,
        "teachers": list(labels.teachers),
        "windows_at_threshold": list(labels.passing),
        "highest_in_tenths": list(labels.histogram),
        "pairs_all_agree": both,
        "pairs_any": either,
        "species": table_rows(labels.table),
    }


def _write_page(
    lab: Lab,
    plan: Plan,
    name: str,
    found: tuple[StageSpec, LabelSets, int],
    path: Path,
    asked: str | None,
    most: int,
    n_examples: int,
) -> None:
    from birdlab.data.waves import open_waves
    from birdlab.study.pseudo_report import pseudo_report_html, table_words

    stage, labels, _ = found
    codes = list(table_words(labels)["species"])[:most] if asked is None else asked.split(",")
    unknown = [code for code in codes if code not in labels.codes]
    if unknown:
        raise SpecError(
            "--species names what is no class of the run",
            got=", ".join(unknown),
            expected=", ".join(labels.codes),
        )
    page = pseudo_report_html(
        labels,
        open_waves(lab, plan.sample_rate_hz),
        title=f"Soft labels of {name}, stage {stage.name}",
        sentences=sentences_of(stage, labels),
        species=codes,
        n_examples=n_examples,
    )
    write_file(path, page)
