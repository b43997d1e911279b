"""The network of a cell: on which device, with which first weights, and as it was trained."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from birdlab.cellfiles import CARD, WEIGHTS
from birdlab.celljob import CellJob
from birdlab.data.classes import ClassList
from birdlab.errors import CellError
from birdlab.lab import Lab
from birdlab.recorded import load_card
from birdlab.stages import fresh_weights

HEAD = "head."
"""What the names of the head's weights begin with."""

Tensors = Mapping[str, Any]


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


def build_model(job: CellJob, lab: Lab, note: Callable[[str], None] = lambda _: None) -> Any:
    """The network of a cell before its first step: fresh weights, or those it starts from.

    What is not taken over is seeded by the cell. `note` is told in words where weights came
    from. Raises CellError where the start does not fit, SpecError or LabError for weights that
    cannot be had.
    """
    import torch

    from birdlab.sed.draws import torch_seed
    from birdlab.sed.model import SEDModel
    from birdlab.sed.weights import load_backbone_weights

    spec = job.spec.model
    hub, file = (False, None) if job.start is not None else fresh_weights(spec, job.stage)
    torch.manual_seed(torch_seed(job.seed, job.fold, "train", "init"))
    model = SEDModel(spec.model_copy(update={"pretrained": hub}), len(job.classes))
    if job.start is not None:
        note(_take_over(model, job, lab))
    elif file is not None:
        note(f"weights {file}: {load_backbone_weights(model.backbone, lab.weights_path(file))}")
    else:
        note(f"pretrained weights of {spec.backbone}" if hub else "random weights")
    return model


def _take_over(model: Any, job: CellJob, lab: Lab) -> str:
    """Load the weights of the cell that `job` starts from; in words, how many classes it kept.

    `all` takes everything, `backbone` all but the head, `mapped` also what the head holds for
    classes that both know and for no class in particular.
    """
    from safetensors.torch import load_file

    assert job.start is not None
    transfer = job.stage.transfer
    given, own = load_file(weights_path(lab, job.start)), model.state_dict()
    taken, n_kept = given, len(job.classes)
    if transfer == "backbone":
        fresh_head = {k: v for k, v in own.items() if k.startswith(HEAD)}
        taken = {k: v for k, v in given.items() if not k.startswith(HEAD)} | fresh_head
        n_kept = 0
    elif transfer == "mapped":
        before = ClassList(tuple(load_card(lab, job.start)["classes"]))
        places = job.classes.positions_in(before)
        taken = given | map_classes(given, own, _class_parameters(model), places)
        n_kept = int((places >= 0).sum())
    try:
        model.load_state_dict(taken, strict=True)
    except RuntimeError as error:
        raise CellError(
            "the weights of the stage before do not fit this one",
            where=job.title,
            got=str(error).splitlines()[-1].strip(),
            fix="what a head holds per class belongs into its class_parameters(); else write "
            "`transfer: backbone`",
        ) from None
    return f"cell {job.start} ({transfer}): {n_kept} of {len(job.classes)} classes of the head"


def weights_path(lab: Lab, cell_id: str) -> Path:
    """The file of a cell's weights; CellError when `keep:` or nobody left them.

    In a smoke test the cells of other runs lie in the lab itself.
    """
    path = lab.cells / cell_id / WEIGHTS
    if lab.cells_folder is not None and not path.is_file():
        return weights_path(replace(lab, cells_folder=None), cell_id)
    if not path.is_file():
        kept = (lab.cells / cell_id / CARD).is_file()
        raise CellError(
            f"the weights of cell {cell_id} are not in the lab",
            where=str(path.parent),
            got="its run kept only outputs (`keep:`)" if kept else None,
            fix="train them again, to the same bits: birdlab rerun RUN --keep all",
        )
    return path


def map_classes(given: Tensors, own: Tensors, names: Sequence[str], places: Any) -> dict[str, Any]:
    """The parameters `names` of `own` with the rows of the classes that `given` knows.

    `places: [C] int`, the row of each class in `given`, -1 for one that it does not know. Raises
    CellError when it knows none.
    """
    known = places >= 0
    if not known.any():
        raise CellError(
            "the stage before knows none of the classes of this one",
            fix="write `transfer: backbone` to start with a new head",
        )
    mapped = {}
    for name in names:
        mapped[name] = own[name].clone()
        mapped[name][known] = given[name][places[known]]
    return mapped


def _class_parameters(model: Any) -> list[str]:
    """The names of the parameters of the network whose rows are the classes."""
    told = getattr(model.head, "class_parameters", None)
    if told is None:
        raise CellError(
            f"the head {type(model.head).__name__} does not say which weights belong to a class",
            where="model.head",
            fix="give it a method class_parameters() with their names, or write "
            "`transfer: backbone`",
        )
    return [HEAD + name for group in told() for name in group]


def load_model(spec: Any, n_classes: int, weights: Path) -> Any:
    """The trained network in a weights file, strict, in evaluation mode."""
    from safetensors.torch import load_file

    from birdlab.sed.model import SEDModel

    model = SEDModel(spec.model_copy(update={"pretrained": False}), n_classes)
    model.load_state_dict(load_file(weights), strict=True)
    return model.eval()
