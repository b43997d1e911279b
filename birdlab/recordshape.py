"""What every record of a run and every card of a cell holds, and of which type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Kinds = Mapping[str, type | tuple[type, ...]]

_RECORD: Kinds = {
    **dict.fromkeys(("spec_id", "name", "project", "created_at", "updated_at"), str),
    **dict.fromkeys(("delta", "sweeps", "scores", "evaluation"), dict),
    "cells": list,
}
_EVALUATION: Kinds = {
    **dict.fromkeys(("metric", "rows_hash", "classes_hash"), str),
    **dict.fromkeys(("folds", "seeds"), list),
    **dict.fromkeys(("n_rows", "n_classes"), int),
}
_NEWER: Kinds = {
    **dict.fromkeys(("model_id", "chosen", "stopped_at"), str),
    **dict.fromkeys(("estimators", "data"), list),
    "environment": dict,
}
"""What records of old do not have."""
_DATA: Kinds = {**dict.fromkeys(("name", "role", "digest"), str), "n_rows": int}
_CELL: Kinds = {"cell_id": str, "fold": (int, type(None)), "seed": int}
_FOREIGN_CARD: Kinds = {"cell_id": str, "document": dict, "start": type(None)}
_CARD: Kinds = {
    **dict.fromkeys(("stage", "device"), str),
    **dict.fromkeys(("document", "model"), dict),
    **dict.fromkeys(("seconds", "steps"), (int, float)),
    "seed": int,
    "classes": list,
}


def find_record_fault(record: Mapping[str, Any]) -> str:
    """What a record lacks of what all records hold, or holds as another type; "" for nothing."""
    fault = _find_fault(record, _RECORD)
    if fault:
        return fault
    faults = [_find_fault(record["evaluation"], _EVALUATION, "evaluation.")]
    faults += [_find_fault(c, _CELL, f"cells.{i}.") for i, c in enumerate(record["cells"])]
    faults += [_find_fault(s, {"title": str}, f"sweeps.{n}.") for n, s in record["sweeps"].items()]
    number = (int, float, type(None))
    newer = {name: kind for name, kind in _NEWER.items() if name in record}
    faults.append(_find_fault(record, newer))
    if not faults[-1]:
        inputs, estimators = record.get("data", ()), record.get("estimators", ())
        faults += [_find_fault(d, _DATA, f"data.{i}.") for i, d in enumerate(inputs)]
        texts = {"environment": record.get("environment", {})}
        texts["estimators"] = {str(i): name for i, name in enumerate(estimators)}
        faults += [_find_fault(t, dict.fromkeys(t, str), f"{n}.") for n, t in texts.items()]
    faults.append(_find_fault(record["scores"], dict.fromkeys(record["scores"], number), "scores."))
    return next(filter(None, faults), "")


def find_card_fault(card: Mapping[str, Any]) -> str:
    """What the card of a cell lacks, or holds as another type; "" for nothing."""
    return _find_fault(card, _FOREIGN_CARD if card.keys() <= _FOREIGN_CARD.keys() else _CARD)


def _find_fault(value: Any, kinds: Kinds, where: str = "") -> str:
    if not isinstance(value, Mapping):
        return f"{where.rstrip('.')}: {type(value).__name__}"
    for key, kind in kinds.items():
        if key not in value:
            return f"{where}{key}: not there"
        if not isinstance(value[key], kind):
            return f"{where}{key}: {type(value[key]).__name__}"
    return ""
