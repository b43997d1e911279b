"""Recordings that every model gets wrong although it did not train on them: perhaps wrong labels.

A model is a run with a seed; what it says of a recording is said by the fold that held it out. It
gets the recording wrong when another class has more evidence than every label (`suspect_evidence`).
Source: Northcutt, Jiang and Chuang (2021), Confident learning, Journal of Artificial Intelligence
Research 70: predictions out of sample, each class read against those that are labelled with it.
Theirs are probabilities that sum to one; here several labels may hold, and each has its own scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.evaluate.evidence import Cell, FoldTable
from birdlab.study.suspect_evidence import (
    Bools,
    Floats,
    Networks,
    Runs,
    Truth,
    hear_classes,
    iter_models,
    repeated_models,
    weigh_labels,
)
from birdlab.study.suspect_words import suspect_sentences

MIN_MODELS = 3
"""Two models too often get wrong together what is only hard."""
MIN_SUPPORT = 5
"""A class that fewer recordings bear as primary label does not say where its own stand."""
MIN_AUC = 0.6
"""A class that models know no better is not known to them; a model that knows classes no better,
on average, is near chance."""
MOST_WRONG = 0.7
"""Models that get more than this share wrong agree on little but what is hard: of simulated lists
twice as many were wrong labels as of all recordings then (`tests/suspect_simulations.py`)."""
COLUMNS = (
    "filename",
    "fold",
    "primary_label",
    "n_models",
    "n_wrong",
    "suspicion",
    "heard_instead",
    "n_instead",
    "p_given",
    "p_instead",
)


@dataclass(frozen=True, eq=False)
class Suspects:
    """What models say against the labels of recordings that they did not train on.

    table: the recordings that all models get wrong, the most suspicious first, with the columns
    COLUMNS: n_wrong of n_models get it wrong; suspicion: how much more evidence another class has
    than the best of the labels, in nats, the mean over models; heard_instead: the class that most
    models hear, n_instead of them; p_given and p_instead: the mean probabilities of the primary
    label and of that class. It is empty unless `enough`. ranked: the same of every recording that
    can be judged, most wrong first. unjudged: the classes that cannot be, with code, support, auc,
    why. models: the judges, (run, seed); poor: those that know too little. wrong_share: the share
    of what judges said that was wrong.
    """

    table: pd.DataFrame
    ranked: pd.DataFrame
    unjudged: pd.DataFrame
    models: tuple[tuple[str, int], ...]
    poor: tuple[tuple[str, int], ...]
    wrong_share: float
    enough: bool
    sentences: tuple[str, ...]


def find_suspects(tables: Runs, networks: Networks | None = None) -> Suspects:
    """The label suspects among the recordings that runs held out, by run and (fold, seed).

    Recordings, labels and folds are those of the run with most recordings, the first of equals. A
    run that lacks a recording, or has it under another primary label, does not judge it. `networks`
    says which network each table is of: runs of the same ones judge once. Too few models, or models
    that know too little, give no list, and the reason in words; so do no tables at all.
    """
    truth = Truth.of(max(tables.values(), key=_count_recordings, default={}))
    support = truth.is_primary.sum(axis=0)
    again = repeated_models(tables, networks or {})
    judging = [model for model in iter_models(tables) if model[:2] not in again]
    auc = {(n, s): truth.score(truth.read(run, s)) for n, s, run in judging}
    known = {model: _mean(scores[support >= MIN_SUPPORT]) for model, scores in auc.items()}
    models = tuple(model for model, mean in known.items() if mean >= MIN_AUC)
    unjudged, judged = _judge_classes(truth, [auc[model] for model in models])
    panel = _Panel.of(truth, tables, models, judged)
    ranked = _rank(truth, panel)
    wrong = _mean((panel.margin > 0)[panel.top >= 0].astype(float))
    lacking = _lacking(len(models), ranked, wrong)
    every = (ranked["n_wrong"] == ranked["n_models"]) & (ranked["n_models"] >= MIN_MODELS)
    table = ranked[every & (not lacking)].reset_index(drop=True)
    poor = tuple(model for model in known if model not in models)
    sentences = suspect_sentences(
        table,
        ranked,
        unjudged,
        models=models,
        poor=poor,
        again=sorted(again),
        wrong_share=wrong,
        lacking=lacking,
    )
    return Suspects(table, ranked, unjudged, models, poor, wrong, not lacking, sentences)


def _count_recordings(run: Mapping[Cell, FoldTable]) -> int:
    """How many recordings a run held out."""
    return sum({fold: len(table.recordings) for (fold, _), table in run.items()}.values())


def _mean(values: Floats) -> float:
    """The mean of what is known of some classes; NaN of none."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else np.nan


def _judge_classes(truth: Truth, auc: list[Floats]) -> tuple[pd.DataFrame, Bools]:
    """The classes that cannot be judged and why, and which can be: [classes]."""
    support = truth.is_primary.sum(axis=0)
    columns = np.reshape(auc, (len(auc), len(truth.codes))).T
    mean = np.array([_mean(of) for of in columns], float)
    why = np.where(mean >= MIN_AUC, "", "the models do not know it")
    why = np.where(support < MIN_SUPPORT, "too few recordings", why)
    table = pd.DataFrame({"code": truth.codes, "support": support, "auc": mean, "why": why})
    return table[why != ""].reset_index(drop=True), np.asarray(why == "")


@dataclass(frozen=True, eq=False)
class _Panel:
    """What all judges hear: top and margin [models, rows] as in `Heard`; the sums of evidence and
    of probabilities over those that say something, [rows, classes], and how many have the class.
    """

    top: npt.NDArray[np.int64]
    margin: Floats
    evidence: Floats
    probs: Floats
    n_probs: Floats

    @classmethod
    def of(
        cls, truth: Truth, tables: Runs, models: Sequence[tuple[str, int]], judged: Bools
    ) -> _Panel:
        """One model after the other, so that few tables are held at a time."""
        shape = (len(models), len(truth.names))
        top, margin = np.full(shape, -1), np.full(shape, np.nan)
        evidence, total, n_probs = (np.zeros(truth.labels.shape) for _ in range(3))
        for i, (name, seed) in enumerate(models):
            probs = truth.read(tables[name], seed)
            weights = weigh_labels(truth, probs)
            heard = hear_classes(truth, weights, judged)
            top[i], margin[i] = heard.top, heard.margin
            says = (heard.top >= 0)[:, None]
            evidence += np.where(says, np.nan_to_num(weights), 0)
            total += np.where(says, np.nan_to_num(probs), 0)
            n_probs += says & ~np.isnan(probs)
        return cls(top, margin, evidence, total, n_probs)

    def vote(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The class that most judges hear in each row, and how many; of equals the more evident."""
        rows, classes = self.evidence.shape
        votes = np.zeros((rows, classes), np.int64)
        for top in self.top:
            said = np.flatnonzero(top >= 0)
            votes[said, top[said]] += 1
        most = votes == votes.max(axis=1, initial=0, keepdims=True)
        instead = np.where(most, self.evidence, -np.inf).argmax(axis=1) if classes else np.arange(0)
        return instead, votes[np.arange(rows), instead]


def _rank(truth: Truth, panel: _Panel) -> pd.DataFrame:
    """Every recording that a model judges, as `Suspects.ranked`."""
    rows, n_models = np.arange(len(truth.names)), (panel.top >= 0).sum(axis=0)
    instead, n_instead = panel.vote()
    probs = panel.probs / np.maximum(panel.n_probs, 1)
    table = pd.DataFrame(
        {
            "filename": list(truth.names),
            "fold": truth.folds,
            "primary_label": [truth.codes[c] for c in truth.primary],
            "n_models": n_models,
            "n_wrong": (panel.margin > 0).sum(axis=0),
            "suspicion": np.nansum(panel.margin, axis=0) / np.maximum(n_models, 1),
            "heard_instead": [truth.codes[c] for c in instead],
            "n_instead": n_instead,
            "p_given": probs[rows, truth.primary],
            "p_instead": probs[rows, instead],
        },
        columns=list(COLUMNS),
    )
    table = table[table["n_models"] > 0]
    order = np.lexsort((-table["suspicion"], -table["n_wrong"] / table["n_models"]))
    return table.iloc[order].reset_index(drop=True)


def _lacking(n_models: int, ranked: pd.DataFrame, wrong: float) -> str:
    """Why the models are no evidence; "" when they are."""
    if n_models < MIN_MODELS:
        return f"{n_models} of at least {MIN_MODELS} models know the classes"
    if ranked.empty:
        return "no class has recordings enough and is known to the models"
    if wrong > MOST_WRONG:
        return (
            f"one model by itself gets {100 * wrong:.0f} % of the recordings wrong, "
            f"more than {100 * MOST_WRONG:.0f} %"
        )
    return ""
