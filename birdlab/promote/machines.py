"""What this machine takes for promoted models and for runs: measured once, kept in the lab."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import onnxruntime
from filelock import FileLock

from birdlab import __version__
from birdlab.cellfiles import WEIGHTS
from birdlab.costs import model_id, processor_name
from birdlab.infer.benchmark import measure_machine
from birdlab.infer.budget import FORMAT
from birdlab.infer.checksums import file_sha256
from birdlab.infer.models import MODEL_FILE
from birdlab.infer.passes import ModelChoice
from birdlab.infer.tuning import count_cores
from birdlab.infer.variants import FP32
from birdlab.lab import Lab, write_whole
from birdlab.recorded import load_card, spec_of
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import digest

SECONDS = 20.0
"""About how long a model is measured."""
MACHINES = "machines.json"
Machine = Mapping[str, Any]
Tell = Callable[[str], None]


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
    known = load_machines(path)
    if key in known and not fresh:
        return known[key]
    machine = measure(n_cores)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        write_whole(
            path, json.dumps(load_machines(path) | {key: machine}, indent=1, sort_keys=True)
        )
    return machine


def load_machines(path: Path) -> dict[str, Machine]:
    """What was measured, by key; nothing of a damaged file: it is measured again."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _frontend(spec: ExperimentSpec) -> dict[str, Any]:
    """What two runs must share to share a mel."""
    frontend: dict[str, Any] = spec.model.frontend.model_dump(mode="json")
    evaluate = spec.evaluate
    heard = {"context_s": evaluate.context_s, "windows_per_pass": evaluate.windows_per_pass}
    return {"frontend": frontend, **heard}


def _export_run(
    lab: Lab, record: Mapping[str, Any], spec: ExperimentSpec, n_classes: int, folder: Path
) -> Path:
    """The ONNX file of one model of a run."""
    from birdlab.promote.export import export_ensemble
    from birdlab.promote.members import build_member

    cells = [str(cell["cell_id"]) for cell in record["cells"]]
    trained = [cell_id for cell_id in cells if (lab.cells / cell_id / WEIGHTS).is_file()]
    if trained:
        weights = lab.cells / trained[0] / WEIGHTS
        classes = tuple(load_card(lab, trained[0])["classes"])
    else:
        weights = _random_weights(spec, n_classes, folder / WEIGHTS)
        classes = tuple(f"class{i}" for i in range(n_classes))
    member = build_member(spec, classes, weights, str(record["name"] or record["spec_id"]))
    return export_ensemble([member], folder / MODEL_FILE, classes=classes).path


def _random_weights(spec: ExperimentSpec, n_classes: int, path: Path) -> Path:
    from safetensors.torch import save_file

    from birdlab.sed.model import SEDModel

    plain = {"pretrained": False, "weights": None}
    state = SEDModel(spec.model.model_copy(update=plain), n_classes).state_dict()
    save_file({name: tensor.clone() for name, tensor in state.items()}, path)
    return path
