"""All bets of a lab, judged by its sweeps as they stand now."""

from __future__ import annotations

from dataclasses import replace

from birdlab.errors import LabError, TrackingError
from birdlab.lab import Lab
from birdlab.study.bet_file import load_placed
from birdlab.study.bets import (
    BetEvidence,
    BetScores,
    PlacedBet,
    judge_bets,
    outcome_sentences,
    score_bets,
)
from birdlab.study.stored_sweep import StoredSweep
from birdlab.study.sweep_records import load_sweep
from birdlab.tracking.index import sweep_path


def load_bets(lab: Lab) -> BetScores:
    """The bets of every sweep that was started in a lab, by name; those that run are open.

    A sweep whose record or bets cannot be read is named in a sentence.
    """
    names = {path.stem for path in (lab.stores / "sweeps").glob("*.json")}
    names |= {path.stem for path in (lab.stores / "bets").glob("*.jsonl")}
    bets: dict[str, list[PlacedBet]] = {}
    sweeps: dict[str, StoredSweep] = {}
    unread = []
    for name in sorted(names):
        try:
            if sweep_path(lab, name).is_file():
                sweeps[name] = load_sweep(lab, name)
                bets[name] = list_bets(sweeps[name])
            else:
                bets[name] = load_placed(lab, name)
        except (LabError, TrackingError) as error:
            unread.append(f"Left out: {name}: {error.what}.")
    evidence = {name: get_evidence(sweep) for name, sweep in sweeps.items() if bets[name]}
    found = score_bets(bets, evidence)
    return replace(found, sentences=(*found.sentences, *unread))


def judge_sweep(sweep: StoredSweep) -> BetScores:
    """The bets of one recorded sweep with their outcomes; nothing is said of calibration."""
    name = sweep.name
    table = judge_bets(name, list_bets(sweep), get_evidence(sweep))
    return BetScores(table, outcome_sentences(table))


def list_bets(sweep: StoredSweep) -> list[PlacedBet]:
    """The placed bets of a recorded sweep; else those of its file, which nobody noted in time."""
    return list(sweep.placed) or [PlacedBet(bet) for bet in sweep.spec.expect]


def get_evidence(sweep: StoredSweep) -> BetEvidence:
    """What a recorded sweep found, as bets are judged by it."""
    arms = [*sweep.record["arms"], *sweep.record["stopped"]]
    # Older records say of a stopped arm only that it was stopped.
    points = {arm["title"]: dict(arm.get("point") or arm.get("delta", {})) for arm in arms}
    points |= {title: {} for title in sweep.failed}
    return BetEvidence(sweep.all_scores, points, sweep.spec.compared_with, tuple(sweep.stopped))
