"""A trained detector as a member of an ensemble, and what it says in torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from birdlab.errors import CellError, PromotionError
from birdlab.evaluate.blends import MEAN, Blend, blend_members, class_shares
from birdlab.evaluate.metrics import HIGHEST_PROB
from birdlab.evaluate.windows import Windowing, blend, peak_normalise
from birdlab.sed.averaging import mean_of, recompute_norms
from birdlab.sed.model import SEDModel
from birdlab.spec.model import ModelSpec

Floats = npt.NDArray[np.float32]
Road = Callable[[Floats], Floats]
"""A function from inputs [B, samples] to probabilities [B · k, C], k windows of each input."""


@dataclass(frozen=True)
class Member:
    """A trained model of an ensemble: what it is, its columns, its weights, its blend.

    `weights` is a safetensors state dict of SEDModel; `clip` and `time_max` weigh the clip
    probability and the time maximum; `context_s` and `windows_per_pass` are those of `evaluate`.
    The rest is for messages
    and the card: `name`, the spec id `run`, `fold` (None: all data), `seed`, and `learned`, one
    of `full`, `fold` and `averaged`.
    """

    spec: ModelSpec
    classes: tuple[str, ...]
    weights: Path
    window_s: float
    clip: float
    time_max: float
    name: str = ""
    context_s: float | None = None
    windows_per_pass: int = 1
    run: str = ""
    fold: int | None = None
    seed: int | None = None
    learned: str = "fold"

    @property
    def windowing(self) -> Windowing:
        """What the model hears of each window."""
        return Windowing(
            self.window_s,
            _rate(self.spec),
            self.context_s,
            self.spec.normalise,
            self.windows_per_pass,
        )

    @property
    def backbone(self) -> str:
        """The timm name of its backbone, or its kind."""
        backbone = self.spec.backbone
        return backbone if isinstance(backbone, str) else str(getattr(backbone, "kind", backbone))


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
            f"backbone {member.backbone}",
        ) from None
    return model.eval()


def average_members(weights: Sequence[Path], out: Path) -> Path:
    """`out`, a safetensors file with the mean of the weights in other files.

    Meant for networks that started from the same weights: the mean of others is no network that
    ever learned anything. Running statistics of batch norms are averaged too and do not fit the
    mean: `renew_norms` makes them anew. Raises PromotionError when files cannot be read or differ
    in form.
    """
    try:
        mean = mean_of(load_file(path) for path in weights)
    except (OSError, SafetensorError, CellError) as error:
        raise PromotionError(
            "the weights cannot be averaged",
            where=", ".join(map(str, weights)),
            got=getattr(error, "what", None) or f"{type(error).__name__}: {error}",
            fix="average checkpoints of one recipe and one class list that started from the same "
            "weights",
        ) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(mean, out)
    return out


def renew_norms(member: Member, waves: Floats, *, batch: int = 16) -> None:
    """Make the batch-norm statistics of a member anew, in its file: their mean over batches.

    `waves` [n, samples] are inputs such as those it was trained on; a rest smaller than `batch`
    is left out, unless it is all there is. Source: Izmailov et al. 2018, section 3.1.
    """
    model = load_member(member)
    whole = max(len(waves) - len(waves) % batch, min(len(waves), batch))
    starts = range(0, whole, batch)
    with torch.no_grad():
        mels = (model.frontend(torch.from_numpy(waves[i : i + batch])) for i in starts)
        recompute_norms(model, mels)
    save_file(model.state_dict(), member.weights)


def check_windows(members: Sequence[Member]) -> Windowing:
    """What the ensemble hears: the windowing of the member with the longest context.

    Raises PromotionError when members differ in more than that.
    """
    if not members:
        raise PromotionError("there is no member to promote")
    inputs = list(dict.fromkeys(member.windowing for member in members))
    kinds = {(w.sample_rate_hz, w.window_s, w.normalise, w.windows_per_pass) for w in inputs}
    if len(kinds) > 1:
        raise PromotionError(
            "the members hear different windows",
            got="; ".join(map(str, inputs)),
            expected="one sample rate, window_s, model.normalise and evaluate.windows_per_pass for "
            "all; only evaluate.context_s may differ",
            fix="promote them apart, or train one of them again as the other; for another "
            "evaluate.windows_per_pass nothing is trained, outputs alone are made",
        )
    return max(inputs, key=lambda windowing: windowing.input_samples)


def find_columns(member: Member, classes: Sequence[str]) -> list[int | None]:
    """Where each scored class is in the output of a member; None where it does not know it.

    Raises PromotionError when it knows none of them.
    """
    known = {code: i for i, code in enumerate(member.classes)}
    columns = [known.get(code) for code in classes]
    if all(column is None for column in columns):
        raise PromotionError(
            "a member knows none of the scored classes",
            where=member.name or member.backbone,
            got=", ".join(member.classes[:5]) + (" ..." if len(member.classes) > 5 else ""),
            fix="leave this member out, or train it on the scored classes",
        )
    return columns


def build_roads(members: Sequence[Member], classes: Sequence[str]) -> list[Road]:
    """What each member says in torch, as a function of the inputs that the ensemble hears.

    [B, samples] → [B · k, C] with k windows a pass. The whole model with its own FFT front-end, in
    the columns `classes`; 0 in one that it lacks.
    """
    heard = check_windows(members)
    return [_build_road(member, classes, heard) for member in members]


def _build_road(member: Member, classes: Sequence[str], heard: Windowing) -> Road:
    model, own = load_member(member), member.windowing
    columns = find_columns(member, classes)
    known = np.array([column is not None for column in columns])
    picked = [column or 0 for column in columns]

    def predict(waves: Floats) -> Floats:
        with torch.inference_mode():
            said = model.hear(torch.from_numpy(cut_context(waves, heard, own)), own.centres)
        probs, peaks = (tensor.numpy() for tensor in said)
        deployed: Floats = blend(probs, peaks, member.clip, member.time_max)[:, picked] * known
        return deployed

    return predict


def cut_context(waves: Floats, heard: Windowing, own: Windowing) -> Floats:
    """The inputs of a member whose context is `own`, out of inputs of the longer one `heard`.

    Equal to cutting the recording for it, but where the whole input peaks below 1e-6.
    """
    first = heard.margin_samples - own.margin_samples
    if not first:
        return waves
    cut = np.ascontiguousarray(waves[:, first : first + own.input_samples])
    return peak_normalise(cut) if own.normalise == "crop" else cut


def build_reference(
    members: Sequence[Member],
    classes: Sequence[str],
    *,
    blend: Blend = MEAN,
    weights: Sequence[float] | None = None,
) -> Road:
    """The road of validation as a function `[B, samples] → [B · k, C]`: what the file must equal.

    The members' roads in torch, blended in numpy as the file does it: by their mean where the
    blend is `rank`, which has no meaning within a batch.
    """
    roads = build_roads(members, classes)
    known = [[column is not None for column in find_columns(m, classes)] for m in members]
    shares = class_shares(weights or [1.0] * len(members), known)
    way = graph_blend(blend)

    def predict(waves: Floats) -> Floats:
        mixed = blend_members([road(waves) for road in roads], way, list(shares))
        clipped: Floats = np.clip(np.asarray(mixed, np.float32), np.float32(0), HIGHEST_PROB)
        return clipped

    return predict


def graph_blend(blend: Blend) -> Blend:
    """How the graph itself blends: as asked, but by the mean where that needs all rows at once."""
    return MEAN if blend.kind == "rank" else blend


def _rate(spec: ModelSpec) -> int:
    rate = getattr(spec.frontend, "sample_rate_hz", None)
    if not isinstance(rate, int):
        raise PromotionError(
            "the front-end does not say its sample rate",
            got=type(spec.frontend).__name__,
            fix="give its spec a field sample_rate_hz",
        )
    return rate
