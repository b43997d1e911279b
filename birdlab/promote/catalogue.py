"""The promoted models of a lab, as a person wants to see them: from their cards and files alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd

from birdlab.errors import PredictError
from birdlab.infer.models import PromotedModel, list_models, load_aliases
from birdlab.infer.variants import load_variants
from birdlab.lab import Lab
from birdlab.promote.parity import PARITY_FILE
from birdlab.recorded import load_json, load_records

_AGAIN = "promote the run again"
MOST_COLUMNS = 4
"""Members that have a column each in the table of differences."""


@dataclass(frozen=True)
class ModelLine:
    """What there is to say of a promoted model; None where its card does not say it.

    aliases: those it is in service under; runs: their names, or ids where the record is gone;
    weights: of all data (`full`), of folds, averaged; score: out-of-fold, of `metric`; minutes:
    for the competition, against `limit_minutes`; variants: name and state of each besides fp32;
    size_mb: None where the file is gone; version: `name/version` in MLflow or "".
    """

    name: str
    aliases: tuple[str, ...]
    promoted_at: str
    runs: tuple[str, ...]
    weights: str | None
    n_members: int | None
    score: float | None
    metric: str | None
    minutes: float | None
    limit_minutes: float | None
    variants: tuple[str, ...]
    size_mb: float | None
    version: str
    forced: bool
    reason: str


def list_lines(lab: Lab) -> list[ModelLine]:
    """A line for every promoted model, the newest last; PredictError for one that is torn."""
    aliases = load_aliases(lab.models)
    names = _run_names(lab)
    lines = [_line(model, aliases, names) for model in list_models(lab.models)]
    return sorted(lines, key=lambda line: (line.promoted_at, line.name))


def describe_model(lab: Lab, model: PromotedModel) -> ModelLine:
    """The line of one model."""
    return _line(model, load_aliases(lab.models), _run_names(lab))


def lost_aliases(lab: Lab) -> dict[str, str]:
    """Alias → name of the aliases whose model is gone."""
    there = {model.name for model in list_models(lab.models) if model.path.is_file()}
    return {a: name for a, name in load_aliases(lab.models).items() if name not in there}


def table_members(model: PromotedModel) -> pd.DataFrame:
    """The members of a model as its card lists them, in order; empty for a card of old."""
    members = model.card.get("members")
    if isinstance(members, str):
        with suppress(ValueError):
            members = json.loads(members)
    if not isinstance(members, list) or not all(isinstance(m, Mapping) for m in members):
        return pd.DataFrame()
    table = pd.DataFrame(list(members))
    return table[[column for column in table if not table[column].isna().all()]]


def table_parity(model: PromotedModel) -> pd.DataFrame:
    """How far file and trained models were found apart: a row an input or a way of asking.

    Columns: case, blend, and one for each member, or for the worst of more than 4; NaN where it was
    not tried. Of a model of before there was `parity.json` what its card says; empty for neither.
    Raises PredictError for a report of another form.
    """
    path = model.folder / PARITY_FILE
    said: Mapping[str, Any] = {"blend": model.card.get("parity") or {}}
    try:
        if path.is_file():
            said = load_json(path, _AGAIN)
            said = {
                **said,
                "blend": {**said["blend"], "alone and in a batch": said["batch_invariance"]},
            }
        table = _by_case({"blend": said["blend"]})
        members = _by_case(said.get("members", {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PredictError(
            "the report on parity is not as birdlab writes it",
            where=str(path),
            got=repr(error),
            fix=_AGAIN,
        ) from None
    if len(members.columns) > MOST_COLUMNS:
        members = pd.DataFrame({f"worst of {len(members.columns)} members": members.max(axis=1)})
    both = pd.concat([table, members], axis=1).reindex(list(said["blend"]))
    return both.rename_axis("case").reset_index()


def _by_case(columns: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(cases, dtype=float) for name, cases in columns.items()})


def _run_names(lab: Lab) -> dict[str, str]:
    return {r["spec_id"]: str(r["name"] or r["spec_id"]) for r in load_records(lab)}


def _line(
    model: PromotedModel, aliases: Mapping[str, str], run_names: Mapping[str, str]
) -> ModelLine:
    card = model.card
    score = card.get("score")
    of = score if isinstance(score, Mapping) else {"value": score}
    return ModelLine(
        name=model.name,
        aliases=tuple(sorted(a for a, name in aliases.items() if name == model.name)),
        promoted_at=str(card.get("promoted_at", "")),
        runs=tuple(run_names.get(run, run) for run in model.runs),
        weights=_text(card.get("weights")),
        n_members=_number(card.get("n_members")),
        score=_number(of.get("value")),
        metric=_text(of.get("metric")),
        minutes=_number(card.get("predicted_minutes")),
        limit_minutes=_number(card.get("limit_minutes")),
        variants=_variants(model),
        size_mb=model.path.stat().st_size / 1e6 if model.path.is_file() else None,
        version=model.version,
        forced=bool(card.get("forced")),
        reason=str(card.get("reason") or ""),
    )


def _number(said: Any) -> Any:
    return said if isinstance(said, int | float) else None


def _text(said: Any) -> str | None:
    return said if isinstance(said, str) else None


def _variants(model: PromotedModel) -> tuple[str, ...]:
    try:
        listed = load_variants(model.folder).values()
    except PredictError:
        return ("the list of variants cannot be read",)
    return tuple(f"{v.name} {v.state}" for v in listed if v.name != "fp32")
