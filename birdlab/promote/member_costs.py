"""What members may cost together once decoding and front-ends have had their share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from birdlab.errors import PromotionError
from birdlab.infer.budget import MARGIN, Workload, predict_minutes, read_machine
from birdlab.lab import Lab
from birdlab.promote.budget import join_machines, move_to
from birdlab.promote.machines import measure_run
from birdlab.study.ensemble_summary import MemberCosts


def measure_members(
    lab: Lab,
    records: Mapping[str, Mapping[str, Any]],
    workload: Workload,
    *,
    cores: int = 2,
    models: Mapping[str, int] | None = None,
    machine: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> MemberCosts:
    """The milliseconds of a window by each run, by name, and how many they may take together.

    Times are those of ONNX files, as in `birdlab budget`, on this machine or on that of a machine
    file. The limit is what the workload leaves after start, decoding and the front-ends of all
    runs, with the same margin. models: how many of a run are members, default one. Raises
    PromotionError where nothing is left.
    """
    measured = join_machines(
        [measure_run(lab, record, cores=cores, progress=progress) for record in records.values()]
    )
    if machine is not None:
        measured = move_to(lab, measured, read_machine(machine), cores=cores, progress=progress)
    counts = {name: 1 if models is None else models[name] for name in records}
    return limit_members(measured, counts, workload, cores)


def limit_members(
    measured: Mapping[str, Any], models: Mapping[str, int], workload: Workload, cores: int
) -> MemberCosts:
    """The costs of runs, by name, of which so many `models` are members, and the limit for all.

    measured: the machine file with one model of each run, in their order; see `measure_members`.
    """
    line = predict_minutes(measured, workload, cores=cores)
    fixed = line.startup_minutes + line.decode_minutes + line.mel_minutes
    left = workload.limit_minutes / (1 + MARGIN) - fixed
    if left <= 0:
        raise PromotionError(
            "decoding and front-ends alone take longer than the limit allows",
            got=f"{fixed:.2f} min",
            expected=f"less than {workload.limit_minutes / (1 + MARGIN):.2f} min, since "
            f"{100 * MARGIN:.0f} % are kept free within {workload.limit_minutes:g} min",
        )
    per_minute = (
        cores
        * 60_000
        / workload.count_windows(measured["window_s"], measured.get("windows_per_pass", 1))
    )
    each = zip(models.items(), line.member_minutes, strict=True)
    return MemberCosts(
        {name: n * minutes * per_minute for (name, n), minutes in each},
        left * per_minute,
        f"Of {workload.limit_minutes:g} min on {cores} cores, a margin of {100 * MARGIN:.0f} % is "
        f"kept, and start, decoding and front-ends take {fixed:.1f}: {left:.1f} min are left for "
        f"networks ({measured['processor']}, ONNX Runtime).",
    )
