"""The forms in which a promoted model may be run: other files, other engines, other precisions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from birdlab.errors import PredictError
from birdlab.infer.jsontext import parse_json

Engine = Literal["onnxruntime", "openvino"]
Precision = Literal["fp32", "int8", "bf16"]
State = Literal["passed", "failed", "not judged"]

VARIANTS_FILE = "variants.json"
FORMAT = 1
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Variant:
    """A form of a promoted model: a file beside `model.onnx`, what runs it, in which precision.

    state: whether its gate on the score found it near enough to fp32; fp32 is what it is
    measured against and counts as passed. evidence: the sentence that says so, or "".
    """

    name: str
    file: str
    engine: Engine
    precision: Precision
    state: State = "not judged"
    evidence: str = ""


FP32 = Variant("fp32", "model.onnx", "onnxruntime", "fp32", "passed")
KNOWN = {
    variant.name: variant
    for variant in (
        FP32,
        Variant("int8", "model.int8.onnx", "onnxruntime", "int8"),
        Variant("openvino", "model.onnx", "openvino", "fp32"),
        Variant("openvino-int8", "model.int8.onnx", "openvino", "int8"),
        Variant("openvino-bf16", "model.onnx", "openvino", "bf16"),
    )
}
"""Every form that birdlab can make of a model."""


def load_variants(model_folder: Path) -> dict[str, Variant]:
    """The variants of a promoted model by name, fp32 first; fp32 alone where none was built.

    Raises PredictError for a list that cannot be read or that names files elsewhere.
    """
    path = model_folder / VARIANTS_FILE
    if not path.is_file():
        return {FP32.name: FP32}
    try:
        said = parse_json(path.read_text(encoding="utf-8"))
        if said["format"] != FORMAT:
            raise ValueError(f"format {said['format']!r}, this birdlab reads {FORMAT}")
        listed = [_checked(entry) for entry in said["variants"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PredictError(
            "the variants of a model cannot be read",
            where=str(path),
            got=repr(error),
            fix="promote its runs again, or delete the file and use fp32",
        ) from None
    return {FP32.name: FP32} | {variant.name: variant for variant in listed}


def variants_text(variants: Mapping[str, Variant]) -> str:
    """What `load_variants` reads, as JSON."""
    listed = [asdict(variant) for variant in variants.values()]
    return json.dumps({"format": FORMAT, "variants": listed}, indent=1)


def choose_variant(model_folder: Path, name: str, *, force: bool = False) -> Variant:
    """The variant `name` of a model; PredictError where there is none or its gate refused it.

    With `force` a variant that failed or was never judged is given all the same.
    """
    variants = load_variants(model_folder)
    if name not in variants:
        raise PredictError(
            f"the model has no variant {name!r}",
            where=str(model_folder),
            expected=f"one of {', '.join(variants)}",
            fix=f"birdlab promote RUN --variant {name}" if name in KNOWN else None,
        )
    variant = variants[name]
    if variant.state != "passed" and not force:
        raise PredictError(
            f"the variant {name!r} {_WHY[variant.state]}",
            where=str(model_folder),
            got=variant.evidence or None,
            fix="use another variant, or --force to take this one all the same",
        )
    return variant


_WHY = {
    "failed": "did not pass its gate: its scores differ from fp32 by too much",
    "not judged": "was not judged: nobody knows what it does to the score",
}


def _checked(entry: Mapping[str, Any]) -> Variant:
    """The variant of an entry of the list; ValueError for one that is none."""
    variant = Variant(**entry)
    if not all(isinstance(text, str) for text in asdict(variant).values()):
        raise ValueError(f"{variant.name}: all fields are texts")
    if not _PLAIN.fullmatch(variant.file) or not _PLAIN.fullmatch(variant.name):
        raise ValueError(f"{variant.name}: {variant.file!r} is not the name of a file")
    for value, allowed in (
        (variant.engine, get_args(Engine)),
        (variant.precision, get_args(Precision)),
        (variant.state, get_args(State)),
    ):
        if value not in allowed:
            raise ValueError(f"{variant.name}: {value!r} is none of {', '.join(allowed)}")
    return variant
