"""Chosen scores in a study: those of weights that were picked by the rows that score them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from birdlab.evaluate.score import SOUNDSCAPES

MARK = " (chosen)"
"""Ends the name of a run or an arm whose score is a chosen one."""


def chosen_of(runs: pd.DataFrame, score: str) -> list[str]:
    """How the rows that give this score picked the weights of each run, "" where they did not.

    Recordings of a fold may pick weights; soundscapes never do, so no score on them is a chosen
    one.
    """
    if "chosen" not in runs or score.removeprefix("cv/").startswith(SOUNDSCAPES):
        return [""] * len(runs)
    return [text if isinstance(text, str) else "" for text in runs["chosen"]]


def mark_chosen(names: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """The names, those with a chosen score marked."""
    return [name + MARK if how else name for name, how in zip(names, chosen, strict=True)]


def chosen_words(names: Sequence[str], chosen: Sequence[str]) -> list[str]:
    """What to say of a table in which some scores are chosen; nothing when none is.

    A sentence for each way of choosing, and one where chosen and other scores stand side by side.
    """
    ways = dict.fromkeys(how for how in chosen if how)
    sentences = [
        f"{', '.join(name for name, how in zip(names, chosen, strict=True) if how == way)}: "
        f"the recordings of each fold also picked the weights ({way}), which raises the score."
        for way in ways
    ]
    if ways and not all(chosen):
        sentences.append(
            "Chosen scores stand beside others here: part of a difference may be the choice."
        )
    return sentences
