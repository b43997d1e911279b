"""Label suspects in words."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from birdlab.words import count_words, list_some

NO_PROOF = (
    "A hard recording and a wrong label look alike to models: listen before you exclude one. "
    "Nothing is excluded by itself."
)

Models = Sequence[tuple[str, int]]


def suspect_sentences(
    table: pd.DataFrame,
    ranked: pd.DataFrame,
    unjudged: pd.DataFrame,
    *,
    models: Models,
    poor: Models,
    again: Models,
    wrong_share: float,
    lacking: str,
) -> tuple[str, ...]:
    """How many recordings all models get wrong, who judged, and what could not be judged."""
    beside = [*_silent_sentences(poor, "near chance on these classes")]
    beside += _silent_sentences(again, "the same networks judge already, in another run")
    beside += _unjudged_sentences(unjudged)
    if lacking:
        return (f"Not enough evidence for label suspects: {lacking}.", *beside)
    first = (
        f"All {len(models)} models get {count_words(len(table), 'recording')} of {len(ranked):,} "
        f"wrong; one model by itself gets {100 * wrong_share:.0f} % of them wrong."
    )
    said = [NO_PROOF] if len(table) else []
    return (first, *said, *_model_sentences(models), *beside)


def _model_sentences(models: Models) -> list[str]:
    """What the models have in common, so that their agreement weighs less."""
    found = []
    if len({seed for _, seed in models}) == 1:
        found.append(f"All models have the seed {models[0][1]}: another one would say more.")
    if len({run for run, _ in models}) == 1:
        found.append("All models are of one run: what its recipe cannot hear no seed of it hears.")
    return found


def _silent_sentences(models: Models, why: str) -> list[str]:
    """Which models do not judge."""
    names = [f"{run} seed {seed}" for run, seed in models]
    verb = "does" if len(models) == 1 else "do"
    return [f"{list_some(names)} {verb} not judge: {why}."] if models else []


def _unjudged_sentences(unjudged: pd.DataFrame) -> list[str]:
    """One sentence for each reason."""
    return [
        f"Not judged, {why}: {list_some(f'{row.code} ({row.support})' for row in of.itertuples())}."
        for why, of in unjudged.groupby("why", sort=True)
    ]
