"""The CPU budget of promoted models and of runs, on this machine or on another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdlab.errors import PromotionError
from birdlab.infer.budget import BudgetLine, Fit, Workload, fit_members, predict_minutes
from birdlab.infer.checksums import file_sha256
from birdlab.infer.models import MODEL_FILE
from birdlab.infer.variants import load_variants
from birdlab.lab import Lab
from birdlab.promote.machines import Machine, Tell, measure_model
from birdlab.spec.competition import CompetitionSpec


@dataclass(frozen=True)
class Budget:
    """What a submission takes, by part, and what of it fits; `cores` are those it is said for.

    `machine` is what it was computed from, `members` what its members are called, in order.
    """

    line: BudgetLine
    fit: Fit
    machine: Machine
    members: tuple[str, ...]
    workload: Workload
    cores: int


def workload_of(competition: CompetitionSpec, hop_s: float | None = None) -> Workload:
    """The soundscapes and the limit of a competition profile, a window heard every `hop_s`."""
    return Workload(
        competition.n_soundscapes,
        competition.soundscape_s / 60,
        competition.cpu_minutes,
        competition.name,
        hop_s,
    )


def build_budget(machine: Machine, workload: Workload, cores: int) -> Budget:
    """The budget of all members of a machine file."""
    return Budget(
        line=predict_minutes(machine, workload, cores=cores),
        fit=fit_members(machine, workload, cores=cores),
        machine=machine,
        members=tuple(_title(member) for member in machine["members"]),
        workload=workload,
        cores=cores,
    )


def _title(member: Mapping[str, Any]) -> str:
    """A member by its name and, where that is known, its backbone."""
    backbone = member.get("backbone")
    return f"{member['name']} {backbone}" if backbone else str(member["name"])


def join_machines(machines: Sequence[Machine]) -> Machine:
    """The machine file of an ensemble of runs that were measured one by one.

    Equal front-ends count once. Raises PromotionError for windows of different length.
    """
    first = machines[0]
    heard = [(m["window_s"], m.get("windows_per_pass", 1)) for m in machines]
    if len(set(heard)) > 1:
        raise PromotionError(
            "the runs have windows of different length, or not as many in a pass, so they cannot "
            "be one ensemble",
            got=", ".join(
                f"{m['members'][0]['name']} {k} x {window_s:g} s"
                for m, (window_s, k) in zip(machines, heard, strict=True)
            ),
            fix="join runs of one window length and one number of windows a pass",
        )
    mels = {m["frontend"]: m["crowding"] * m["mel_ms_per_window"] for m in machines}
    members = [
        {**member, "ms_per_window": machine["crowding"] * member["ms_per_window"]}
        for machine in machines
        for member in machine["members"]
    ]
    return {
        **first,
        "mel_ms_per_window": sum(mels.values()),
        "members": members,
        "crowding": 1.0,
        "startup_s": sum(machine["startup_s"] for machine in machines),
    }


def scale_to(machine: Machine, here: Machine, there: Machine) -> Machine:
    """`machine`, which was measured here, as it would be on another machine.

    `here` and `there` are one model measured on both; their ratio, of the network and of decoding
    apart, is taken to hold for other networks.
    """
    network = _core_ms(there) / _core_ms(here)
    decode = there["decode_s_per_audio_minute"] / here["decode_s_per_audio_minute"]
    return {
        **machine,
        "processor": there["processor"],
        "cores": there["cores"],
        "decode_s_per_audio_minute": machine["decode_s_per_audio_minute"] * decode,
        "crowding": machine["crowding"] * network,
        "startup_s": machine["startup_s"] * network,
    }


def move_to(
    lab: Lab, machine: Machine, there: Machine, *, cores: int, progress: Tell | None = None
) -> Machine:
    """`machine`, which was measured here, as it would be on the machine of the file `there`.

    Raises PromotionError when the lab does not have the model that `there` was measured with.
    """
    path, variant = find_measured(lab, there)
    here = measure_model(lab, path, variant, cores=cores, progress=progress)
    if here["model"] == machine.get("model"):
        return there
    return scale_to(machine, here, there)


def find_measured(lab: Lab, machine: Machine) -> tuple[Path, str]:
    """The promoted model and the variant that a machine file was measured with.

    Raises PromotionError when the lab does not have it (any more).
    """
    sha256 = machine.get("model", {}).get("sha256")
    name = machine.get("model", {}).get("variant")
    for path in sorted(lab.models.glob(f"*/{MODEL_FILE}")):
        variant = load_variants(path.parent).get(str(name))
        if variant is None:
            continue
        file = path.with_name(variant.file)
        if file.is_file() and file_sha256(file) == sha256:
            return path, variant.name
    raise PromotionError(
        "the model that the machine file was measured with is not in this lab",
        where=str(lab.models),
        got=f"sha256 {sha256}, variant {name}",
        fix="bundle a model of this lab, run its benchmark there, and take that file",
    )


def _core_ms(machine: Machine) -> float:
    """What a window of the whole model takes of a core, all of which work."""
    ms = machine["mel_ms_per_window"] + sum(m["ms_per_window"] for m in machine["members"])
    return float(machine["crowding"] * ms)
