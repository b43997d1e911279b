"""Do exported fold models say of held-out recordings what validation stored? From file to score."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from birdlab.cellfiles import outputs_folder
from birdlab.cellplan import CellPlan
from birdlab.errors import OutputsError, PromotionError
from birdlab.evaluate.metrics import padded_cmap
from birdlab.evaluate.outputs import StoredOutputs, load_outputs
from birdlab.evaluate.score import N_PAD, fold_table
from birdlab.evaluate.windows import batch_windows, blend
from birdlab.infer.card import ModelCard
from birdlab.infer.session import OnnxPredictor, SoundPredictor
from birdlab.lab import Lab
from birdlab.plan import Plan, Progress, silent
from birdlab.promote.export import export_ensemble
from birdlab.promote.heldout_windows import Floats, hear_held_out, held_out, in_time
from birdlab.promote.members import collect_members
from birdlab.promote.parity import TOLERANCE
from birdlab.promote.reproduction import CellReproduction, Reproduction
from birdlab.recorded import AS_IS

Place = tuple[int, int]
"""A fold and a seed."""
BATCH = 8


def score_exported(
    lab: Lab,
    plan: Plan,
    predictor: SoundPredictor,
    places: Mapping[Place, int] | None = None,
    *,
    tolerance: float = TOLERANCE,
    progress: Progress = silent,
) -> Reproduction:
    """What the members of a file say of the recordings that each was scored on in validation.

    The road is that of `birdlab predict`: audio file, decoding, windows, session. `places`: the
    number of the member that each (fold, seed) of the plan is; by default as the
    file's card says. Classes that the file does not know are left out of both
    sides. Raises PromotionError when a cell is no member or audio is missing, OutputsError when
    stored outputs are.
    """
    folds = _by_fold(plan)
    numbers = find_places(predictor.card, plan) if places is None else places
    lacking = [c.title for own in folds.values() for c in own if _place(c) not in numbers]
    if lacking:
        raise PromotionError(
            "the file does not hold all fold models of the run",
            where=plan.spec.name or plan.spec_id,
            got=f"{len(lacking)} missing: {'; '.join(lacking[:4])}",
            fix="promote the run again",
        )
    count = _Count(plan.spec.name or plan.spec_id, folds, progress)
    found: list[CellReproduction] = []
    for cells in folds.values():
        found += _check_fold(
            lab, plan, cells, predictor, [numbers[_place(c)] for c in cells], count
        )
    return Reproduction(tuple(found), tolerance)


def reproduce_folds(
    lab: Lab,
    plan: Plan,
    *,
    tolerance: float = TOLERANCE,
    threads: int | None = None,
    progress: Progress = silent,
) -> Reproduction:
    """As `score_exported`, with the fold models of the plan exported for it, fold by fold.

    The files lie in a temporary folder and are gone afterwards: a promoted model of all data keeps
    no second copy of its fold models. Weights of all cells must be in the lab.
    """
    folds = _by_fold(plan)
    by_name = {member.name: member for member in collect_members(lab, plan)}
    count = _Count(plan.spec.name or plan.spec_id, folds, progress)
    found: list[CellReproduction] = []
    for cells in folds.values():
        with tempfile.TemporaryDirectory(prefix="birdlab-folds-") as folder:
            path = Path(folder) / "fold.onnx"
            members = [by_name[cell.cell_id] for cell in cells]
            export_ensemble(members, path, classes=plan.data.classes.codes)
            predictor = OnnxPredictor(path, threads=threads)
            found += _check_fold(lab, plan, cells, predictor, range(len(cells)), count)
    return Reproduction(tuple(found), tolerance)


class _Count:
    """Tells how many recordings are done of those of all folds."""

    def __init__(
        self, run: str, folds: Mapping[int, Sequence[CellPlan]], progress: Progress
    ) -> None:
        self.run = run
        self.total = sum(len(held_out(cells[0])) for cells in folds.values())
        self.done, self.progress = 0, progress

    def __call__(self) -> None:
        self.done += 1
        self.progress(f"{self.run}: held-out recordings", self.done, self.total)


def _by_fold(plan: Plan) -> dict[int, list[CellPlan]]:
    """The scored cells of a plan, by fold in rising order; those of a fold share their rows."""
    folds: dict[int, list[CellPlan]] = {}
    for cell in plan.final_cells:
        if cell.fold is not None and cell.eval_id is not None:
            folds.setdefault(cell.fold, []).append(cell)
    if not folds:
        raise PromotionError(
            "the run has no fold models, so nothing was validated",
            where=plan.spec.name or plan.spec_id,
            fix=f"birdlab extend {plan.spec_id} --folds all",
        )
    return dict(sorted(folds.items()))


def _place(cell: CellPlan) -> Place:
    assert cell.fold is not None
    return cell.fold, cell.seed


def find_places(card: ModelCard, plan: Plan) -> dict[Place, int]:
    """Which member of a file each fold model of a plan is, of those that are members at all."""
    by_run = {(m.run, m.fold, m.seed): i for i, m in enumerate(card.members)}
    by_name = {member.name: i for i, member in enumerate(card.members)}
    found = {}
    for cells in _by_fold(plan).values():
        for cell in cells:
            named = by_run.get((plan.spec_id, cell.fold, cell.seed), by_name.get(cell.cell_id))
            if named is not None:
                found[_place(cell)] = named
    return found


def _check_fold(
    lab: Lab,
    plan: Plan,
    cells: Sequence[CellPlan],
    predictor: SoundPredictor,
    numbers: Sequence[int],
    count: Callable[[], None],
) -> list[CellReproduction]:
    """The models of one fold, which share their recordings, in one pass over the files."""
    stored = [load_outputs(outputs_folder(lab, cell)) for cell in cells]
    rows = cells[0].rows
    for cell, own in zip(cells, stored, strict=True):
        if own.windows.recordings != tuple(rows.names[held_out(cell)]):
            raise OutputsError(
                "stored outputs are not those of the rows that the cell is scored on",
                where=str(outputs_folder(lab, cell)),
                fix="remove this folder and run the experiment again: nothing is trained",
            )
    windows = hear_held_out(plan, cells[0], predictor.card, count)
    answers: list[list[Floats]] = [[] for _ in cells]
    for waves in batch_windows(windows, BATCH):
        for heard, probs in zip(answers, predictor.member_probs(waves, numbers), strict=True):
            heard.append(probs)
    return [
        _compare(
            plan,
            cell,
            own,
            in_time(heard, own, predictor.card.windowing, plan.spec.evaluate.hop_s),
            _known(predictor.card, number),
        )
        for cell, own, heard, number in zip(cells, stored, answers, numbers, strict=True)
    ]


def _known(card: ModelCard, number: int) -> dict[str, int]:
    """The columns of the classes that a member of a file knows, by code."""
    own = card.members[number].classes
    return {code: i for i, code in enumerate(card.classes) if own is None or code in own}


def _compare(
    plan: Plan, cell: CellPlan, stored: StoredOutputs, heard: Floats, columns: Mapping[str, int]
) -> CellReproduction:
    """Stored outputs, blended as they are deployed, against what was heard of the same windows."""
    w, output = stored.windows, plan.spec.output
    expected = blend(w.clip_probs, w.time_max, output.clip, output.time_max)
    shared = [i for i, code in enumerate(w.codes) if code in columns]
    if len(heard) != len(expected) or not shared:
        raise PromotionError(
            "the windows of the held-out recordings are not those that were stored",
            where=cell.title,
            got=f"{len(heard)} windows, {len(shared)} classes in common",
            expected=f"{len(expected)} windows",
            fix="the audio or the window of the file changed: promote the run again",
        )
    given = np.zeros_like(expected)
    given[:, shared] = heard[:, [columns[w.codes[i]] for i in shared]]
    apart = np.abs(given.astype(np.float64) - expected)[:, shared]
    row = int(apart.max(axis=1).argmax())
    scored = (AS_IS, plan.spec.evaluate, plan.spec.postprocess)
    tables = [
        fold_table(replace(stored, windows=replace(w, clip_probs=probs)), *scored)
        for probs in (expected, given)
    ]
    torch, onnx = (padded_cmap(t.targets[:, shared], t.probs[:, shared], N_PAD) for t in tables)
    return CellReproduction(
        cell_id=cell.cell_id,
        fold=_place(cell)[0],
        seed=cell.seed,
        n_recordings=len(w.recordings),
        n_windows=len(expected),
        largest=float(apart.max()) if np.isfinite(apart).all() else float("inf"),
        worst=f"{w.recordings[w.recording_index[row]]}, window that ends at {w.end_s[row]:g} s",
        score_torch=torch,
        score_onnx=onnx,
    )
