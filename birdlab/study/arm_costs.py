"""What arms cost: hours of training by kind of device, and CPU time of a window at inference."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from birdlab.infer.budget import Workload
from birdlab.words import count_words, list_some

if TYPE_CHECKING:
    from birdlab.costs import ModelCosts

NAN = float("nan")
CPU_NAMES = frozenset({"x86_64", "amd64", "aarch64", "arm64", "i386", "i686", "arm", "ppc64le"})
"""What cells call their device where they were trained without a GPU: the processor's family."""
COLUMNS = (
    *("arm", "run", "models", "kind", "device", "train_hours", "gpu_hours", "cpu_hours"),
    *("own_hours", "shared_hours", "split_hours", "model_hours", "unknown"),
    *("processor", "cpu_ms", "size_mb", "cpu_minutes"),
)
"""Those of ArmCosts.table, in order."""


@dataclass(frozen=True)
class CellCost:
    """What the training of one cell took: seconds (NaN unknown) on a device, after its inputs."""

    seconds: float = NAN
    device: str = ""
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class ArmCosts:
    """What arms cost.

    `table`, a row per arm: arm, run (spec_id), models (its folds × seeds);
    kind (GPU, CPU, "GPU, CPU") and device, as recorded, of all cells it needs;
    train_hours: to train its models from nothing, each cell that they need once, NaN where that
    takes both kinds of device; gpu_hours and cpu_hours: the same apart;
    own_hours of it in cells that no other arm needs, shared_hours in cells that others need too,
    split_hours where arms that need a cell pay equal parts of it, so that arms add up to what all
    of them took; model_hours: train_hours for each model;
    unknown: how many of its cells have no known time, which hours lack;
    processor, cpu_ms: of one model and one thread for each window of the competition, overlapping
    windows and what is heard around them included; size_mb of its weights; cpu_minutes: cpu_ms
    over all soundscapes of its competition, NaN without one.
    `models`: arm, fold, seed, device, hours of each model, where models of an arm that need a cell
    pay equal parts of it; NaN where a time is unknown. `sentences`: what hours and times mean.
    """

    table: pd.DataFrame
    models: pd.DataFrame
    sentences: tuple[str, ...]


def arm_costs(
    runs: Mapping[str, Mapping[str, Any]],
    cells: Mapping[str, CellCost],
    costs: Mapping[str, ModelCosts],
) -> ArmCosts:
    """What the arms cost whose records are given by name.

    cells: of each cell that they need, what it took; one that is not there has no known time.
    costs: of each architecture (a record's `model_id`), what it takes at inference. GPU-hours and
    CPU-hours are never added.
    """
    needs = {arm: needed_cells(record, cells) for arm, record in runs.items()}
    users: dict[str, int] = {}
    for own in needs.values():
        for cell in own:
            users[cell] = users.get(cell, 0) + 1
    rows, models = [], []
    for arm, record in runs.items():
        of_models = _model_hours(arm, record, cells)
        models += of_models
        rows.append(
            {
                "arm": arm,
                "run": record["spec_id"],
                "models": len(of_models),
                **_hours(needs[arm], cells, users, len(of_models)),
                **_inference(record, costs.get(record.get("model_id", ""))),
            }
        )
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    columns = ["arm", "fold", "seed", "device", "hours"]
    return ArmCosts(table, pd.DataFrame(models, columns=columns), tuple(_sentences(table)))


def device_kind(device: str) -> str:
    """GPU or CPU for a device as cells name it; "" where none is named."""
    if not device:
        return ""
    name = device.lower()
    is_cpu = name in CPU_NAMES or name.startswith(("intel64 ", "amd64 ", "arm"))
    return "CPU" if is_cpu else "GPU"


def iter_inputs(cell_id: str, cells: Mapping[str, CellCost]) -> Iterable[str]:
    """A cell and every cell it goes back to, each once."""
    known, waiting = {cell_id: None}, [cell_id]
    while waiting:
        inputs = cells[node].inputs if (node := waiting.pop()) in cells else ()
        waiting += [one for one in inputs if one not in known]
        known.update(dict.fromkeys(inputs))
    return known


def needed_cells(record: Mapping[str, Any], cells: Mapping[str, CellCost]) -> set[str]:
    """Every cell that the scored cells of a run go back to, themselves included."""
    return {one for cell in record["cells"] for one in iter_inputs(cell["cell_id"], cells)}


def hours_by_kind(ids: Collection[str], cells: Mapping[str, CellCost]) -> dict[str, float]:
    """The hours of cells on each kind of device; those of unknown time are left out."""
    found: dict[str, float] = {}
    for cell in (cells[one] for one in sorted(ids) if one in cells):
        if not np.isnan(cell.seconds):
            kind = device_kind(cell.device) or "unknown"
            found[kind] = found.get(kind, 0.0) + cell.seconds / 3600
    return found


def _hours(
    needed: Collection[str], cells: Mapping[str, CellCost], users: Mapping[str, int], n_models: int
) -> dict[str, object]:
    """The hours of an arm, all cells it needs once."""
    timed = {c: cells[c].seconds / 3600 for c in needed if c in cells}
    timed = {c: hours for c, hours in timed.items() if not np.isnan(hours)}
    devices = sorted({cells[c].device for c in timed} - {""})
    by_kind = hours_by_kind(timed, cells)
    single = len(by_kind) == 1
    total = sum(by_kind.values()) if single else NAN
    own = sum(hours for c, hours in timed.items() if users[c] == 1)
    return {
        "kind": ", ".join(sorted(by_kind, reverse=True)),
        "device": ", ".join(devices),
        "train_hours": total,
        "gpu_hours": by_kind.get("GPU", 0.0),
        "cpu_hours": by_kind.get("CPU", 0.0),
        "own_hours": own if single else NAN,
        "shared_hours": sum(h for c, h in timed.items() if users[c] > 1) if single else NAN,
        "split_hours": sum(h / users[c] for c, h in timed.items()) if single else NAN,
        "model_hours": total / n_models if n_models else NAN,
        "unknown": len(needed) - len(timed),
    }


def _model_hours(
    arm: str, record: Mapping[str, Any], cells: Mapping[str, CellCost]
) -> list[tuple[object, ...]]:
    """arm, fold, seed, device, hours of each model; a cell that several need is split evenly."""
    lines = [(cell, tuple(iter_inputs(cell["cell_id"], cells))) for cell in record["cells"]]
    users: dict[str, int] = {}
    for one in (one for _, line in lines for one in line):
        users[one] = users.get(one, 0) + 1
    unknown = CellCost()
    rows: list[tuple[object, ...]] = []
    for cell, line in lines:
        known = [(cells.get(one, unknown), users[one]) for one in line]
        device = ", ".join(sorted({cost.device for cost, _ in known} - {""}))
        hours = sum(cost.seconds / n for cost, n in known) / 3600
        rows.append((arm, cell["fold"], cell["seed"], device, hours))
    return rows


def _inference(record: Mapping[str, Any], costs: ModelCosts | None) -> dict[str, object]:
    """What one model of a run takes for a window, and for all soundscapes of its competition."""
    if costs is None:
        return {"processor": "", "cpu_ms": NAN, "size_mb": NAN, "cpu_minutes": NAN}
    spec = record.get("spec") or {}
    evaluate, competition = spec.get("evaluate") or {}, spec.get("competition")
    hop_s, minutes, hops = evaluate.get("hop_s"), NAN, 1
    if competition:
        window_s = competition["window_s"]
        hops = 1 if hop_s is None else round(window_s / hop_s)
        n, file_s = competition["n_soundscapes"], competition["soundscape_s"]
        work = Workload(n, file_s / 60, competition["cpu_minutes"], hop_s=hop_s)
        windows = work.count_windows(window_s, evaluate.get("windows_per_pass") or 1)
        minutes = windows * costs.cpu_ms_per_window / 60_000
    return {
        "processor": costs.processor,
        "cpu_ms": costs.cpu_ms_per_window * hops,
        "size_mb": costs.size_mb,
        "cpu_minutes": minutes,
    }


def _sentences(table: pd.DataFrame) -> list[str]:
    """What hours and CPU times mean, and which are not known."""
    said: list[str] = []
    if table.empty:
        return said
    if table["train_hours"].notna().any():
        said.append(
            "Hours are those of the clock while a cell was trained and scored, with whatever else "
            "ran on the machine."
        )
    lacking = table[table["unknown"] > 0]
    if len(lacking):
        n = count_words(int(lacking["unknown"].sum()), "cell")
        said.append(f"Time not known for {n} of {list_some(lacking['arm'])}: hours lack them.")
    mixed = table[table["kind"].str.contains(",")]
    if len(mixed):
        said.append(
            f"Trained on GPU and CPU: {list_some(mixed['arm'])}. Such hours are not added up."
        )
    if table["cpu_ms"].notna().any():
        said.append(
            "CPU milliseconds are of the network of one model in torch on one thread, for each "
            "window of the competition, with what overlaps and what is heard around it; an "
            "ensemble of all folds and seeds takes as many times that as it has models."
        )
    if table["cpu_ms"].isna().any():
        bare = table[table["cpu_ms"].isna()]
        said.append(f"CPU time not measured: {list_some(bare['arm'])}.")
    return said
