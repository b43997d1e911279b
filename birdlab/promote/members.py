"""What a promoted model is made of: the trained cells of runs, and real windows to try it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birdlab.cellfiles import WEIGHTS, is_trained
from birdlab.data.audio import Waveform, decode
from birdlab.data.waves import open_waves
from birdlab.errors import PromotionError
from birdlab.evaluate.predictor import build_windowing
from birdlab.evaluate.windows import Windowing, iter_windows
from birdlab.lab import Lab
from birdlab.plan import Plan, plan_experiment
from birdlab.promote.export import Member
from birdlab.recorded import spec_of
from birdlab.spec.experiment import ExperimentSpec

N_REAL_WINDOWS = 16
"""Real windows in the parity check, of recordings spread over the table."""

Floats = npt.NDArray[np.float32]


def plan_of(lab: Lab, record: Mapping[str, Any]) -> Plan:
    """The plan of a recorded run, all of whose scored cells are trained."""
    plan = plan_experiment(spec_of(record), lab)
    title = record["name"] or record["spec_id"]
    if plan.spec_id != record["spec_id"]:
        raise PromotionError(
            "the data changed after the run was made",
            where=title,
            got=f"spec id {plan.spec_id}",
            expected=record["spec_id"],
            fix="run the experiment again on the data as it is now",
        )
    missing = [cell.title for cell in plan.final_cells if not is_trained(lab, cell)]
    if missing:
        raise PromotionError(
            "weights of the run are not in the lab",
            where=title,
            got="; ".join(missing),
            fix=f"train only these again: birdlab rerun {record['spec_id']} --keep final",
        )
    return plan


def build_member(spec: ExperimentSpec, classes: Sequence[str], weights: Path, name: str) -> Member:
    """A network of an experiment, with these weights and output columns, as a member."""
    return Member(
        spec=spec.model,
        classes=tuple(classes),
        weights=weights,
        window_s=spec.competition.window_s,
        context_s=spec.evaluate.context_s,
        windows_per_pass=spec.evaluate.windows_per_pass,
        clip=spec.output.clip,
        time_max=spec.output.time_max,
        name=name,
    )


def collect_members(lab: Lab, plan: Plan) -> list[Member]:
    """The fold and seed models of a run, or its models of all data."""
    return [
        replace(
            build_member(
                plan.spec, cell.classes.codes, lab.cells / cell.cell_id / WEIGHTS, cell.cell_id
            ),
            run=plan.spec_id,
            fold=cell.fold,
            seed=cell.seed,
            learned="full" if cell.fold is None else "fold",
        )
        for cell in plan.final_cells
    ]


def real_windows(
    lab: Lab, plan: Plan, n: int = N_REAL_WINDOWS, windowing: Windowing | None = None
) -> Floats:
    """The models' inputs for the first windows of `n` recordings spread over the table.

    [n or fewer, samples], by default as the run of the plan hears them. Recordings whose audio is
    not there are passed over.
    """
    keys = [key for key in plan.rows.keys if key is not None]
    own = build_windowing(plan.spec, plan.sample_rate_hz)
    return first_windows(lab, plan, keys, n, windowing or own)


def first_windows(
    lab: Lab, plan: Plan, keys: Sequence[str], n: int, windowing: Windowing
) -> Floats:
    """The models' inputs for the first windows of at most `n` of the recordings, evenly spread.

    Raises PromotionError when there is none.
    """
    chosen = np.unique(np.linspace(0, len(keys) - 1, min(n, len(keys))).astype(int))
    waves = open_waves(lab, plan.sample_rate_hz)
    absent = set(waves.missing([keys[i] for i in chosen]))
    windows = []
    for key in (keys[i] for i in chosen):
        if key in absent:
            wave = decode(plan.paths[key], plan.sample_rate_hz)
        else:
            samples = waves.read_int16(key, 0, waves.n_samples(key))
            wave = Waveform(samples, waves.scale(key), plan.sample_rate_hz)
        windows.append(next(iter_windows(wave, windowing)))
    if not windows:
        raise PromotionError(
            "there is no audio to try the models on", fix="correct [data] in birdlab.toml"
        )
    return np.stack(windows)
