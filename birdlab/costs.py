"""What a network costs where it is deployed: parameters, megabytes, CPU time per window.

Measured once per architecture and kind of processor, by the process that trained the first cell
of it, and kept in `costs.json`. No part of any identity, and no number of a run depends on it.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from birdlab.datasets import sample_rate_of
from birdlab.errors import TrackingError
from birdlab.evaluate.predictor import build_windowing
from birdlab.lab import Lab, write_whole
from birdlab.recorded import load_json
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import digest

BATCH, PASSES, MOST_S = 4, 7, 8.0
"""Inputs a pass, passes after the first, and the seconds after which no further one begins."""


@dataclass(frozen=True)
class ModelCosts:
    """parameters: how many; size_mb: of the weights; cpu_ms_per_window: one thread, the median."""

    parameters: int
    size_mb: float
    cpu_ms_per_window: float
    processor: str


def model_id(spec: ExperimentSpec, n_classes: int) -> str:
    """What names an architecture together with its input and its classes."""
    model = spec.model.model_dump(mode="json", exclude={"pretrained", "weights"})
    heard = build_windowing(spec, sample_rate_of(spec))
    said = {"model": model, "n_classes": n_classes, "input_samples": heard.input_samples}
    if heard.windows_per_pass > 1:
        said["windows_per_pass"] = heard.windows_per_pass
    return digest(said)


def costs_of(lab: Lab, model: str) -> ModelCosts | None:
    """The costs of an architecture: on this kind of processor if known, else on the first one.

    None where it was not measured. Raises TrackingError for a file that cannot be read.
    """
    entries = _load(costs_path(lab)).get(model, {})
    if not entries:
        return None
    entry = entries.get(processor_name()) or entries[min(entries)]
    return ModelCosts(**entry)


def note_costs(lab: Lab, spec: ExperimentSpec, model: Any, n_classes: int) -> None:
    """Measure the network unless that was done on such a processor.

    Takes a second or so and MOST_S at most, leaves the network on the CPU and in evaluation mode,
    and draws no random number.
    """
    name, processor = model_id(spec, n_classes), processor_name()
    if processor in _load(costs_path(lab)).get(name, {}):
        return
    heard = build_windowing(spec, sample_rate_of(spec))
    measured = measure(model.to("cpu"), heard.input_samples, heard.windows_per_pass)
    with FileLock(lab.stores / "costs.lock"):
        known = _load(costs_path(lab))
        known.setdefault(name, {})[processor] = asdict(measured)
        write_whole(costs_path(lab), json.dumps(known, indent=1, sort_keys=True))


def measure(model: Any, input_samples: int, windows_per_input: int = 1) -> ModelCosts:
    """The costs of a network on this machine, its time in BATCH inputs a pass on one thread.

    The time is that of the processor, not of the clock, so cells that train beside it lengthen it
    little; the threads that were set before are set again.
    """
    import torch

    threads = torch.get_num_threads()
    wave = torch.linspace(-1, 1, BATCH * input_samples).reshape(BATCH, input_samples)
    model.eval()
    torch.set_num_threads(1)
    try:
        took: list[float] = []
        began = time.perf_counter()
        with torch.inference_mode():
            while len(took) <= PASSES and (not took or time.perf_counter() - began < MOST_S):
                start = time.thread_time()
                model(wave)
                took.append(1000 * (time.thread_time() - start) / BATCH / windows_per_input)
    finally:
        torch.set_num_threads(threads)
    tensors = [*model.parameters(), *model.buffers()]
    return ModelCosts(
        parameters=sum(p.numel() for p in model.parameters()),
        size_mb=round(sum(t.numel() * t.element_size() for t in tensors) / 1e6, 3),
        cpu_ms_per_window=round(statistics.median(took[1:] or took), 3),
        processor=processor_name(),
    )


def costs_path(lab: Lab) -> Path:
    """Where the costs of all architectures are kept."""
    return lab.stores / "costs.json"


@cache
def processor_name() -> str:
    """The kind of processor in words."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _load(path: Path) -> dict[str, Any]:
    """Model id → processor → the fields of its ModelCosts; empty where nothing was measured."""
    fix = "remove the file: costs are measured again"
    known = load_json(path, fix) if path.is_file() else {}
    for model, entries in known.items():
        costs = entries.values() if isinstance(entries, dict) else [None]
        if not all(_is_whole(one) for one in costs):
            raise TrackingError(
                "the costs of architectures are not as birdlab writes them",
                where=f"{path}: {model}",
                expected=", ".join(sorted(field.name for field in fields(ModelCosts))),
                fix=fix,
            )
    return known


def _is_whole(costs: Any) -> bool:
    wanted = [field.name for field in fields(ModelCosts)]
    if not isinstance(costs, dict) or sorted(costs) != sorted(wanted):
        return False
    *numbers, processor = (costs[name] for name in wanted)
    return isinstance(processor, str) and all(isinstance(n, int | float) for n in numbers)
