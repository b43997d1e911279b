"""One cell: train it, store its weights and outputs, whole or not at all."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

from birdlab.cellplan import CellPlan
from birdlab.data.store import WaveStore
from birdlab.errors import CellError
from birdlab.evaluate.outputs import StoredOutputs, save_outputs
from birdlab.evaluate.predictor import predict_recordings
from birdlab.lab import Lab
from birdlab.plan import Plan

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>

WEIGHTS = "weights.safetensors"
CARD = "cell.json"
CURVES = "curves.parquet"

Report = Callable[[str, dict[str, Any]], None]


def is_trained(lab: Lab, cell: CellPlan) -> bool:
    """Whether the cell's weights are in the lab."""
    return (lab.cells / cell.cell_id / CARD).is_file()


def is_finished(lab: Lab, cell: CellPlan) -> bool:
    """Whether the cell's weights, and its outputs where it is scored, are in the lab."""
    if not is_trained(lab, cell):
        return False
    return cell.eval_id is None or outputs_folder(lab, cell).is_dir()


def outputs_folder(lab: Lab, cell: CellPlan) -> Path:
    """Where the cell's outputs on its validation rows lie."""
    return lab.cells / cell.cell_id / f"outputs-{cell.eval_id}"


def load_card(lab: Lab, cell_id: str) -> dict[str, Any]:
    """What is known of a finished cell: document, stage, classes, seconds, environment."""
    card: dict[str, Any] = json.loads((lab.cells / cell_id / CARD).read_text())
    return card


def finish_cell(plan: Plan, cell: CellPlan, lab: Lab, report: Report) -> None:
    """Train the cell unless its weights are there, then store its outputs unless they are there.

    The folder appears under its final name when everything in it is complete, so a kill at
    any moment leaves either a finished cell or none. Two processes that want the same cell
    wait for each other. Raises CellError, AudioError or SpecError.
    """
    lab.cells.mkdir(parents=True, exist_ok=True)
    with FileLock(lab.cells / f".{cell.cell_id}.lock"):
        if not is_trained(lab, cell):
            _train(plan, cell, lab, report)
        elif not is_finished(lab, cell):
            report("evaluate", {})
            _store_outputs(plan, cell, lab, lab.cells / cell.cell_id)


def _train(plan: Plan, cell: CellPlan, lab: Lab, report: Report) -> None:
    import torch
    from safetensors.torch import save_model

    from birdlab.sed.fit import EpochReport, fit

    keep_freed_memory()
    train, device = cell.stage.train, pick_device()
    torch.set_num_threads(train.threads_per_cell)
    folder = lab.cells / f".{cell.cell_id}.part"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.perf_counter()
    report("start", {"epochs": cell.steps.epochs, "steps": cell.steps.total, "title": cell.title})
    model = build_model(plan, cell, lab)
    curves: list[dict[str, Any]] = []

    def on_epoch(epoch: EpochReport) -> None:
        curves.append(asdict(epoch))
        report("epoch", asdict(epoch))

    fit(
        model,
        clip_source(plan, cell, lab),
        train,
        cell.stage.augment,
        cell.steps,
        seed=cell.seed,
        fold=cell.fold,
        device=device,
        names=list(cell.rows.table["recording"].iloc[cell.chosen]),
        report=on_epoch,
    )
    model.to("cpu", memory_format=torch.contiguous_format)
    save_model(model, str(folder / WEIGHTS))
    pd.DataFrame(curves).to_parquet(folder / CURVES, index=False)
    if cell.eval_id is not None:
        report("evaluate", {})
        _store_outputs(plan, cell, lab, folder)
    card = {
        "cell_id": cell.cell_id,
        "stage": cell.stage.name,
        "fold": cell.fold,
        "seed": cell.seed,
        "start": None if cell.start is None else cell.start.cell_id,
        "classes": list(cell.classes),
        "document": cell.document,
        "model": plan.spec.model.model_dump(mode="json"),
        "seconds": round(time.perf_counter() - began, 3),
        "steps": cell.steps.total,
        "threads": train.threads_per_cell,
        "device": device_name(),
        "torch": torch.__version__,
        "platform": platform.platform(),
    }
    (folder / CARD).write_text(json.dumps(card, indent=1, sort_keys=True))
    _put_in_place(folder, lab.cells / cell.cell_id)


def _put_in_place(folder: Path, target: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    folder.rename(target)


def keep_freed_memory() -> None:
    """Let glibc reuse freed memory for the next tensor instead of returning it to the system.

    By default every tensor above a few hundred kilobytes is mapped and unmapped anew, and the
    page faults take a third of a front-end's time. No number changes. Elsewhere: nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def pick_device() -> Any:
    """The device that cells train on: the GPU when there is one, else the CPU."""
    import torch

    if torch.cuda.is_available():
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        return torch.device("cuda")
    return torch.device("cpu")


def device_name() -> str:
    """The device in words, for cards and tags."""
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return platform.processor() or platform.machine()


def build_model(plan: Plan, cell: CellPlan, lab: Lab) -> Any:
    """The network of a cell before its first step: fresh weights, or those it starts from."""
    import torch

    from birdlab.sed.draws import torch_seed
    from birdlab.sed.model import SEDModel
    from birdlab.sed.weights import load_backbone_weights

    spec = plan.spec.model
    torch.manual_seed(torch_seed(cell.seed, cell.fold, "train", "init"))
    if cell.start is not None:
        spec = spec.model_copy(update={"pretrained": False})
    model = SEDModel(spec, len(cell.classes))
    if cell.start is not None:
        _take_over(model, cell, lab)
    elif spec.weights is not None:
        load_backbone_weights(model.backbone, lab.weights_path(spec.weights))
    return model


def _take_over(model: Any, cell: CellPlan, lab: Lab) -> None:
    from safetensors.torch import load_file

    assert cell.start is not None
    state = load_file(lab.cells / cell.start.cell_id / WEIGHTS)
    if cell.stage.transfer == "backbone":
        own = {k: v for k, v in model.state_dict().items() if not k.startswith("backbone.")}
        state = own | {k: v for k, v in state.items() if k.startswith("backbone.")}
    model.load_state_dict(state, strict=True)


def clip_source(plan: Plan, cell: CellPlan, lab: Lab) -> Any:
    """Where the training clips of a cell come from."""
    from birdlab.sed.loader import ClipSource

    table = cell.rows.table.iloc[cell.chosen]
    labels = list(table["primary_label"])
    return ClipSource(
        WaveStore(lab.waves, plan.sample_rate_hz),
        _known_keys(cell, cell.chosen),
        cell.classes.encode(
            labels, list(table["secondary_labels"]), secondary_weight=cell.stage.train.secondary
        ),
        labels,
        {name: [k for k in keys if k is not None] for name, keys in plan.noise.items()},
        round(cell.stage.train.window_s * plan.sample_rate_hz),
    )


def _known_keys(cell: CellPlan, chosen: Any) -> list[str]:
    keys = [cell.rows.keys[i] for i in chosen]
    missing = [
        cell.rows.table["recording"].iloc[i] for i, k in zip(chosen, keys, strict=True) if k is None
    ]
    if missing:
        raise CellError(
            f"the audio of {len(missing)} recordings is missing",
            got=", ".join(missing[:5]),
            fix="correct the path of the data set in birdlab.toml",
        )
    return [key for key in keys if key is not None]


def _store_outputs(plan: Plan, cell: CellPlan, lab: Lab, folder: Path) -> None:
    """Predict the validation rows of a cell with the weights in `folder`, and store that."""
    import torch

    from birdlab.sed.fit import TorchPredictor

    assert cell.validation is not None
    torch.set_num_threads(cell.stage.train.threads_per_cell)
    model = load_model(plan.spec.model, len(cell.classes), folder / WEIGHTS)
    columns = plan.data.classes.positions_in(cell.classes)
    predictor = TorchPredictor(model, columns, pick_device())
    table = cell.rows.table.iloc[cell.validation].reset_index(drop=True)
    keys = _known_keys(cell, cell.validation)
    store = WaveStore(lab.waves, plan.sample_rate_hz)
    windows = predict_recordings(
        predictor,
        list(table["recording"]),
        lambda i: store.read_all(keys[i]),
        plan.data.classes.codes,
        window_s=plan.spec.competition.window_s,
        sample_rate_hz=plan.sample_rate_hz,
        batch=plan.spec.evaluate.batch,
    )
    labels = table[["recording", "primary_label", "secondary_labels"]]
    save_outputs(folder / f"outputs-{cell.eval_id}", StoredOutputs(windows, labels))


def load_model(spec: Any, n_classes: int, weights: Path) -> Any:
    """The trained network in a weights file, strict, in evaluation mode."""
    from safetensors.torch import load_file

    from birdlab.sed.model import SEDModel

    model = SEDModel(spec.model_copy(update={"pretrained": False}), n_classes)
    model.load_state_dict(load_file(weights), strict=True)
    return model.eval()
