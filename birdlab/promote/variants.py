"""Variants of a promoted model: built beside it, judged by the score of its fold models."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import onnx

from birdlab.errors import PromotionError
from birdlab.evaluate.windows import Windowing
from birdlab.infer.card import MemberCard, ModelCard, read_card
from birdlab.infer.models import hash_model
from birdlab.infer.session import open_predictor
from birdlab.infer.variants import (
    FP32,
    KNOWN,
    VARIANTS_FILE,
    Variant,
    load_variants,
    variants_text,
)
from birdlab.lab import Lab, write_whole
from birdlab.plan import Plan, Progress, silent
from birdlab.promote.blocks import WHOLE, Mixed
from birdlab.promote.export import save_model
from birdlab.promote.members import first_windows
from birdlab.promote.quantize import MOST_MOVED, MemberNetwork, hear_images, quantize_member
from birdlab.promote.reproduce import score_exported
from birdlab.promote.request import LOSS
from birdlab.promote.variant_report import RunScore, VariantReport

Floats = npt.NDArray[np.float32]

N_CALIBRATION = 64
"""Windows of training clips that a network is calibrated on."""


def build_variant(
    name: str,
    model_path: Path,
    lab: Lab,
    plans: Iterable[Plan],
    *,
    fp32_blocks: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> Variant:
    """The variant `name` of the model at `model_path`, ready beside it and not yet judged.

    A file in INT8 is made from the file itself: each member is calibrated on clips that it was
    trained on, by the plan of its run (spec id) among `plans`; one that is there for another
    engine is used again. The members of one run leave the same blocks in fp32, among them those
    of `fp32_blocks` (by spec id; WHOLE is all): a deployed model has in INT8 what was judged in
    INT8. The variant is opened once, so what this machine cannot run fails here.
    Raises PromotionError for an unknown name, PredictError when it cannot be opened.
    """
    if name not in KNOWN:
        raise PromotionError("unknown variant", got=name, expected=", ".join(KNOWN))
    variant = KNOWN[name]
    path = model_path.with_name(variant.file)
    if variant.precision == "int8" and not _is_made_of(path, model_path):
        known = {plan.spec_id: plan for plan in plans}
        _write_int8(model_path, path, lab, known, fp32_blocks)
    open_predictor(model_path, threads=1, variant=variant)
    return variant


def judge_variant(
    lab: Lab,
    plans: Mapping[str, Plan],
    folds_path: Path,
    variant: Variant,
    *,
    windows: Floats,
    threshold: float = LOSS,
    progress: Progress = silent,
) -> VariantReport:
    """What the variant does to the out-of-fold scores of the fold models in `folds_path`.

    `plans`: the runs by name whose fold models the file holds, as members named by their cells;
    the variant was built beside it. The audio goes the road of prediction; what it is compared
    with are the stored outputs, which fp32 equals to 1e-4 (parity). `windows` [n, samples] are
    timed. Raises PromotionError, PredictError and OutputsError as `score_exported`.
    """
    predictor = open_predictor(folds_path, threads=1, variant=variant)
    scores = []
    for run, plan in plans.items():
        found = score_exported(lab, plan, predictor, progress=progress)
        folds = {cell.fold for cell in found.cells}
        scores.append(
            RunScore(
                run, found.score_torch, found.score_onnx, found.largest, found.n_windows, len(folds)
            )
        )
    return VariantReport(
        variant,
        tuple(scores),
        threshold,
        fp32_ms_per_window=_time(folds_path, FP32, windows),
        ms_per_window=_time(folds_path, variant, windows),
        left_in_fp32=_left_in_fp32(predictor.card),
        fp32_blocks=_fp32_blocks(predictor.card),
    )


def list_variants(folder: Path, judged: Iterable[Variant]) -> Path:
    """The path of the list of variants in a model's folder, with `judged` among them."""
    variants = load_variants(folder) | {variant.name: variant for variant in judged}
    path = folder / VARIANTS_FILE
    write_whole(path, variants_text(variants))
    return path


def training_windows(
    lab: Lab, plan: Plan, member: MemberCard, windowing: Windowing, n: int
) -> Floats:
    """Windows of clips that a member was trained on: [n or fewer, samples], spread over the table.

    `windowing` is that of the file, whose context may be longer than the member's own. A fold model
    never sees the recordings that it is scored on; other models see all rows.
    """
    rows, spread = plan.rows, np.arange(len(plan.rows.keys))
    for cell in plan.final_cells:
        if (cell.fold, cell.seed) == (member.fold, member.seed) and cell.fold is not None:
            rows, spread = cell.rows, np.unique(cell.chosen)
    keys = list(dict.fromkeys(key for row in spread if (key := rows.keys[row]) is not None))
    return first_windows(lab, plan, keys, n, windowing)


def _write_int8(
    source: Path,
    path: Path,
    lab: Lab,
    plans: Mapping[str, Plan],
    fp32_blocks: Mapping[str, Collection[str]],
) -> None:
    """The model in INT8; its card says what is left in fp32, and how far each member moved."""
    model = onnx.load(source)
    card = read_card({p.key: p.value for p in model.metadata_props}, str(source))
    left = {member.run: set(fp32_blocks.get(member.run, ())) for member in card.members}
    tried: dict[str, Mixed] = {}
    while member := _find_other(card, tried, left):
        kept = left[member.run]
        tried[member.output] = _quantise(model, card, member, lab, plans, source, kept)
        kept.update(tried[member.output].left)
    moved = {m.name: round(tried[m.output].moved, 5) for m in card.members if m.output in tried}
    if all(WHOLE in blocks for blocks in left.values()):
        raise PromotionError(
            "no member keeps its probabilities in INT8",
            where=str(source),
            got=f"a change of {moved}",
            expected=f"at most {MOST_MOVED:g} in each model of a run",
            fix="deploy fp32, or the variant openvino",
        )
    for member in card.members:
        if WHOLE not in left[member.run]:
            MemberNetwork(model, member.output).put_back(tried[member.output].network)
    said = {run: [WHOLE] if WHOLE in blocks else sorted(blocks) for run, blocks in left.items()}
    details = {
        **card.details,
        "precision": "int8",
        "int8_moved": json.dumps(moved),
        "int8_left_in_fp32": json.dumps({run: blocks for run, blocks in said.items() if blocks}),
        "made_of": hash_model(source),
    }
    del model.metadata_props[:]
    card = replace(card, details=details)
    onnx.helper.set_model_props(model, card.to_metadata())
    save_model(model, card, path)


def _find_other(
    card: ModelCard, tried: Mapping[str, Mixed], left: Mapping[str, set[str]]
) -> MemberCard | None:
    """A member that was not tried yet, or with other blocks than its run leaves; None if none."""
    for member in card.members:
        blocks = left[member.run]
        settled = member.output in tried and set(tried[member.output].left) == blocks
        if WHOLE not in blocks and not settled:
            return member
    return None


def _quantise(
    model: onnx.ModelProto,
    card: ModelCard,
    member: MemberCard,
    lab: Lab,
    plans: Mapping[str, Plan],
    source: Path,
    kept: Collection[str],
) -> Mixed:
    """As `quantize_member`, calibrated on clips that the member was trained on."""
    if member.run not in plans:
        raise PromotionError(
            "it is not known what a member was trained on, so it cannot be calibrated",
            where=str(source),
            got=f"{member.name} of the run {member.run or '(none)'}",
            expected=", ".join(plans),
            fix="promote the runs again",
        )
    heard = MemberNetwork(model, member.output).heard
    windows = training_windows(lab, plans[member.run], member, card.windowing, N_CALIBRATION)
    images = list(hear_images(model, heard, windows))
    return quantize_member(model, member.output, images, most_moved=MOST_MOVED, kept=kept)


def _is_made_of(path: Path, source: Path) -> bool:
    """Is there a file at `path` that was made from `source` as it is now?"""
    if not path.is_file():
        return False
    model = onnx.load(path, load_external_data=False)
    return {p.key: p.value for p in model.metadata_props}.get("made_of") == hash_model(source)


def _fp32_blocks(card: ModelCard) -> dict[str, tuple[str, ...]]:
    """What an INT8 file leaves in fp32: the blocks of each run (spec id), WHOLE for all."""
    left = json.loads(card.details.get("int8_left_in_fp32", "{}"))
    return {run: tuple(blocks) for run, blocks in left.items()}


def _left_in_fp32(card: ModelCard) -> tuple[str, ...]:
    """The same in words: each backbone with its blocks, or alone if it is all."""
    said = set()
    for member in card.members:
        blocks = _fp32_blocks(card).get(member.run, ())
        if blocks:
            said.add(member.backbone + ("" if WHOLE in blocks else f" ({', '.join(blocks)})"))
    return tuple(sorted(said))


def _time(path: Path, variant: Variant, windows: Floats) -> float:
    """Milliseconds of processor per window: the least of three batches, after one to warm up."""
    predictor, batch = open_predictor(path, threads=1, variant=variant), windows[:4]
    predictor(batch)
    seconds = []
    for _ in range(3):
        began = time.process_time()  # one thread, so that other work on the machine does not count
        predictor(batch)
        seconds.append(time.process_time() - began)
    return 1000 * min(seconds) / (len(batch) * predictor.card.windows_per_pass)
