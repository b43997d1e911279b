"""What an ensemble costs, and what is shown so far of what it should show before it is deployed."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from birdlab.costs import costs_of
from birdlab.errors import DataError
from birdlab.lab import Lab
from birdlab.recorded import is_foreign
from birdlab.study.cvlb_bands import MIN_RUNS, scores_of
from birdlab.study.cvlb_correlations import correlate_scores
from birdlab.study.cvlb_resamples import lineage_numbers
from birdlab.study.ledger import score_columns
from birdlab.study.ranking import Ranking
from birdlab.study.tables import StudyTables, pair_cv_lb
from birdlab.words import count_words

State = Literal["met", "not met", "no evidence", "notice"]
Record = Mapping[str, Any]
NOT_MEASURED = "not measured"
PARITY = 1e-4
"""What `birdlab promote` allows between the file and the trained models."""


@dataclass(frozen=True)
class Gate:
    """One thing that an ensemble should show: what was found, against what, what to do if not.

    A `notice` is worth knowing and refuses nothing.
    """

    name: str
    state: State
    number: str
    threshold: str
    command: str = ""


def table_costs(lab: Lab, records: Mapping[str, Record]) -> pd.DataFrame:
    """What each member costs on one CPU thread: name, models, ms_per_model, ms, minutes, processor.

    models: fold and seed models, all of which an ensemble runs; ms_per_model: of one window by
    one of them; ms: by all; minutes: for all soundscapes of the competition. NaN, and processor
    "not measured", where no cell of the architecture was trained where it could be timed.
    """
    rows = []
    for name, record in records.items():
        costs = costs_of(lab, record.get("model_id", ""))
        n = len(record["cells"])
        each = math.nan if costs is None else costs.cpu_ms_per_window
        rows.append(
            {
                "name": name,
                "models": n,
                "ms_per_model": each,
                "ms": n * each,
                "minutes": n * each / 60_000 * count_windows(record),
                "processor": NOT_MEASURED if costs is None else costs.processor,
            }
        )
    return pd.DataFrame(rows)


def count_windows(record: Record) -> float:
    """The windows of all soundscapes of the competition, as heard; NaN for a foreign run."""
    if is_foreign(record):
        return math.nan
    said, hop_s = record["spec"]["competition"], record["spec"]["evaluate"].get("hop_s")
    hops = 1 if hop_s is None else round(said["window_s"] / hop_s)
    each = -(-said["soundscape_s"] // said["window_s"])
    return float(said["n_soundscapes"] * ((each - 1) * hops + 1))


def check_gates(
    lab: Lab,
    records: Mapping[str, Record],
    verdict: Ranking | None,
    tables: StudyTables,
    costs: pd.DataFrame,
) -> list[Gate]:
    """What is shown so far: folds, gain, what CV says of the leaderboard, parity, time, size.

    Nothing is computed for it that takes long, and nothing is promoted: where evidence is missing
    the gate names the command that brings it.
    """
    promote = f"birdlab promote {shlex.join(str(r['spec_id']) for r in records.values())}"
    card = find_card(lab, [str(record["spec_id"]) for record in records.values()])
    return [
        folds_gate(records),
        _gain_gate(verdict),
        leaderboard_gate(tables, next(iter(records.values()))),
        _parity_gate(card, promote),
        _time_gate(card, records, costs, promote),
        _size_gate(lab, card, promote),
    ]


def table_gates(gates: Sequence[Gate]) -> pd.DataFrame:
    """The gates as a table to show."""
    return pd.DataFrame(
        [
            {
                "gate": gate.name,
                "state": gate.state,
                "found": gate.number,
                "wanted": gate.threshold,
                "what to do": "" if gate.state == "met" else gate.command,
            }
            for gate in gates
        ]
    )


def find_card(lab: Lab, runs: Sequence[str]) -> dict[str, Any] | None:
    """The card of the newest promoted model that is made of exactly these runs; None for none."""
    cards = []
    for path in lab.models.glob("*/card.json"):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue  # no promoted model: promotion writes cards whole
        if isinstance(card, dict) and set(card.get("spec_ids", ())) == set(runs):
            cards.append(card)
    return max(cards, key=lambda card: str(card.get("promoted_at", "")), default=None)


def folds_gate(records: Mapping[str, Record]) -> Gate:
    """Whether each run, by name, has outputs of every fold of its split."""
    lacking, told = [], []
    for name, record in records.items():
        has = len(record["evaluation"]["folds"])
        of = has if is_foreign(record) else int(record["spec"]["data"]["folds"]["n"])
        if has < of or record.get("stopped_at"):
            lacking.append(str(record["spec_id"]))
            told.append(
                f"{name}: {has} of {of}" + (", stopped" if record.get("stopped_at") else "")
            )
    commands = "; ".join(f"birdlab extend {run} --folds all" for run in lacking)
    return Gate(
        "all folds are finished",
        "not met" if lacking else "met",
        "; ".join(told) or f"{len(records)} of {count_words(len(records), 'run')}",
        "all folds",
        commands,
    )


def _gain_gate(verdict: Ranking | None) -> Gate:
    name, wanted = "it beats its best member", "better"
    if verdict is None:
        return Gate(name, "no evidence", "one member", wanted, "choose two runs or more")
    row = verdict.table[verdict.table["arm"] != verdict.base].iloc[0]
    found = f"{row['delta']:+.4f}: {row['verdict']}"
    state: State = "met" if row["verdict"] == "better" else "not met"
    if row["verdict"] in ("undecided", "no verdict"):
        state = "no evidence"
    return Gate(name, state, found, wanted, "more folds or seeds: birdlab extend RUN --seeds N")


def leaderboard_gate(tables: StudyTables, record: Record) -> Gate:
    """What the runs with both scores say of CV: met where it ranks the leaderboard, else a notice.

    Few runs, no correlation and even the wrong order are known of CV and not of an ensemble, so
    they refuse none.
    """
    name = "CV ranks the leaderboard"
    wanted = f"ρ above 0, {MIN_RUNS} runs or more"
    ask = f"birdlab lb add {record['spec_id']} --public SCORE"
    metric = record["evaluation"]["metric"]
    if not is_foreign(record):
        metric = record["spec"]["competition"]["metric"]
    columns = score_columns(tables.ledger[tables.ledger["metric"] == metric])
    if not columns:
        return Gate(name, "notice", "no leaderboard score", wanted, ask)
    try:
        pairs = pair_cv_lb(tables, lb=columns[0], metric=metric, cv=f"cv/{metric}")
    except DataError:
        return Gate(name, "notice", "no CV score", wanted, ask)
    if len(pairs) < MIN_RUNS:
        found = count_words(len(pairs), "run")
        return Gate(name, "notice", found, wanted, ask)
    rho = correlate_scores("spearman", *scores_of(pairs), lineage_numbers(pairs))
    if math.isnan(rho.value):
        return Gate(name, "notice", "a score never changes", wanted, ask)
    # A perfect order has no interval.
    low, high = (rho.value, rho.value) if math.isnan(rho.low) else rho.ends
    state: State = "met" if low > 0 else "notice"
    found = f"ρ {rho.value:+.2f} ({low:+.2f} to {high:+.2f})"
    return Gate(name, state, found, wanted, "see the page CV and leaderboard")


def _parity_gate(card: Mapping[str, Any] | None, promote: str) -> Gate:
    name, wanted = "its file equals its models", f"at most {PARITY:g} apart"
    if card is None:
        return Gate(name, "no evidence", "not promoted", wanted, promote)
    largest = max(card["parity"].values())
    state: State = "met" if largest <= PARITY else "not met"
    return Gate(name, state, f"{largest:.1e} apart at most", wanted, promote)


def _time_gate(
    card: Mapping[str, Any] | None,
    records: Mapping[str, Record],
    costs: pd.DataFrame,
    promote: str,
) -> Gate:
    name = "the CPU budget holds"
    limits = [
        float(record["spec"]["competition"]["cpu_minutes"])
        for record in records.values()
        if not is_foreign(record)
    ]
    wanted = f"at most {min(limits):g} min" if limits else "no limit is known"
    if card is not None:
        minutes = float(card.get("needed_minutes", card["predicted_minutes"]))
        how = "as one file, with its margin" if "needed_minutes" in card else "as one file"
    else:
        minutes, how = float(costs["minutes"].sum(skipna=False)), "model by model on one thread"
    if math.isnan(minutes) or not limits:
        return Gate(name, "no evidence", NOT_MEASURED, wanted, promote)
    state: State = "met" if minutes <= min(limits) else "not met"
    return Gate(name, state, f"{minutes:.2f} min, {how}", wanted, "drop a member")


def _size_gate(lab: Lab, card: Mapping[str, Any] | None, promote: str) -> Gate:
    name, wanted = "its file can be uploaded", "no limit is known"
    if card is None:
        return Gate(name, "no evidence", "not promoted", wanted, promote)
    path = lab.models / str(card["model"]) / "model.onnx"
    if not path.is_file():
        return Gate(name, "no evidence", "the file is gone", wanted, promote)
    return Gate(name, "notice", f"{path.stat().st_size / 1e6:.1f} MB", wanted)
