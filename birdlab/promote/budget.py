"""The CPU budget of promoted models and of runs: measured once a machine, kept in the lab."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
from filelock import FileLock

from birdlab import __version__
from birdlab.cellfiles import CARD, WEIGHTS
from birdlab.costs import model_id, processor_name
from birdlab.errors import PromotionError
from birdlab.infer.benchmark import measure_machine
from birdlab.infer.budget import FORMAT, BudgetLine, Fit, Workload, fit_members, predict_minutes
from birdlab.infer.checksums import file_sha256
from birdlab.infer.models import MODEL_FILE
from birdlab.infer.passes import ModelChoice
from birdlab.infer.tuning import count_cores
from birdlab.infer.variants import FP32, Variant, load_variants
from birdlab.lab import Lab, write_whole
from birdlab.recorded import spec_of
from birdlab.spec.competition import CompetitionSpec
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import digest

SECONDS = 20.0
"""About how long a model is measured."""
MACHINES = "machines.json"
Machine = Mapping[str, Any]
Tell = Callable[[str], None]


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


def workload_of(competition: CompetitionSpec) -> Workload:
    """The soundscapes and the limit of a competition profile."""
    return Workload(
        competition.n_soundscapes,
        competition.soundscape_s / 60,
        competition.cpu_minutes,
        competition.name,
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


def measure_model(
    lab: Lab,
    model_path: Path,
    variant: str = FP32.name,
    *,
    cores: int = 2,
    fresh: bool = False,
    progress: Tell | None = None,
) -> Machine:
    """What this machine takes for a promoted model: as measured before, else measured now.

    With at most as many cores as there are.
    """
    model = ModelChoice(model_path, variant, force=True)  # its times count, not its scores
    what = {"sha256": file_sha256(model.file), "variant": variant}
    return _known_or(lab, what, lambda n: _measure(model, n, progress), cores, fresh)


def measure_run(
    lab: Lab,
    record: Mapping[str, Any],
    *,
    cores: int = 2,
    fresh: bool = False,
    progress: Tell | None = None,
) -> Machine:
    """What this machine takes for one model of a run that need not be promoted or trained.

    Its ONNX file is made in a temporary folder, with weights of the run where the lab has them and
    random ones else: times do not depend on them. Kept per architecture, so a run that differs in
    its recipe alone is not measured again.
    """
    spec = spec_of(record)
    n_classes = int(record["evaluation"]["n_classes"])
    what = {
        "architecture": model_id(spec, n_classes),
        "output": spec.output.model_dump(mode="json"),
    }
    title = str(record["name"] or record["spec_id"])

    def measure(n_cores: int) -> Machine:
        with tempfile.TemporaryDirectory(prefix="birdlab-budget-") as folder:
            if progress is not None:
                progress(f"{title}: export")
            path = _export_run(lab, record, spec, n_classes, Path(folder))
            return _measure(ModelChoice(path), n_cores, progress)

    machine = _known_or(lab, what, measure, cores, fresh)
    member = {**machine["members"][0], "name": title}
    return {**machine, "members": [member], "frontend": digest(_frontend(spec))}


def join_machines(machines: Sequence[Machine]) -> Machine:
    """The machine file of an ensemble of runs that were measured one by one.

    Equal front-ends count once. Raises PromotionError for windows of different length.
    """
    first = machines[0]
    if len({machine["window_s"] for machine in machines}) > 1:
        raise PromotionError(
            "the runs have windows of different length, so they cannot be one ensemble",
            got=", ".join(f"{m['members'][0]['name']} {m['window_s']:g} s" for m in machines),
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
        variant: Variant | None = load_variants(path.parent).get(str(name))
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


def _measure(model: ModelChoice, cores: int, progress: Tell | None) -> Machine:
    """By the processor's time: cells that train beside it lengthen it little."""
    return measure_machine(model, cores=cores, seconds=SECONDS, by="processor", progress=progress)


def _known_or(
    lab: Lab,
    what: Mapping[str, Any],
    measure: Callable[[int], Machine],
    cores: int,
    fresh: bool,
) -> Machine:
    n_cores = min(cores, count_cores())
    on = {
        "format": FORMAT,
        "processor": processor_name(),
        "cores": n_cores,
        "onnxruntime": onnxruntime.__version__,
        "birdlab": __version__,
    }
    key, path = digest({**what, **on}), lab.stores / MACHINES
    known = _load(path)
    if key in known and not fresh:
        return known[key]
    machine = measure(n_cores)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        write_whole(path, json.dumps(_load(path) | {key: machine}, indent=1, sort_keys=True))
    return machine


def _load(path: Path) -> dict[str, Machine]:
    found: dict[str, Machine] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return found


def _frontend(spec: ExperimentSpec) -> dict[str, Any]:
    """What two runs must share to share a mel."""
    frontend: dict[str, Any] = spec.model.frontend.model_dump(mode="json")
    return {"frontend": frontend, "context_s": spec.evaluate.context_s}


def _export_run(
    lab: Lab, record: Mapping[str, Any], spec: ExperimentSpec, n_classes: int, folder: Path
) -> Path:
    """The ONNX file of one model of a run."""
    from birdlab.promote.export import Member, export_ensemble

    cells = [lab.cells / str(cell["cell_id"]) for cell in record["cells"]]
    trained = [cell for cell in cells if (cell / WEIGHTS).is_file()]
    if trained:
        weights, card = trained[0] / WEIGHTS, json.loads((trained[0] / CARD).read_text("utf-8"))
        classes = tuple(card["classes"])
    else:
        weights = _random_weights(spec, n_classes, folder / WEIGHTS)
        classes = tuple(f"class{i}" for i in range(n_classes))
    member = Member(
        spec=spec.model,
        classes=classes,
        weights=weights,
        window_s=spec.competition.window_s,
        context_s=spec.evaluate.context_s,
        clip=spec.output.clip,
        time_max=spec.output.time_max,
        name=str(record["name"] or record["spec_id"]),
    )
    return export_ensemble([member], folder / MODEL_FILE, classes=classes).path


def _random_weights(spec: ExperimentSpec, n_classes: int, path: Path) -> Path:
    from safetensors.torch import save_file

    from birdlab.sed.model import SEDModel

    plain = {"pretrained": False, "weights": None}
    state = SEDModel(spec.model.model_copy(update=plain), n_classes).state_dict()
    save_file({name: tensor.clone() for name, tensor in state.items()}, path)
    return path
