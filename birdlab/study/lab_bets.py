"""All bets of a lab, judged by its sweeps as they stand now."""

from __future__ import annotations

from dataclasses import replace

from birdlab.errors import ResolveError, TrackingError
from birdlab.lab import Lab
from birdlab.study.bet_evidence import Effects
from birdlab.study.bet_file import get_evidence, list_bets, load_placed
from birdlab.study.bets import BetEvidence, BetScores, PlacedBet, score_bets
from birdlab.study.sweep_records import StoredSweep, load_sweep


def load_bets(lab: Lab) -> BetScores:
    """The bets of every sweep that was started in a lab, by name; those that run are open.

    A sweep whose record cannot be read is named in a sentence. Raises LabError for bets that
    cannot be read.
    """
    names = {path.stem for path in (lab.stores / "sweeps").glob("*.json")}
    names |= {path.stem for path in (lab.stores / "bets").glob("*.jsonl")}
    bets: dict[str, list[PlacedBet]] = {}
    evidence: dict[str, BetEvidence] = {}
    unread = []
    for name in sorted(names):
        try:
            sweep = load_sweep(lab, name)
        except ResolveError:
            bets[name] = load_placed(lab, name)
        except TrackingError as error:
            unread.append(f"Left out: {name}: {error.what}.")
        else:
            bets[name], evidence[name] = list_bets(lab, sweep), get_evidence(sweep)
    found = score_bets(bets, evidence, load_lab_effects(lab))
    return replace(found, sentences=(*found.sentences, *unread))


def sweep_bets(lab: Lab, sweep: StoredSweep) -> BetScores:
    """The bets of one recorded sweep with their outcomes."""
    return score_bets({sweep.name: list_bets(lab, sweep)}, {sweep.name: get_evidence(sweep)})


def load_lab_effects(lab: Lab) -> Effects | None:
    """How the effects of a lab are distributed; None where it has too few."""
    return None
