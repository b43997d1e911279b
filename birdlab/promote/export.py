"""One ONNX file out of trained members: waveform in, deployed probabilities out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from birdlab import __version__
from birdlab.errors import PromotionError
from birdlab.evaluate.metrics import HIGHEST_PROB
from birdlab.evaluate.windows import Windowing, blend
from birdlab.infer.card import ModelCard
from birdlab.promote.reduction import Reduction, member_shares, reduce_probs
from birdlab.sed.model import SEDModel
from birdlab.spec.base import Spec
from birdlab.spec.model import ModelSpec

Floats = npt.NDArray[np.float32]
OPSET = 18


@dataclass(frozen=True)
class Member:
    """A trained model of an ensemble: what it is, its columns, its weights, its blend.

    `weights` is a safetensors state dict of SEDModel; `clip` and `time_max` weigh the clip
    probability and the time maximum; `name` is for messages and the file's metadata;
    `context_s` is that of `evaluate`.
    """

    spec: ModelSpec
    classes: tuple[str, ...]
    weights: Path
    window_s: float
    clip: float
    time_max: float
    name: str = ""
    context_s: float | None = None

    @property
    def windowing(self) -> Windowing:
        """What the model hears of each window."""
        return Windowing(self.window_s, _rate(self.spec), self.context_s, self.spec.normalise)


@dataclass(frozen=True)
class ExportInfo:
    """What was written: file, card, how many members and front-ends, size, SHA-256."""

    path: Path
    card: ModelCard
    n_members: int
    n_frontends: int
    size_bytes: int
    sha256: str


def export_ensemble(
    members: Sequence[Member],
    path: Path,
    *,
    classes: Sequence[str],
    metadata: Mapping[str, str] | None = None,
    reduction: Reduction = "mean",
    weights: Sequence[float] | None = None,
) -> ExportInfo:
    """The written ONNX file: `wave` [B, samples] → `probs` [B, C], any batch size.

    Columns are `classes` in order, found in each member by name. Members with equal
    front-ends share one. `metadata` is added to the file's card (lineage, licence). Weights
    are loaded strictly. Raises PromotionError when a member misses a class, when members
    differ in rate, window, context or normalisation, when weights do not fit, or when the
    export fails.
    """
    card = _build_card(members, tuple(classes), metadata or {}, reduction, weights)
    ensemble = _Ensemble(members, card.classes, reduction, weights).eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        _write_onnx(ensemble, card, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    content = path.read_bytes()
    return ExportInfo(
        path=path,
        card=card,
        n_members=len(members),
        n_frontends=len(ensemble.frontends),
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def build_reference(
    members: Sequence[Member],
    classes: Sequence[str],
    *,
    reduction: Reduction = "mean",
    weights: Sequence[float] | None = None,
) -> Callable[[Floats], Floats]:
    """The road of validation as a function `[B, samples] → [B, C]`: what the file must equal.

    Every member is the whole torch model with its own FFT front-end, blended in numpy.
    """
    models = [load_member(member) for member in members]
    columns = [_columns(member, classes) for member in members]

    def predict(waves: Floats) -> Floats:
        deployed = []
        with torch.inference_mode():
            for member, model, picked in zip(members, models, columns, strict=True):
                output = model(torch.from_numpy(waves), member.windowing.centre)
                probs, peaks = output.probs.numpy(), output.time_max.numpy()
                deployed.append(blend(probs, peaks, member.clip, member.time_max)[:, picked])
        mixed = reduce_probs(deployed, reduction, weights)
        return np.minimum(np.asarray(mixed, dtype=np.float32), HIGHEST_PROB)

    return predict


def load_member(member: Member) -> SEDModel:
    """The trained model of a member in evaluation mode; PromotionError when weights do not fit."""
    plain = {"pretrained": False, "weights": None, "grad_checkpointing": False}
    model = SEDModel(member.spec.model_copy(update=plain), len(member.classes))
    try:
        model.load_state_dict(load_file(member.weights), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise PromotionError(
            "the weights of a member cannot be loaded",
            where=f"{member.name} {member.weights}".strip(),
            got=f"{type(error).__name__}: {str(error)[:400]}",
            expected=f"the state dict of a detector for {len(member.classes)} classes with the "
            f"backbone {_backbone_name(member.spec)}",
        ) from None
    return model.eval()


def _columns(member: Member, classes: Sequence[str]) -> list[int]:
    """Where the scored classes are in the output of a member."""
    known = {code: i for i, code in enumerate(member.classes)}
    missing = [code for code in classes if code not in known]
    if missing:
        raise PromotionError(
            "a member does not know all scored classes",
            where=member.name or _backbone_name(member.spec),
            got=f"{len(missing)} missing: {', '.join(missing)}",
            expected=f"{len(classes)} classes",
            fix="leave this member out, or train it on the scored classes",
        )
    return [known[code] for code in classes]


class _Ensemble(nn.Module):
    """Members behind shared front-ends, in their export form."""

    def __init__(
        self,
        members: Sequence[Member],
        classes: Sequence[str],
        reduction: Reduction,
        weights: Sequence[float] | None,
    ) -> None:
        super().__init__()
        self.reduction, self.weights = reduction, weights
        self.blends = [(member.clip, member.time_max) for member in members]
        self.centre = members[0].windowing.centre
        loaded = [load_member(member) for member in members]
        self.models = nn.ModuleList(loaded)
        self.frontends = nn.ModuleList()
        self.frontend_of: list[int] = []
        kept: list[tuple[Spec, nn.Module]] = []
        for i, (member, model) in enumerate(zip(members, loaded, strict=True)):
            own = (member.spec.frontend, model.frontend)
            same_as = next((j for j, other in enumerate(kept) if _equal(own, other)), len(kept))
            if same_as == len(kept):
                kept.append(own)
                self.frontends.append(_export_form(model.frontend))
            self.frontend_of.append(same_as)
            model.frontend = nn.Identity()
            model.backbone = _export_form(model.backbone)
            columns = torch.tensor(_columns(member, classes))
            same = columns.tolist() == list(range(len(member.classes)))
            self.register_buffer(f"columns{i}", None if same else columns)

    def forward(self, wave: Tensor) -> Tensor:
        mels = [frontend(wave) for frontend in self.frontends]
        deployed = []
        for i, (model, (clip, time_max)) in enumerate(zip(self.models, self.blends, strict=True)):
            mel = mels[self.frontend_of[i]]
            output = model.classify(mel, self.centre)  # type: ignore[operator]
            probs = clip * output.probs + time_max * output.time_max
            columns = getattr(self, f"columns{i}")
            deployed.append(probs if columns is None else probs.index_select(1, columns))
        mixed: Tensor = reduce_probs(deployed, self.reduction, self.weights)
        return mixed.clamp(0.0, float(HIGHEST_PROB))


def _equal(one: tuple[Spec, nn.Module], other: tuple[Spec, nn.Module]) -> bool:
    """Do two front-ends make equal images: equal settings, and equal weights if they learn?"""
    if one[0] != other[0]:
        return False
    states = one[1].state_dict(), other[1].state_dict()
    return all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def _export_form(part: nn.Module) -> nn.Module:
    """A front-end or backbone that offers a form for export in that form, else as it is."""
    build = getattr(part, "export_form", None)
    return part if build is None else build()


def _backbone_name(spec: ModelSpec) -> str:
    """The timm name of a backbone, or its kind."""
    backbone = spec.backbone
    return backbone if isinstance(backbone, str) else str(getattr(backbone, "kind", backbone))


def _build_card(
    members: Sequence[Member],
    classes: tuple[str, ...],
    metadata: Mapping[str, str],
    reduction: Reduction,
    weights: Sequence[float] | None,
) -> ModelCard:
    """The card of the file; PromotionError when the members do not fit together."""
    shares = member_shares(len(members), weights)
    inputs = list(dict.fromkeys(member.windowing for member in members))
    if len(inputs) > 1:
        raise PromotionError(
            "the members hear different windows",
            got="; ".join(map(str, inputs)),
            expected="one sample rate, window, evaluate.context_s and model.normalise for all",
            fix="promote them apart",
        )
    described = [
        {
            "name": member.name,
            "backbone": _backbone_name(member.spec),
            "clip": member.clip,
            "time_max": member.time_max,
            "share": share,
        }
        for member, share in zip(members, shares, strict=True)
    ]
    details = {
        "members": json.dumps(described),
        "reduction": reduction,
        "birdlab": __version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "onnx": onnx.__version__,
        **metadata,
    }
    hears = inputs[0]
    return ModelCard(
        classes, hears.sample_rate_hz, hears.window_s, details, hears.context_s, hears.normalise
    )


def _rate(spec: ModelSpec) -> int:
    rate = getattr(spec.frontend, "sample_rate_hz", None)
    if not isinstance(rate, int):
        raise PromotionError(
            "the front-end does not say its sample rate",
            got=type(spec.frontend).__name__,
            fix="give its spec a field sample_rate_hz",
        )
    return rate


def _write_onnx(ensemble: nn.Module, card: ModelCard, path: Path) -> None:
    """Trace, check and save the graph with its card in the metadata."""
    example = torch.zeros(2, card.input_samples)
    program = torch.onnx.export(
        ensemble,
        (example,),
        input_names=["wave"],
        output_names=["probs"],
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    if program is None:
        raise PromotionError("torch gave no ONNX program", where=str(path))
    model = program.model_proto
    onnx.helper.set_model_props(model, card.to_metadata())
    onnx.checker.check_model(model)
    onnx.save(model, path)
