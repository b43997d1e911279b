"""Records of runs and cards of cells, read back from the lab's files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from birdlab.cellfiles import CARD
from birdlab.errors import ResolveError, TrackingError
from birdlab.lab import Lab
from birdlab.recordshape import find_card_fault, find_record_fault
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.parts import OutputSpec

LINK = ".mlflow.json"
"""Ends the name of the file beside a record that holds its MLflow run ids."""
_AGAIN = (
    "move the file away and run its experiment again: cells are kept, the record is written anew; "
    "a run from elsewhere is imported again"
)
_CARD_AGAIN = "move the folder of the cell away and run its experiment again: it is trained anew"


def record_paths(lab: Lab) -> list[Path]:
    """The files of all records, by name."""
    found = (p for p in lab.runs.glob("*.json") if not p.name.startswith("."))
    return sorted(path for path in found if not path.name.endswith(LINK))


def load_records(lab: Lab) -> list[dict[str, Any]]:
    """Every run's record, the oldest first; raises as `load_record_file`."""
    return in_order(load_record_file(path) for path in record_paths(lab))


def in_order(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records, the oldest first."""
    return sorted(records, key=lambda r: (r["created_at"], r["spec_id"]))


def load_record(lab: Lab, spec_id: str) -> dict[str, Any]:
    """The record of one run; raises as `load_record_file`."""
    return load_record_file(lab.runs / f"{spec_id}.json")


def load_record_file(path: Path) -> dict[str, Any]:
    """The record of a run in a file.

    Raises TrackingError when it is not there, cannot be read, or lacks what all records hold.
    """
    record = load_json(path)
    fault = find_record_fault(record)
    if fault:
        raise TrackingError(
            "the record of a run is not as birdlab writes it",
            where=str(path),
            got=fault,
            fix=_AGAIN,
        )
    return record


def load_card(lab: Lab, cell_id: str) -> dict[str, Any]:
    """What is known of a finished cell: document, stage, classes, seconds, device.

    Of a cell that birdlab did not train, `document` alone. Raises TrackingError for a card that
    cannot be read, or lacks what all cards hold.
    """
    path = lab.cells / cell_id / CARD
    card = load_json(path, _CARD_AGAIN)
    fault = find_card_fault(card)
    if fault:
        raise TrackingError(
            "the card of a cell is not as birdlab writes it",
            where=str(path),
            got=fault,
            fix=_CARD_AGAIN,
        )
    return card


def list_networks(record: Mapping[str, Any]) -> dict[tuple[int, int], str]:
    """Which cell said what was held out, by (fold, seed): runs may share them, as those that differ
    in post-processing do."""
    scored = [cell for cell in record["cells"] if cell.get("eval_id") is not None]
    return {(int(cell["fold"]), int(cell["seed"])): str(cell["cell_id"]) for cell in scored}


def link_path(lab: Lab, spec_id: str) -> Path:
    """Where the MLflow run ids of a run are kept."""
    return lab.runs / f"{spec_id}{LINK}"


def load_link(lab: Lab, spec_id: str) -> dict[str, Any]:
    """The MLflow run ids of a run: `parent`, `children` by `fold-seed`; empty before logging.

    Raises TrackingError when the file is there and cannot be read.
    """
    path = link_path(lab, spec_id)
    fix = "remove the file: MLflow gets the run anew, as one of its own"
    return load_json(path, fix) if path.is_file() else {}


def load_json(path: Path, fix: str = _AGAIN) -> dict[str, Any]:
    """A JSON object in a file of the lab; TrackingError, which says the `fix`, when it is none."""
    try:
        value = json.loads(path.read_bytes())
        wrong = "" if isinstance(value, dict) else f"JSON of the type {type(value).__name__}"
    except (OSError, ValueError, RecursionError) as error:
        wrong = str(error)
    if wrong:
        raise TrackingError(
            "a record of the lab cannot be read",
            where=str(path),
            got=wrong,
            fix=fix,
        )
    return dict(value)


AS_IS = OutputSpec(clip=1.0, time_max=0.0)
"""The output of a foreign run: its probabilities as they came."""


def is_foreign(record: Mapping[str, Any]) -> bool:
    """Whether a run was imported from outside birdlab, so that it has outputs and no spec."""
    return record.get("spec") is None


def is_ledger_line(record: Mapping[str, Any]) -> bool:
    """Whether a foreign run is a line of an imported ledger: it has scores, and no outputs."""
    return "fold_scores" in record


def spec_of(record: Mapping[str, Any]) -> ExperimentSpec:
    """The experiment that a record stores; ResolveError for a foreign run, which has none.

    Also for a record that something changed so that its spec does not hold.
    """
    if is_foreign(record):
        known = "" if is_ledger_line(record) else " and birdlab.load_oof"
        raise ResolveError(
            "a foreign run has no spec: birdlab did not train it",
            where=record["name"] or record["spec_id"],
            fix=f"`birdlab runs`, `birdlab show`{known} work with it",
        )
    with reading_spec(record):
        return ExperimentSpec.model_validate_json(json.dumps(record["spec"]))


@contextmanager
def reading_spec(record: Mapping[str, Any]) -> Iterator[None]:
    """While parts of the spec of a record are read: ResolveError where it is not as birdlab writes
    it, because something changed it or took a part away."""
    where = str(record["spec_id"])
    try:
        yield
    except ValidationError as error:
        fault = error.errors()[0]
        where += f", field {'.'.join(map(str, fault['loc']))}"
        got = fault["msg"]
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        got = f"{error} is not there" if isinstance(error, LookupError) else str(error)
    else:
        return
    raise ResolveError(
        "the spec in the record of a run does not hold",
        where=where,
        got=got,
        fix="take the record from a backup, or move it away and run the spec again",
    )


def name_remarks(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What of runs themselves makes their scores less comparable, in words; by their names."""
    said = []
    for name, record in records.items():
        if record.get("stopped_at"):
            said.append(f"{name}: stopped by a race, since the scores it has looked bad.")
        if record.get("chosen"):
            said.append(
                f"{name}: the recordings that are scored also picked its weights "
                f"({record['chosen']}), which raises its score."
            )
        leaks = list(((record.get("spec") or {}).get("data") or {}).get("accept_leaks") or ())
        if "teacher" in leaks:
            leaks.remove("teacher")
            said.append(
                f"{name}: its spec accepts a teacher that was trained on rows that are scored, "
                "which may raise its score."
            )
        if leaks:
            said.append(
                f"{name}: its spec accepts that pretraining shares {', '.join(leaks)} with rows "
                "that are scored, which may raise its score."
            )
    return said


def find_record(lab: Lab, text: str) -> dict[str, Any]:
    """The record of the run that a spec names: by its name or the start of its spec id.

    Raises ResolveError that lists the candidates when `text` names none or several.
    """
    records = load_records(lab)
    found = [r for r in records if r["name"] == text]
    if not found and len(text) >= 4:
        found = [r for r in records if r["spec_id"].startswith(text.lower())]
    if len(found) == 1:
        return found[0]
    lines = "".join(f"\n    {r['spec_id']}  {r['name'] or '-'}" for r in (found or records)[-20:])
    raise ResolveError(
        f"{text!r} names {len(found) or 'no'} run{'s' if found else ''}",
        expected=("one of" if found else "for example one of the newest") + lines,
        fix="give more of the spec id; `birdlab runs` lists all"
        if found
        else "run it first, or correct the name; `birdlab runs` lists all",
    )


def rows_heard(evaluation: Mapping[str, Any], sounds: str) -> str:
    """Names the windows of `soundscapes` or `synthetic` ones that a run was scored on; "" for none.

    Equal where scores compare, however the models heard them. Records that do not say it give the
    name of their outputs, which is the same for models that hear windows one by one.
    """
    return str(evaluation.get(f"{sounds}_rows") or evaluation.get(f"{sounds}_hash", ""))


def cells_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of all cells of a run: those of its folds, then those trained on all data beside."""
    return [*record["cells"], *record.get("full", ())]


def inputs_of(card: Mapping[str, Any]) -> list[str]:
    """The cells that the cell of a card or a job is made from: start, teachers, sources."""
    named = [card.get(kind) or () for kind in ("teachers", "labellers", "distillers", "sources")]
    start = [] if card.get("start") is None else [card["start"]]
    return list(dict.fromkeys([*start, *(cell_id for part in named for cell_id in part)]))


def iter_line(lab: Lab, cell_id: str) -> Iterator[str]:
    """A cell and the cells it goes back to, each once, as far as their cards are in the lab."""
    known, waiting = {cell_id}, [cell_id]
    while waiting:
        node = waiting.pop(0)
        yield node
        is_there = (lab.cells / node / CARD).is_file()
        before = inputs_of(load_card(lab, node)) if is_there else []
        waiting += [one for one in before if one not in known]
        known.update(before)
