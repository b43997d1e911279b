"""What a RUN on the command line names."""

from __future__ import annotations

from typing import Any

from birdlab.errors import ResolveError
from birdlab.infer.models import CARD_FILE, load_aliases, load_promoted
from birdlab.lab import Lab
from birdlab.tracking.drivernotes import load_driver
from birdlab.tracking.index import load_link, load_records, load_sweeps


def resolve_run(lab: Lab, text: str) -> dict[str, Any]:
    """The record of the run that `text` names.

    An MLflow run id (parent or child), the start of a spec id, a run name or the title of a
    sweep's arm, `<sweep>:best`, `<sweep>:<arm>`, `@alias` of a promoted model, or `-1` for the
    newest (-2 the one before). Raises ResolveError that lists the candidates when it names
    none or several, PredictError where the aliases or the card of a model cannot be read.
    """
    records = load_records(lab)
    if not records:
        raise ResolveError("the lab has no runs yet", fix="birdlab run experiments/baseline.yaml")
    found = _candidates(lab, records, text)
    unique = {record["spec_id"]: record for record in found}
    if len(unique) == 1:
        return next(iter(unique.values()))
    shown = list(unique.values()) or records[-8:]
    lines = "".join(f"\n    {r['spec_id']}  {r['name'] or '-'}" for r in shown[-20:])
    raise ResolveError(
        f"{text!r} names {len(unique)} runs" if unique else f"{text!r} names no run",
        expected=("one of" if unique else "for example one of the newest") + lines,
        fix="give more of the spec id; `birdlab runs` lists all",
    )


def resolve_sweep_or_run(lab: Lab, text: str) -> dict[str, Any] | None:
    """The record of the run that `text` names; None where it is the name of a sweep that ended.

    Raises ResolveError that lists sweeps and runs when it names neither, or several runs.
    """
    sweeps = sorted(path.stem for path in (lab.stores / "sweeps").glob("*.json"))
    if text in sweeps:
        return None
    try:
        return resolve_run(lab, text)
    except ResolveError as error:
        if not error.what.endswith("names no run"):
            raise
        known = f"a sweep ({', '.join(sweeps[:20]) or 'none ended'})"
        note = load_driver(lab.stores / "drivers", text)
        runs = note is not None and note.state == "running"
        raise ResolveError(
            f"{error.what} and no sweep that ended",
            expected=f"{known}, or a run, {error.expected}",
            fix=f"{text} runs: wait for its end, see `birdlab status`" if runs else error.fix,
        ) from None


def _candidates(lab: Lab, records: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    if text.startswith("-") and text[1:].isdigit():
        newest = sorted(records, key=lambda r: r["updated_at"])
        return newest[-int(text[1:]) :][:1] if 0 < int(text[1:]) <= len(newest) else []
    if text.startswith("@"):
        return _by_alias(lab, records, text[1:])
    named = [
        r
        for r in records
        if r["name"] == text or any(s["title"] == text for s in r["sweeps"].values())
    ]
    if named:
        return named
    if ":" in text:
        return _by_arm(lab, records, *text.split(":", 1))
    if len(text) == 32:
        linked = [r for r in records if text in _mlflow_ids(lab, r["spec_id"])]
        if linked:
            return linked
    return [r for r in records if len(text) >= 4 and r["spec_id"].startswith(text.lower())]


def _mlflow_ids(lab: Lab, spec_id: str) -> list[str]:
    link = load_link(lab, spec_id)
    return [link.get("parent", ""), *link.get("children", {}).values()]


def _by_arm(lab: Lab, records: list[dict[str, Any]], sweep: str, arm: str) -> list[dict[str, Any]]:
    known = load_sweeps(lab).get(sweep)
    if known is None:
        return []
    if arm != "best":
        # a sweep that was imported is not in the records of runs that were here before
        ids = {a["spec_id"] for a in known.get("arms", ()) if a["title"] == arm}
        titles = {r["spec_id"]: r["sweeps"].get(sweep, {}).get("title") for r in records}
        return [r for r in records if titles[r["spec_id"]] == arm or r["spec_id"] in ids]
    still = {a["spec_id"] for a in known.get("arms", ())}  # others were taken out of its file
    scored = [
        r
        for r in records
        if r["spec_id"] in still and r["scores"].get("cv/padded_cmap") is not None
    ]
    return sorted(scored, key=lambda r: r["scores"]["cv/padded_cmap"])[-1:]


def _by_alias(lab: Lab, records: list[dict[str, Any]], alias: str) -> list[dict[str, Any]]:
    model = load_aliases(lab.models).get(alias)
    if model is None or not (lab.models / model / CARD_FILE).is_file():
        return []
    runs = load_promoted(lab.models, model).runs
    return [r for r in records if r["spec_id"] in runs]
