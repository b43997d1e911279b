"""The stages of a plan in words: rows, steps, start, expected draws, what validation costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.cellplan import CellPlan
from birdlab.errors import SpecError
from birdlab.evaluate.windows import count_windows
from birdlab.plan import Plan
from birdlab.sed.sampler import expected_draws
from birdlab.spec.parts import FRESH, StageSpec
from birdlab.spec.recipe import TrainSpec
from birdlab.spec.teaching import DistillSpec, PseudoSpec, TeacherSpec, text_of
from birdlab.stages import fresh_weights
from birdlab.synthetic import is_usable
from birdlab.unlabelled import join_sets
from birdlab.words import count_words

SHOWN = 12


def describe_stage(stage: StageSpec, plan: Plan) -> list[str]:
    """What a stage trains on and for how long; what it draws; what it is validated on, and when."""
    shared = ", shared by all seeds: hides their variance" if stage.seeds == "shared" else ""
    start = _start(stage, plan) + shared
    if stage in plan.unknown_stages:
        return [f"  {stage.name}: {stage.data}: unknown rows, steps unknown{start}"]
    cell = next(c for c in plan.cells if c.stage is stage)
    if stage.soup is not None:
        return [
            f"  {stage.name}: mean of the weights of {stage.soup.n} seeds of {stage.soup.of}, "
            f"trains nothing; batch norms from {cell.steps.total:,} batches of {cell.steps.batch}"
        ]
    where = stage.data or f"folds of {plan.spec.data.base}"
    lines = [
        f"  {stage.name}: {where}, {len(cell.chosen):,} rows, {len(cell.classes)} classes, "
        f"{cell.steps.epochs} epochs x {cell.steps.per_epoch} steps = {cell.steps.total:,} steps "
        f"of {cell.steps.batch}{start}",
        f"    draws       {describe_draws(cell)}",
    ]
    if stage.pseudo is not None:
        lines.append(f"    pseudo      {describe_pseudo(stage.pseudo, cell, plan)}")
    if stage.distill is not None:
        lines.append(f"    taught      {describe_distill(stage.distill, cell)}")
    if cell.validation is not None:
        lines.append(f"    validation  {describe_validation(cell, plan)}")
    if cell.synthetic_id is not None:
        lines.append(f"    synthetic   {describe_synthetic(cell, plan)}")
    return lines


def describe_distill(distill: DistillSpec, cell: CellPlan) -> str:
    """Who teaches a cell what, how much it counts, and how often the teacher hears."""
    heat = f" at temperature {distill.temperature:g}" if distill.target == "logits" else ""
    return (
        f"{_by(distill.teacher, cell.distillers)}: {distill.target}{heat}, weight "
        f"{distill.weight:g}, heard every {distill.hop_s:g} s"
    )


def describe_pseudo(pseudo: PseudoSpec, cell: CellPlan, plan: Plan) -> str:
    """How many clips are windows of soundscapes, of how many soundscapes, and who labels them."""
    drawn = f"{pseudo.draw_rate:.0%} of draws" if pseudo.draw_rate else ""
    mixed = f"{pseudo.mix_rate:.0%} of the other clips mixed" if pseudo.mix_rate else ""
    share, by = " and ".join(filter(None, (drawn, mixed))), _by(pseudo.teacher, cell.labellers)
    labelling, sets = cell.labelling, [plan.unlabelled.get(name) for name in pseudo.soundscapes]
    if labelling is None:
        return (
            f"{share} from {', '.join(pseudo.soundscapes)}: unknown soundscapes; labelled by {by}"
        )
    window_s = (cell.labellers[0].spec if cell.labellers else plan.spec).competition.window_s
    counts = join_sets([one for one in sets if one is not None]).n_windows(
        window_s, set(labelling.keys)
    )
    windows = "windows unknown" if counts is None else f"{counts:,} windows"
    out = labelling.left_out
    left = f"; {out:,} left out, which are training or validation as well" if out else ""
    return (
        f"{share} from {count_words(len(labelling.keys), 'unlabelled soundscape')} ({windows}), "
        f"labelled by {by}{left}"
    )


def _by(teacher: TeacherSpec, cells: Sequence[CellPlan]) -> str:
    """A teacher in words, with how many of its models teach a cell."""
    if teacher.stage is not None:
        return f"{text_of(teacher)} of the same fold"
    n = f", {len(cells)} of its models" if teacher.run is not None else ""
    return f"{text_of(teacher)}{n}"


def _start(stage: StageSpec, plan: Plan) -> str:
    if stage.start is not None and stage.start not in FRESH:
        return f", starts from {stage.start} ({stage.transfer})"
    hub, file = fresh_weights(plan.spec.model, stage)
    if stage.start is None:
        return ""
    named = f"weights {file}" if file is not None else "pretrained weights"
    return f", starts from {named if hub or file is not None else 'random weights'}"


def species_draws(cell: CellPlan) -> pd.Series:
    """How often an epoch draws each species on average, rarest first, from training rows only.

    A draw is a clip; a partner that is mixed into it is not counted. Raises SpecError when an
    extension's sampler does not say how it weighs rows.
    """
    labels = cell.rows.table["primary_label"].to_numpy(object)[cell.chosen]
    n_draws = cell.steps.per_epoch * cell.steps.batch
    expected = expected_draws(cell.stage.train.sampler, labels.astype(str), n_draws)
    return pd.Series(expected).groupby(labels.astype(str)).sum().sort_values(kind="stable")


def describe_draws(cell: CellPlan) -> str:
    """The expected draws of an epoch: lowest, median and highest species, and those under 1."""
    try:
        draws = species_draws(cell)
    except SpecError as error:
        return f"unknown: {error.what}"
    if draws.empty:
        return "none: no rows"
    n_draws = cell.steps.per_epoch * cell.steps.batch
    fold = "" if cell.fold is None else f" of fold {cell.fold}"
    seldom = [str(name) for name in draws.index[draws < 1]]
    absent = sorted(set(cell.rows.table["primary_label"]) - set(draws.index))
    return (
        f"{n_draws:,} an epoch{fold}, a species {draws.iloc[0]:.3g} ({draws.index[0]}) to "
        f"{draws.iloc[-1]:.3g} ({draws.index[-1]}), median {draws.median():.3g}; "
        f"under 1: {_listed(seldom)}"
        + (f"; no row to train on: {_listed(absent)}" if absent else "")
    )


def _listed(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} ({', '.join(names[:SHOWN])}{more})"


def describe_validation(cell: CellPlan, plan: Plan) -> str:
    """How many windows a fold has against the crops of an epoch, and how often it is scored."""
    spec, train = plan.spec, cell.stage.train
    windows, n_unknown = _count_windows(cell, plan)
    n_crops = cell.steps.per_epoch * cell.steps.batch
    each_s = spec.evaluate.context_s or spec.competition.window_s
    heard_s = windows * each_s / spec.evaluate.windows_per_pass
    ratio = heard_s / (n_crops * train.window_s)
    unknown = f" and {n_unknown:,} recordings of unknown length" if n_unknown else ""
    size = f"{windows:,} windows{unknown} in fold {cell.fold} against {n_crops:,} crops an epoch "
    size += f"({ratio:.1f} times the audio)"
    if n_unknown and not windows:
        size = f"{n_unknown:,} recordings in fold {cell.fold}, whose length the table does not say"
    chosen = how_chosen(train)
    often = _how_often(train, cell.steps.epochs)
    return f"{size}, {often}" + (f"; score chosen by {chosen}" if chosen else "")


def describe_synthetic(cell: CellPlan, plan: Plan) -> str:
    """How many synthetic soundscapes a fold has, and what they are mixed of."""
    synthetic = plan.spec.evaluate.synthetic
    assert synthetic is not None and cell.validation is not None
    n_usable = int(is_usable(cell.rows.table.iloc[cell.validation]).sum())
    return (
        f"{count_words(synthetic.n, 'soundscape')} of {synthetic.seconds:g} s in fold {cell.fold}, "
        f"of {n_usable:,} of its {len(cell.validation):,} recordings, over "
        f"{', '.join(synthetic.backgrounds)}; heard once, after the last epoch"
    )


def _count_windows(cell: CellPlan, plan: Plan) -> tuple[int, int]:
    """The windows of a cell's validation rows, and how many rows the table has no length of."""
    assert cell.validation is not None
    spans = cell.rows.spans_s[cell.validation]
    whole: npt.NDArray[np.float64] = cell.rows.table["duration_s"].to_numpy(np.float64)[
        cell.validation
    ]
    ends = np.where(np.isnan(spans[:, 1]), whole, spans[:, 1])
    lengths_s = ends - np.nan_to_num(spans[:, 0])
    rate = plan.sample_rate_hz
    window = round(plan.spec.competition.window_s * rate)
    known = lengths_s[~np.isnan(lengths_s)]
    counts = [count_windows(max(0, round(float(s) * rate)), window) for s in known]
    hop_s = plan.spec.evaluate.hop_s
    hops = 1 if hop_s is None else round(plan.spec.competition.window_s / hop_s)
    windows = sum((n - 1) * hops + 1 for n in counts)
    return windows, len(lengths_s) - len(known)


def _how_often(train: TrainSpec, n_epochs: int) -> str:
    if train.validate_every == "last":
        return "once, after the last epoch"
    every = "every epoch" if train.validate_every == 1 else f"every {train.validate_every} epochs"
    return f"{every} of {n_epochs}"


def how_chosen(train: TrainSpec) -> str:
    """How validation rows choose the weights of a stage, in words; "" where they do not."""
    if train.average is not None and train.average.of == "best":
        return f"the best {train.average.k} epochs"
    if train.checkpoint == "best":
        return "best epoch"
    return "early stop" if train.early_stop is not None else ""
