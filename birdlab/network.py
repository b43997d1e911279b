"""The network of a cell: on which device, with which first weights, and as it was trained."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from birdlab.celljob import CellJob
from birdlab.lab import Lab

WEIGHTS = "weights.safetensors"


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


def build_model(job: CellJob, lab: Lab) -> Any:
    """The network of a cell before its first step: fresh weights, or those it starts from."""
    import torch

    from birdlab.sed.draws import torch_seed
    from birdlab.sed.model import SEDModel
    from birdlab.sed.weights import load_backbone_weights

    spec = job.spec.model
    torch.manual_seed(torch_seed(job.seed, job.fold, "train", "init"))
    if job.start is not None:
        spec = spec.model_copy(update={"pretrained": False})
    model = SEDModel(spec, len(job.classes))
    if job.start is not None:
        _take_over(model, lab.cells / job.start / WEIGHTS, job.stage.transfer)
    elif spec.weights is not None:
        load_backbone_weights(model.backbone, lab.weights_path(spec.weights))
    return model


def _take_over(model: Any, weights: Path, transfer: str) -> None:
    from safetensors.torch import load_file

    state = load_file(weights)
    if transfer == "backbone":
        own = {k: v for k, v in model.state_dict().items() if not k.startswith("backbone.")}
        state = own | {k: v for k, v in state.items() if k.startswith("backbone.")}
    model.load_state_dict(state, strict=True)


def load_model(spec: Any, n_classes: int, weights: Path) -> Any:
    """The trained network in a weights file, strict, in evaluation mode."""
    from safetensors.torch import load_file

    from birdlab.sed.model import SEDModel

    model = SEDModel(spec.model_copy(update={"pretrained": False}), n_classes)
    model.load_state_dict(load_file(weights), strict=True)
    return model.eval()
