"""Windows to listen to, to judge what a teacher says of unlabelled soundscapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from birdlab.study.pseudo_labels import LabelSets

CONFIDENT = "most confident"
NEAR = "nearest to the threshold"
DISPUTED = "teachers disagree most"


@dataclass(frozen=True)
class Example:
    """A window of a file that is shown for a species, and why.

    prob: the mean of the teachers; spread: its standard deviation over them; others: other species
    at the threshold or above in the window, the highest first.
    """

    why: str
    file: str
    key: str
    start_s: float
    end_s: float
    prob: float
    spread: float
    others: tuple[tuple[str, float], ...]


def choose_examples(labels: LabelSets, code: str, n: int) -> list[Example]:
    """`n` windows of each kind for a species: confident, near the threshold, disputed.

    Confident ones reach the threshold and come from different files first; no window is shown
    twice. Disputed ones need several teachers. Fewer where there are fewer.
    """
    column = labels.codes.index(code)
    mean, spread = labels.mean[:, column], labels.spread[:, column]
    reach = mean >= labels.spec.threshold
    best = [w for w in np.argsort(-mean, kind="stable") if reach[w] and mean[w] > 0]
    taken: list[int] = []
    found: list[Example] = []
    kinds = (
        (CONFIDENT, _spread_files(best, labels)),
        (NEAR, np.argsort(np.abs(mean - labels.spec.threshold), kind="stable").tolist()),
        (DISPUTED, [w for w in np.argsort(-spread, kind="stable").tolist() if spread[w] > 0]),
    )
    for why, order in kinds:
        chosen = [int(w) for w in order if w not in taken][:n]
        taken += chosen
        found += [_example(labels, w, column, why) for w in chosen]
    return found


def _spread_files(order: Sequence[int], labels: LabelSets) -> list[int]:
    """The windows with the first of each file before the second of any."""
    seen: dict[int, int] = {}
    ranked = []
    for place, window in enumerate(order):
        file = int(labels.file[window])
        seen[file] = seen.get(file, -1) + 1
        ranked.append((seen[file], place, window))
    return [window for _, _, window in sorted(ranked)]


def _example(labels: LabelSets, window: int, column: int, why: str) -> Example:
    probs = labels.mean[window]
    others = [
        (labels.codes[c], float(probs[c]))
        for c in np.argsort(-probs, kind="stable")
        if c != column and probs[c] >= labels.spec.threshold and probs[c] > 0
    ]
    file = int(labels.file[window])
    return Example(
        why,
        labels.names[file],
        labels.keys[file],
        float(labels.start_s[window]),
        float(labels.end_s[window]),
        float(probs[column]),
        float(labels.spread[window, column]),
        tuple(others),
    )
