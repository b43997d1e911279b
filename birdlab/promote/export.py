"""One ONNX file out of trained members: waveform in, deployed probabilities out."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import timm
import torch

from birdlab import __version__
from birdlab.errors import PromotionError
from birdlab.evaluate.blends import MEAN, Blend
from birdlab.infer.card import MemberCard, ModelCard
from birdlab.infer.models import hash_model
from birdlab.promote.compose import PROBS, compose, count_frontends
from birdlab.promote.detector import (
    Member,
    average_members,
    build_reference,
    build_roads,
    check_windows,
    find_columns,
    load_member,
    renew_norms,
)
from birdlab.promote.parts import export_parts, walk_graph

__all__ = [
    "ExportInfo",
    "Member",
    "average_members",
    "build_card",
    "build_reference",
    "build_roads",
    "export_ensemble",
    "load_member",
    "renew_norms",
    "save_model",
    "write_card",
]

FILE_LIMIT = 2_000_000_000
"""Bytes that one ONNX file may have; protobuf ends at 2³¹ - 1."""
INLINE_BYTES = 1024
"""Constants below this stay in the ONNX file when the weights are beside it."""


@dataclass(frozen=True)
class ExportInfo:
    """What was written: file, card, how many members and front-ends, size, SHA-256.

    `data_path` is the file beside it that holds the weights where one file would be too large;
    size and SHA-256 are those of both, one after the other.
    """

    path: Path
    card: ModelCard
    n_members: int
    n_frontends: int
    size_bytes: int
    sha256: str
    data_path: Path | None = None


def export_ensemble(
    members: Sequence[Member],
    path: Path,
    *,
    classes: Sequence[str],
    metadata: Mapping[str, str] | None = None,
    blend: Blend = MEAN,
    weights: Sequence[float] | None = None,
    hop_s: float | None = None,
    file_limit: int = FILE_LIMIT,
) -> ExportInfo:
    """The written ONNX file: `wave` [B, samples] → `probs`, `member_0` … [B · k, C], any B.

    The k windows of an input follow each other. Columns are `classes` in order, found in each
    member by name; a class that a member lacks is blended from the others. The input is that of the
    member with the longest context. Members with equal front-ends share one; `compose` describes
    the graph. `metadata` is added to the card (lineage, licence). A `rank` blend needs all rows at
    once: `probs` are the mean then, and whoever predicts ranks the members' own outputs. Above
    `file_limit` bytes the weights lie beside the file, as `<file name>.data`. Raises PromotionError
    when members do not fit together, when no member knows a class, when weights do not fit, or when
    the export fails.
    """
    card = build_card(
        members, classes, metadata=metadata, blend=blend, weights=weights, hop_s=hop_s
    )
    model = compose(export_parts(members, card.classes), card)
    return save_model(model, card, path, file_limit=file_limit)


def build_card(
    members: Sequence[Member],
    classes: Sequence[str],
    *,
    metadata: Mapping[str, str] | None = None,
    blend: Blend = MEAN,
    weights: Sequence[float] | None = None,
    hop_s: float | None = None,
) -> ModelCard:
    """The card of the ensemble of `members`; PromotionError when they do not fit together."""
    heard = check_windows(members)
    given = [1.0] * len(members) if weights is None else list(weights)
    known = [[column is not None for column in find_columns(m, classes)] for m in members]
    _check_shares(members, classes, given, known)
    total = sum(given)
    cards = tuple(
        MemberCard(
            name=member.name,
            backbone=member.backbone,
            output=f"member_{i}",
            weight=given[i] / total,
            classes=None if all(known[i]) else tuple(itertools.compress(classes, known[i])),
            run=member.run,
            fold=member.fold,
            seed=member.seed,
            weights=member.learned,
            clip=member.clip,
            time_max=member.time_max,
        )
        for i, member in enumerate(members)
    )
    details = {
        "outputs": json.dumps([PROBS, *(card.output for card in cards)]),
        "precision": "fp32",
        "birdlab": __version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "onnx": onnx.__version__,
        **(metadata or {}),
    }
    return ModelCard(
        tuple(classes),
        heard.sample_rate_hz,
        heard.window_s,
        details,
        heard.context_s,
        heard.normalise,
        cards,
        blend,
        heard.windows_per_pass,
        hop_s,
    )


def _check_shares(
    members: Sequence[Member],
    classes: Sequence[str],
    weights: Sequence[float],
    known: Sequence[Sequence[bool]],
) -> None:
    """PromotionError when weights do not fit the members, or nobody knows a class."""
    fits = len(weights) == len(members) and all(0 <= w < math.inf for w in weights)
    if not fits or not sum(weights) > 0:
        raise PromotionError(
            "the weights do not fit the members of the ensemble",
            got=f"{list(weights)} for {len(members)} members",
            expected="one weight >= 0 each, and a sum above 0",
        )
    nobody = [
        code
        for i, code in enumerate(classes)
        if not any(w > 0 and row[i] for w, row in zip(weights, known, strict=True))
    ]
    if nobody:
        raise PromotionError(
            "no member of the ensemble knows a scored class",
            where=", ".join(member.name or member.backbone for member in members),
            got=f"{len(nobody)} missing: {', '.join(nobody)}",
            expected=f"{len(classes)} classes",
            fix="add a member that was trained on them, or promote fewer classes",
        )


def save_model(
    model: onnx.ModelProto, card: ModelCard, path: Path, *, file_limit: int = FILE_LIMIT
) -> ExportInfo:
    """The written model, checked; the weights beside it when they are more than `file_limit` bytes.

    The file appears whole; weights beside it are there before it. `model` is emptied of them.
    Raises PromotionError when it cannot be written, on a full disk for one.
    """
    beside = path.with_name(f"{path.name}.data")
    away, n_frontends = path.with_name(f".{path.name}.part"), count_frontends(model)
    shutil.rmtree(away, ignore_errors=True)
    try:
        away.mkdir(parents=True)
        if _weight_bytes(model) <= file_limit:
            onnx.save(model, away / path.name)
        else:
            onnx.save(
                model,
                away / path.name,
                save_as_external_data=True,
                location=beside.name,
                size_threshold=INLINE_BYTES,
            )
        onnx.checker.check_model(away / path.name)
        files = [f for f in (away / path.name, away / beside.name) if f.is_file()]
        size, sha256 = sum(f.stat().st_size for f in files), hash_model(away / path.name)
        for file in reversed(files):
            file.replace(path.with_name(file.name))
        if len(files) == 1:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    except onnx.checker.ValidationError as error:
        raise PromotionError(
            "the graph that was built is no valid ONNX",
            where=str(path),
            got=str(error).splitlines()[0][:300],
            fix="report it with the backbones; a variant can be left out",
        ) from None
    finally:
        shutil.rmtree(away, ignore_errors=True)
    data = beside if len(files) > 1 else None
    return ExportInfo(path, card, len(card.members), n_frontends, size, sha256, data)


def _weight_bytes(model: onnx.ModelProto) -> int:
    """The size of all constants; a message above protobuf's end cannot be asked for its own."""
    parts = walk_graph(model.graph)
    return sum(len(part.raw_data) for part in parts if isinstance(part, onnx.TensorProto))


def write_card(info: ExportInfo, card: ModelCard) -> ExportInfo:
    """The same file with another card: times of members that were measured, a reason.

    The graph and the weights stay as they are; the file is replaced at once. Raises PromotionError
    when it cannot be written.
    """
    model = onnx.load(info.path, load_external_data=False)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, card.to_metadata())
    away = info.path.with_name(f".{info.path.name}.part")
    try:
        onnx.save(model, away)
        away.replace(info.path)
    except OSError as error:
        raise _unwritable(info.path, error) from None
    finally:
        away.unlink(missing_ok=True)
    files = [info.path] if info.data_path is None else [info.path, info.data_path]
    size = sum(f.stat().st_size for f in files)
    return replace(info, card=card, size_bytes=size, sha256=hash_model(info.path))


def _unwritable(path: Path, error: OSError) -> PromotionError:
    return PromotionError(
        "the model cannot be written",
        where=str(path),
        got=error.strerror,
        fix="make room and promote again: what was trained is kept",
    )
