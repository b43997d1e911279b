"""`birdlab data build`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birdlab.cli.common import JsonOption, SetOption
from birdlab.cli.interrupt import INTERRUPTED
from birdlab.cli.voice import print_json, print_note
from birdlab.durations import in_time
from birdlab.timing import timed
from birdlab.words import count_words

if TYPE_CHECKING:
    from birdlab.cli.progress import CellProgress
    from birdlab.data.building import Need
    from birdlab.data.quarantine import Listed
    from birdlab.data.store import WaveStore
    from birdlab.lab import Lab
    from birdlab.plan import Plan
    from birdlab.spec.experiment import ExperimentSpec

SHOWN = 20


@dataclass
class Work:
    """What a build did: files decoded, how long they play, how long that took."""

    n_files: int = 0
    audio_s: float = 0.0
    seconds: float = 0.0


def register(group: typer.Typer) -> None:
    """Add the commands to the noun."""
    group.command("build")(build)


def build(
    spec: Annotated[Path, typer.Argument(help="An experiment file.")],
    set_: SetOption = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Files decoded at once.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Decode files again that could not be used before.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Decode every recording of an experiment once; list files that cannot be used, and why.

    A run does this by itself; here it has a report of its own. What is stored already is not
    decoded again, and a build that was stopped goes on. Exit code 1 if a file cannot be used,
    unless the experiment says `on_bad_file: skip`; all others are stored either way.

    Example: birdlab data build experiments/baseline.yaml
    """
    from birdlab.cli.progress import CellProgress, print_lines
    from birdlab.data.quarantine import REPORT, save_report
    from birdlab.data.waves import open_waves
    from birdlab.lab import open_lab
    from birdlab.spec.experiment import load_spec

    with timed("load the lab and the experiment"):
        lab, experiment, work = open_lab(), load_spec(spec, set_ or []), Work()
    with CellProgress() as shown:
        try:
            plan = _plan_and_decode(experiment, lab, jobs or lab.jobs, retry, work, shown)
        except KeyboardInterrupt:
            print_note("stopped; what is stored is kept, the same command goes on from there")
            raise typer.Exit(INTERRUPTED) from None
    waves = open_waves(lab, plan.sample_rate_hz)
    unused, unusual = _listed(plan, lab, waves)
    save_report(waves.root / REPORT, [*unused, *unusual])
    if json_:
        decoded = {"files": work.n_files, "audio_s": work.audio_s, "seconds": work.seconds}
        said = {"decoded": decoded, "stored": _count_held(plan, waves), "missing": plan.missing}
        files = {"unused": _named(unused), "unusual": _named(unusual)}
        print_json({**said, **files, "report": waves.root / REPORT})
    else:
        print_lines("\n".join(_summary(plan, waves, work)))
        print_lines("\n".join(_report(unused, unusual, waves.root / REPORT)))
    if unused and experiment.data.on_bad_file == "fail":
        raise typer.Exit(1)


def _plan_and_decode(
    spec: ExperimentSpec, lab: Lab, jobs: int, retry: bool, work: Work, shown: CellProgress
) -> Plan:
    """The plan of an experiment, bad files left out, with everything else in the store.

    Rules that ask about audio cannot choose before it is there, so with such rules the plan is
    made again.
    """
    from birdlab.data.clean import NEEDS_BUILD
    from birdlab.data.quarantine import forget_files
    from birdlab.data.waves import open_waves
    from birdlab.plan import plan_experiment

    data = spec.data.model_copy(update={"on_bad_file": "skip"})
    lenient = spec.model_copy(update={"data": data})
    with timed("plan the experiment"):
        plan = plan_experiment(lenient, lab, strict=False, progress=shown.step)
    waves = open_waves(lab, plan.sample_rate_hz)
    if retry:
        forget_files(waves.root, waves.missing(plan.paths))
    _decode(plan, waves, jobs, work, shown)
    if (plan.data.waterfall["note"] == NEEDS_BUILD).any():
        plan = plan_experiment(lenient, lab, progress=shown.step)
        _decode(plan, waves, jobs, work, shown)
    return plan_experiment(lenient, lab, strict=False, progress=shown.step)


def _decode(plan: Plan, waves: WaveStore, jobs: int, work: Work, shown: CellProgress) -> None:
    """Take in what the store lacks of a plan, and say first how much room that needs."""

    def announce(need: Need) -> None:
        work.n_files += need.n_files
        if need.n_files:
            print_note(_need_words(need, waves))

    lacking, began = waves.missing(plan.paths), time.perf_counter()
    with timed("decode audio"):
        waves.build(
            list(plan.paths.items()),
            jobs=jobs,
            progress=lambda done, total: shown.step("decoding audio", done, total),
            announce=announce,
        )
    work.seconds += time.perf_counter() - began
    work.audio_s += _duration_s(waves, lacking)


def _need_words(need: Need, waves: WaveStore) -> str:
    """What a build is about to do, in words."""
    if need.seconds is None:
        told = "; time unknown: no file could be decoded for a try"
    elif need.seconds:
        told = f"; time about {in_time(need.seconds)}, as some of them took just now"
    else:
        told = ""
    return (
        f"{count_words(need.n_files, 'file')} to decode, {need.audio_s / 3600:.2f} h: "
        f"{need.n_bytes / 1e9:.2f} GB needed, {need.free_bytes / 1e9:.2f} GB free in "
        f"{waves.root}{told}"
    )


def _duration_s(waves: WaveStore, keys: Iterable[str]) -> float:
    """How long the recordings play that the store holds of these keys."""
    wanted = list(keys)
    missing = set(waves.missing(wanted))
    rows = waves.locate([key for key in wanted if key not in missing])
    return sum(waves.length_of(row) for row in rows.tolist()) / waves.sample_rate_hz


def _listed(plan: Plan, lab: Lab, waves: WaveStore) -> tuple[list[Listed], list[Listed]]:
    """The files of a plan that cannot be used, and those that are used but unusual."""
    from birdlab.data.headers import find_reason
    from birdlab.data.quarantine import Listed, load_listed
    from birdlab.plan import open_dataset

    listed = load_listed(waves.root)
    paths = {key: str(path) for key, path in plan.paths.items() if key in listed}
    named = [listed[key]._replace(file=path) for key, path in paths.items()]
    unused = [file for file in named if not file.used]
    unused += [Listed(str(path), find_reason(path), used=False) for path in plan.absent]
    loaded = {*plan.data.rows["dataset"], *plan.data.dropped["dataset"], *plan.data.stages}
    for name in sorted({plan.base.name, *loaded}):
        refused = open_dataset(lab, name, on_bad_file="skip").refused
        unused += [Listed(f"{name}: {file}", why, used=False) for file, why in refused.items()]
    return unused, [file for file in named if file.used]


def _named(files: Sequence[Listed]) -> list[dict[str, str]]:
    return [{"file": file.file, "reason": file.reason} for file in files]


def _count_held(plan: Plan, waves: WaveStore) -> int:
    """How many recordings of a plan are in the store."""
    return len(plan.paths) - len(waves.missing(plan.paths))


def _summary(plan: Plan, waves: WaveStore, work: Work) -> list[str]:
    """What was decoded and what the store now holds of the plan."""
    n_held = _count_held(plan, waves)
    audio_s = _duration_s(waves, plan.paths)
    lines = [f"missing    {text}" for text in plan.missing]
    if work.n_files:
        pace = work.audio_s / max(work.seconds, 1e-9)
        done = f"{count_words(work.n_files, 'file')} in {work.seconds:.1f} s"
        lines.append(f"decoded    {done}, {pace:,.0f} x real time")
    n_bytes = 2 * audio_s * waves.sample_rate_hz
    kept = f"{n_bytes / 1e9:.2f} GB" if waves.waveforms == "store" else "no samples kept"
    held = f"{count_words(n_held, 'recording')}, {audio_s / 3600:.2f} h"
    lines.append(f"waveforms  {held}, {kept}: {waves.root}")
    return lines


def _report(unused: Sequence[Listed], unusual: Sequence[Listed], path: Path) -> list[str]:
    """The quarantine report: how many files for each reason, and the first of them."""
    lines = [f"quarantine {count_words(len(unused), 'file')} that cannot be used"]
    lines += _counts(unused)
    if unusual:
        lines += [
            f"unusual    {count_words(len(unusual), 'file')} used all the same",
            *_counts(unusual),
        ]
    shown = [*unused, *unusual]
    lines += [f"  {file.file}: {file.reason}" for file in shown[:SHOWN]]
    if len(shown) > SHOWN:
        lines.append(f"  and {len(shown) - SHOWN:,} more")
    return [*lines, f"report     {path}"]


def _counts(files: Sequence[Listed]) -> list[str]:
    """How many files there are for each reason, details left out."""
    counted = Counter(file.reason.partition(":")[0] for file in files)
    return [f"  {n:>6,}  {reason}" for reason, n in counted.most_common()]
