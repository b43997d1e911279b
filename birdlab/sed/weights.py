"""Local pretrained weights for a backbone: read a file, match its tensors, say what was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from birdlab.errors import LabError, SpecError, first_line

Tensors = dict[str, Tensor]

WRAPPERS = ("model.", "body.")
"""What timm puts before all names of a network whose features it reads from inside."""


@dataclass(frozen=True)
class WeightsReport:
    """What was loaded into a backbone, and how.

    `matched` says whether tensors were found by name or by their order; `loaded` counts them;
    `dropped` lists the tensors of the file that the backbone has no place for (classifier,
    convolutions after the feature level); `adapted` is the first convolution when its RGB
    weights were fitted to another number of channels, else None.
    """

    matched: Literal["name", "order"]
    loaded: int
    dropped: tuple[str, ...]
    adapted: str | None

    def __str__(self) -> str:
        parts = [f"{self.loaded} tensors by {self.matched}"]
        if self.adapted:
            parts.append(f"{self.adapted} fitted from RGB")
        if self.dropped:
            parts.append(f"dropped {', '.join(self.dropped)}")
        return "; ".join(parts)


def load_backbone_weights(backbone: nn.Module, path: Path) -> WeightsReport:
    """What was loaded from `path` into `backbone`, in place; every tensor of it is set.

    The file is a torch state dict (read without pickled code) or safetensors. Tensors are
    matched by name, counting `.` and `_` as equal since timm flattens names; where names do
    not fit, by order, and then each shape and the last part of each name must agree one
    after the other. Batch counters of BatchNorm are skipped. A first convolution for RGB is
    fitted to the backbone's channels by summing or repeating.

    Raises LabError when the file cannot be read, SpecError when it does not fit.
    """
    source = _without_counters(_load_tensors(path))
    target = _without_counters(backbone.state_dict())
    by_name = _by_name(source, target)
    pairs = by_name or _by_order(source, target, path)
    adapted, values = None, {}
    for name, origin in pairs.items():
        tensor = source[origin]
        if tensor.shape != target[name].shape:
            tensor = adapt_input_conv(target[name].shape[1], tensor)
            adapted = name
        values[name] = tensor
    backbone.load_state_dict(values, strict=False)
    used = set(pairs.values())
    dropped = tuple(name for name in source if name not in used)
    return WeightsReport("name" if by_name else "order", len(values), dropped, adapted)


def _load_tensors(path: Path) -> Tensors:
    try:
        if path.suffix == ".safetensors":
            tensors: Tensors = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise LabError(
            "a weights file cannot be read",
            where=str(path),
            got=f"{type(error).__name__}: {first_line(error)}",
            expected="a torch state dict of tensors alone, or safetensors",
            fix="correct its entry under [weights] in the lab file",
        ) from None
    for key in ("state_dict", "model"):
        if isinstance(tensors, Mapping) and isinstance(tensors.get(key), Mapping):
            tensors = dict(tensors[key])
    if not isinstance(tensors, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in tensors.items()
    ):
        raise LabError(
            "a weights file holds something other than named tensors",
            where=str(path),
            fix="save `model.state_dict()`",
        )
    odd = [name for name, tensor in tensors.items() if not _is_plain(tensor)]
    if odd:
        raise LabError(
            "a weights file holds tensors that are no weights of a network",
            where=str(path),
            got=f"{odd[0]}, which is sparse, quantised, complex or without values",
            expected="dense tensors of real numbers",
            fix="save `model.state_dict()` of the network before it is quantised",
        )
    return dict(tensors)


def _is_plain(tensor: Tensor) -> bool:
    """Whether its numbers can be copied as they are."""
    odd = tensor.is_quantized or tensor.is_meta or tensor.is_complex()
    return tensor.layout is torch.strided and not odd


def _without_counters(tensors: Mapping[str, Tensor]) -> Tensors:
    return {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}


def _first_convolution(tensors: Tensors) -> str | None:
    return next((name for name, tensor in tensors.items() if tensor.ndim == 4), None)


def _fits(target: Tensor, source: Tensor, *, first: bool) -> bool:
    """Equal shapes; a first convolution may differ in its input channels, of which 3 are given."""
    if target.shape == source.shape:
        return True
    if not (first and source.ndim == 4 and source.shape[1] == 3):
        return False
    return target.shape[0] == source.shape[0] and target.shape[2:] == source.shape[2:]


def _by_name(source: Tensors, target: Tensors) -> dict[str, str] | None:
    """Target name → source name when every target is there and fits, else None."""
    known = {name.replace("_", "."): name for name in source}
    first = _first_convolution(target)
    pairs = {}
    for name, tensor in target.items():
        dotted = name.replace("_", ".")
        bare = next((dotted[len(w) :] for w in WRAPPERS if dotted.startswith(w)), dotted)
        origin = known.get(dotted) or known.get(bare)
        if origin is None or not _fits(tensor, source[origin], first=name == first):
            return None
        pairs[name] = origin
    return pairs


def _by_order(source: Tensors, target: Tensors, path: Path) -> dict[str, str]:
    """Target name → source name, one after the other; SpecError at the first that differs."""
    pairs = {}
    names, first = list(source), _first_convolution(target)
    for i, (name, tensor) in enumerate(target.items()):
        origin = names[i] if i < len(names) else None
        if (
            origin is None
            or name.rsplit(".", 1)[-1] != origin.rsplit(".", 1)[-1]
            or not _fits(tensor, source[origin], first=name == first)
        ):
            found = "nothing" if origin is None else f"{origin} {list(source[origin].shape)}"
            raise SpecError(
                "the weights do not fit the backbone, neither by name nor by order",
                where=str(path),
                got=f"{found} as tensor {i + 1} of {len(source)}",
                expected=f"{name} {list(tensor.shape)}",
                fix="use the weights of exactly this network",
            )
        pairs[name] = origin
    return pairs
