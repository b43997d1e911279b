"""Is what would be promoted better out of fold than the model that is in service?"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from birdlab.errors import BirdlabError, PromotionError
from birdlab.evaluate.blends import Blend, blend_members
from birdlab.infer.models import CARD_FILE, load_aliases, load_promoted
from birdlab.lab import Lab
from birdlab.promote.chains import Chain
from birdlab.recorded import load_record
from birdlab.runtables import load_fold_tables
from birdlab.study.compare import compare_runs
from birdlab.study.ensemble_gates import Gate, State
from birdlab.study.run_tables import RunTables
from birdlab.study.sharing import share_tables
from birdlab.study.species import FoldTables, mean_seeds
from birdlab.study.splits import count_split_folds

Record = Mapping[str, Any]
NAME = "no worse than the champion"
CANDIDATE = "the candidate"
WANTED = "not worse, paired by fold"


def champion_gate(
    lab: Lab,
    records: Sequence[Record],
    blend: Blend,
    shares: Sequence[float] | None,
    alias: str,
    chain: Chain | None = None,
) -> Gate:
    """The verdict on the runs against the model that `alias` names, paired fold by fold.

    Each with its own post-processing, `chain` that of the runs.

    Only `worse` refuses. No such model, and one whose runs are gone or share no rows, folds or
    classes with these, is a notice; so are the very same runs that are blended in the same way.
    """
    card = _card_of(lab, alias)
    if card is None:
        return Gate(NAME, "notice", f"there is no @{alias} yet", WANTED)
    before = [str(run) for run in card["spec_ids"]]
    now = [str(record["spec_id"]) for record in records]
    chain, theirs_chain = chain or Chain(), _chain_of(card)
    served, served_shares = _blend_of(card)
    same_windows = (theirs_chain.steps, theirs_chain.hop_s) == (chain.steps, chain.hop_s)
    same_blend = (served, _parts(before, served_shares)) == (blend, _parts(now, shares))
    if same_blend and same_windows:
        told = f"@{alias} is made of the same runs, blended in the same way"
        return Gate(NAME, "notice", told, WANTED)
    try:
        theirs = [load_record(lab, run) for run in before]
        in_service = blend_runs(_tables(lab, theirs, theirs_chain), served, served_shares)
        candidate = blend_runs(_tables(lab, records, chain), blend, shares)
        gate = judge_candidate(candidate, in_service, f"@{alias}", count_split_folds(theirs[0]))
    except BirdlabError as error:
        gate = Gate(NAME, "notice", f"cannot be compared: {error.what}", WANTED)
    runs = dict.fromkeys([*before, *now])
    return replace(gate, command=shlex.join(["birdlab", "compare", *runs]))


def judge_candidate(
    candidate: FoldTables, in_service: FoldTables, called: str, split_folds: int | None = None
) -> Gate:
    """The verdict on out-of-fold predictions against those of the model that is `called` so.

    Raises DataError for two that share nothing.
    """
    runs = [RunTables(called, in_service), RunTables(CANDIDATE, candidate)]
    found = compare_runs(runs, {}, split_folds=split_folds, n_draws=0)
    if found.ranking is not None:
        row = found.ranking.table[found.ranking.table["arm"] != called].iloc[0]
        delta, low, high = (float(row[key]) for key in ("delta", "low", "high"))
        verdict = str(row["verdict"])
    else:
        crossed = found.crossed[0]
        delta, low, high, verdict = crossed.delta, crossed.low, crossed.high, crossed.verdict
    interval = "" if low != low else f" ({low:+.4f} to {high:+.4f})"
    states: dict[str, State] = {"better": "met", "within noise": "met", "worse": "not met"}
    told = f"{delta:+.4f}{interval}: {verdict}"
    return Gate(NAME, states.get(verdict, "notice"), told, WANTED)


def blend_runs(
    runs: Sequence[FoldTables], blend: Blend, shares: Sequence[float] | None
) -> FoldTables:
    """The out-of-fold predictions of several runs as those of one, by (fold, seed).

    Those of one run come as they are; of several each is the mean over its seeds, on the rows and
    classes that all of them have. Raises PromotionError for runs that were split otherwise.
    """
    if len(runs) == 1:
        return runs[0]
    named = [RunTables(str(i), mean_seeds(own)) for i, own in enumerate(runs)]
    shared = share_tables(named)
    if len(shared.tables) < len(runs):
        raise PromotionError(
            "the runs were split otherwise, so they have no common out-of-fold predictions",
            got="; ".join((*shared.left_out, *shared.crossed)),
            fix="compare runs that have the same data, folds and seed of folds",
        )
    weights = None if shares is None else [share / sum(shares) for share in shares]
    tables = list(shared.tables.values())
    blended = {}
    for cell, table in tables[0].items():
        probs = blend_members([own[cell].probs for own in tables], blend, weights)
        blended[cell] = replace(table, probs=np.asarray(probs, np.float32))
    return blended


def _tables(lab: Lab, records: Sequence[Record], chain: Chain) -> list[FoldTables]:
    return [load_fold_tables(lab, record, chain.steps_for(record)) for record in records]


def _card_of(lab: Lab, alias: str) -> Mapping[str, Any] | None:
    """The card of the model that an alias names; None for none, PredictError for a broken one."""
    name = load_aliases(lab.models).get(alias)
    if name is None or not (lab.models / name / CARD_FILE).is_file():
        return None
    return load_promoted(lab.models, name).card


def _chain_of(card: Mapping[str, Any]) -> Chain:
    """What becomes of the windows of a promoted model; nothing for older cards."""
    return Chain(tuple(card.get("postprocess") or ()), card.get("hop_s"))


def _parts(runs: Sequence[str], shares: Sequence[float] | None) -> dict[str, float]:
    """What part of a blend each run is; they sum to 1."""
    given = [1.0] * len(runs) if shares is None else shares
    return {run: round(s / sum(given), 9) for run, s in zip(runs, given, strict=True)}


def _blend_of(card: Mapping[str, Any]) -> tuple[Blend, Sequence[float] | None]:
    """The blend and the shares of runs that a card names; the mean of equals for older cards."""
    said = card.get("blending") or {}
    blend = Blend(said.get("kind", "mean"), said.get("power", 2.0))
    return blend, said.get("shares")
