"""Identity from content: the canonical form of a document and the short hash that names it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from birdlab.spec.base import canonical
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.kinds import kinds_in

CELL_ID_CHARS = 16
SPEC_ID_CHARS = 12


def canonical_json(value: Any) -> str:
    """`value` as JSON with one spelling per meaning: keys sorted, lists in order, no spaces."""
    return json.dumps(
        canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def digest(value: Any, chars: int = CELL_ID_CHARS) -> str:
    """The first `chars` hex digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:chars]


def component_versions(*parts: object) -> dict[str, Any]:
    """The semantics number of every kind used in `parts`, with the source hash of extensions."""
    out: dict[str, Any] = {}
    for part in parts:
        for kind in kinds_in(part):
            version: dict[str, Any] = {"semantics": kind.semantics}
            if kind.source_hash is not None:
                version["source"] = kind.source_hash
            out[f"{kind.family}/{kind.name}"] = version
    return out


def spec_id(spec: ExperimentSpec, data_digest: str) -> str:
    """The name of a recipe: everything that can move its score, without folds asked and seeds.

    `data_digest` stands for the content of the tables (rows, labels, waveforms, folds), so
    that a data set that changes under the same name becomes another recipe, and for the content of
    teachers from outside, whose names do not count.
    """
    recipe = canonical(spec)
    for stage in recipe["stages"]:
        for taught in (stage.get("pseudo"), stage.get("distill")):
            teacher = {} if taught is None else taught["teacher"]
            teacher.update({kind: "" for kind in ("run", "model") if teacher.get(kind)})
    return digest(
        {
            "recipe": recipe,
            "data": data_digest,
            "kinds": component_versions(spec.stages, spec.model, spec.data, spec.postprocess),
        },
        SPEC_ID_CHARS,
    )
