"""Recordings that every model gets wrong although it did not train on them: perhaps wrong labels.

A model is a run with a seed; what it says of a recording is said by the fold that held it out.
A sigmoid is no calibrated probability and every class has a scale of its own, so a class is read
against itself: 0 is where recordings without the label stand on average, 1 where those with it do,
the recording in question left out of both. A model gets a recording wrong when the class that then
stands highest is none of its labels.
Source: Northcutt, Jiang and Chuang (2021), Confident learning, Journal of Artificial Intelligence
Research 70: predictions out of sample, each class against the mean of those labelled with it.
Theirs are probabilities that sum to one; here they are logits of several labels, so the mean
without the label counts too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from birdlab.study.suspect_stands import (
    Bools,
    Floats,
    Heard,
    Runs,
    Truth,
    hear_classes,
    iter_models,
    stand_classes,
)
from birdlab.study.suspect_words import suspect_sentences

MIN_MODELS = 3
"""Two models too often get wrong together what is only hard."""
MIN_SUPPORT = 5
"""A class with fewer labelled recordings does not say where its own stand."""
MIN_AUC = 0.75
"""A class that models know no better can contradict no label, nor a model such classes."""
MOST_WRONG = 0.5
"""Where models get more than this share wrong, that they agree on it says little."""
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
    COLUMNS: n_wrong of n_models get it wrong; suspicion: how far the class that stands highest
    stands above the labels, the mean over models, 1 being as far as from recordings without a label
    to those with it; heard_instead: the class that most models hear, n_instead of them; p_given and
    p_instead: the mean probabilities of the primary label and of that class. It is empty unless
    `enough`. ranked: the same of every recording that can be judged, most wrong first. unjudged:
    the classes that cannot be, with code, support, auc, why. models: the judges, (run, seed); poor:
    those that know too little. wrong_share: of the judged recordings, the mean over judges.
    """

    table: pd.DataFrame
    ranked: pd.DataFrame
    unjudged: pd.DataFrame
    models: tuple[tuple[str, int], ...]
    poor: tuple[tuple[str, int], ...]
    wrong_share: float
    enough: bool
    sentences: tuple[str, ...]


def find_suspects(tables: Runs) -> Suspects:
    """The label suspects among the recordings that runs held out, by run and (fold, seed).

    Recordings, labels and folds are those of the first run. A run that lacks a recording, or has it
    under another primary label, does not judge it. Too few models, or models that know too little,
    give no list, and the reason in words; so do no tables at all.
    """
    truth = Truth.of(next(iter(tables.values()), {}))
    support = truth.labels.sum(axis=0)
    auc = {(n, s): truth.score(truth.read(run, s)) for n, s, run in iter_models(tables)}
    known = {model: _mean(scores[support >= MIN_SUPPORT]) for model, scores in auc.items()}
    models = tuple(model for model, mean in known.items() if mean >= MIN_AUC)
    unjudged, judged = _judge_classes(truth, [auc[model] for model in models])
    ranked, wrong = _rank(truth, tables, models, judged)
    lacking = _lacking(len(models), ranked, wrong)
    every = (ranked["n_wrong"] == ranked["n_models"]) & (ranked["n_models"] >= MIN_MODELS)
    table = ranked[every & (not lacking)].reset_index(drop=True)
    poor = tuple(model for model in known if model not in models)
    sentences = suspect_sentences(
        table, ranked, unjudged, models=models, poor=poor, wrong_share=wrong, lacking=lacking
    )
    return Suspects(table, ranked, unjudged, models, poor, wrong, not lacking, sentences)


def _mean(values: Floats) -> float:
    """The mean of what is known of some classes; NaN of none."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else np.nan


def _judge_classes(truth: Truth, auc: list[Floats]) -> tuple[pd.DataFrame, Bools]:
    """The classes that cannot be judged and why, and which can be: [classes]."""
    support = truth.labels.sum(axis=0)
    columns = np.reshape(auc, (len(auc), len(truth.codes))).T
    mean = np.array([_mean(of) for of in columns], float)
    why = np.where(mean >= MIN_AUC, "", "the models do not know it")
    why = np.where(support < MIN_SUPPORT, "too few recordings", why)
    table = pd.DataFrame({"code": truth.codes, "support": support, "auc": mean, "why": why})
    return table[why != ""].reset_index(drop=True), np.asarray(why == "")


def _rank(
    truth: Truth, tables: Runs, models: tuple[tuple[str, int], ...], judged: Bools
) -> tuple[pd.DataFrame, float]:
    """Every recording that models judge, most wrong first; the share that one gets wrong."""
    votes, stood, total, n_heard = (np.zeros(truth.labels.shape) for _ in range(4))
    heard: list[Heard] = []
    rows = np.arange(len(truth.names))
    for name, seed in models:
        probs = truth.read(tables[name], seed)
        stands = stand_classes(truth.labels, probs)
        mine = hear_classes(truth, stands, judged)
        says = mine.top >= 0
        votes[rows[says], mine.top[says]] += 1
        stood += np.where(says[:, None], np.nan_to_num(stands), 0)
        total += np.where(says[:, None], np.nan_to_num(probs), 0)
        n_heard += says[:, None] & ~np.isnan(probs)
        heard.append(mine)
    n_models = np.sum([m.top >= 0 for m in heard], axis=0, dtype=int) + 0 * rows
    n_wrong = np.sum([m.margin > 0 for m in heard], axis=0, dtype=int) + 0 * rows
    suspicion = np.sum([np.nan_to_num(m.margin) for m in heard], axis=0) / np.maximum(n_models, 1)
    # Of classes with as many votes, the one that stands higher over all models.
    most = votes == votes.max(axis=1, initial=0, keepdims=True)
    instead = np.where(most, stood, -np.inf).argmax(axis=1) if len(rows) else rows
    p = total / np.maximum(n_heard, 1)
    table = pd.DataFrame(
        {
            "filename": truth.names,
            "fold": truth.folds,
            "primary_label": [truth.codes[c] for c in truth.primary],
            "n_models": n_models,
            "n_wrong": n_wrong,
            "suspicion": suspicion,
            "heard_instead": [truth.codes[c] for c in instead],
            "n_instead": votes[rows, instead].astype(int),
            "p_given": p[rows, truth.primary],
            "p_instead": p[rows, instead],
        },
        columns=list(COLUMNS),
    )
    table = table[table["n_models"] > 0]
    share = table["n_wrong"] / table["n_models"]
    order = np.lexsort((-table["suspicion"], -share))
    wrong = [(m.margin > 0).sum() / (m.top >= 0).sum() for m in heard if (m.top >= 0).any()]
    return table.iloc[order].reset_index(drop=True), float(np.mean(wrong)) if wrong else np.nan


def _lacking(n_models: int, ranked: pd.DataFrame, wrong: float) -> str:
    """Why the models are no evidence; "" when they are."""
    if n_models < MIN_MODELS:
        return f"{n_models} of at least {MIN_MODELS} models know the classes"
    if ranked.empty:
        return "no class has recordings enough and is known to the models"
    if wrong > MOST_WRONG:
        return f"a model gets {100 * wrong:.0f} % of the recordings wrong, more than half"
    return ""
