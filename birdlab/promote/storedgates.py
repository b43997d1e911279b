"""The gates of a promotion that look only at what the lab holds: nothing is trained or exported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from birdlab.cellfiles import outputs_folder
from birdlab.evaluate.outputs import load_outputs
from birdlab.evaluate.windows import blend
from birdlab.lab import Lab
from birdlab.plan import Plan
from birdlab.study.ensemble_gates import Gate, State

FLAT = 1e-4
"""A column that varies less than this over all windows says the same everywhere."""
MOST_FLAT = 0.2
"""The share of such columns up to which a model still says something."""
LEAST_SPREAD = 1e-3
"""Between the 1st and the 99th percentile of all probabilities."""


@dataclass(frozen=True)
class Range:
    """The deployed probabilities of a run's stored outputs.

    low, high: the extremes; p1, p99: percentiles; n_flat: columns that vary less than FLAT in some
    cell, the most of any; n_bad: values that are NaN or outside [0, 1).
    """

    low: float
    high: float
    p1: float
    p99: float
    n_flat: int
    n_classes: int
    n_bad: int

    @property
    def passed(self) -> bool:
        """Whether they are probabilities that say something."""
        spread = self.p99 - self.p1 >= LEAST_SPREAD
        return not self.n_bad and self.n_flat <= MOST_FLAT * self.n_classes and spread


def measure_range(lab: Lab, plan: Plan) -> Range:
    """The range of the stored outputs of a run's fold models, blended as deployed.

    Raises OutputsError where they cannot be read.
    """
    output, found = plan.spec.output, []
    for cell in plan.final_cells:
        stored = load_outputs(outputs_folder(lab, cell)).windows
        probs = blend(stored.clip_probs, stored.time_max, output.clip, output.time_max)
        good = np.isfinite(probs) & (probs >= 0) & (probs < 1)
        seen = probs[good] if good.any() else np.full(1, np.nan)
        flat = int((np.ptp(probs, axis=0) < FLAT).sum()) if len(probs) else 0
        ends = (*np.percentile(seen, (1, 99)), seen.min(), seen.max())
        found.append((*ends, flat, int((~good).sum()), probs.shape[1]))
    p1, p99, low, high, flat_of, bad, n = (list(column) for column in zip(*found, strict=True))
    return Range(
        float(min(low)),
        float(max(high)),
        float(min(p1)),
        float(max(p99)),
        max(flat_of),
        int(n[0]),
        sum(bad),
    )


def range_gate(lab: Lab, plans: Mapping[str, Plan]) -> Gate:
    """Whether the stored outputs of the runs, by name, are probabilities that say something.

    A species is flat where its probability varies less than FLAT over all windows; the spread is
    from the 1st to the 99th percentile of all probabilities.
    """
    wanted = f"in [0, 1), spread {LEAST_SPREAD:g}, at most {MOST_FLAT:.0%} of species flat"
    told, failed = [], []
    for name, plan in plans.items():
        found = measure_range(lab, plan)
        failed += [] if found.passed else [name]
        bad = f", {found.n_bad:,} values are none" if found.n_bad else ""
        flat = f", {found.n_flat} of {found.n_classes} species flat" if found.n_flat else ""
        told.append(f"{name}: {found.low:.2g} to {found.high:.3f}{flat}{bad}")
    state: State = "not met" if failed else "met"
    fix = f"train longer: {', '.join(failed)}" if failed else ""
    return Gate("score range", state, "; ".join(told), wanted, fix)


def licence_kinds(licences: Sequence[str]) -> Counter[str]:
    """How many licences restrict what: non-commercial, no derivatives, share-alike, unknown.

    One licence may be of several kinds; a text that names a Creative Commons licence by letters or
    by words, or its address, is understood; "" is unknown.
    """
    found: Counter[str] = Counter()
    for licence, n in Counter(licences).items():
        words = licence.casefold().replace("_", "-")
        parts = set("".join(c if c.isalnum() else " " for c in words).split())
        kinds = {
            "non-commercial": "nc" in parts or "noncommercial" in words or "non-comm" in words,
            "no derivatives": "nd" in parts or "noderiv" in words or "no deriv" in words
            or "no-deriv" in words,
            "share-alike": "sa" in parts or "sharealike" in words or "share-alike" in words
            or "share alike" in words,
            "unknown": not parts,
        }  # fmt: skip
        for kind, holds in kinds.items():
            found[kind] += n if holds else 0
    return +found


def training_licences(plans: Sequence[Plan]) -> list[str]:
    """The licence of each recording that some model of the runs was trained on, pretraining too."""
    tables = {id(cell.rows): cell.rows.table for plan in plans for cell in plan.cells}
    rows = [t.loc[t["copies"] > 0, ["recording", "license"]] for t in tables.values()]
    pooled = pd.concat(rows).drop_duplicates("recording")
    return [str(text) for text in pooled["license"].fillna("")]


def licence_gate(plans: Sequence[Plan]) -> Gate:
    """The licences of the training recordings that restrict what may be done with the model."""
    licences = training_licences(plans)
    kinds = licence_kinds(licences)
    wanted = "a notice: read them before the model is shared or sold"
    name = "licences of the training data"
    if not kinds:
        return Gate(name, "met", f"none of {len(licences):,} recordings restricts it", wanted)
    told = ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common())
    return Gate(
        name,
        "notice",
        f"of {len(licences):,} recordings {told}",
        wanted,
        "leave them out: data.clean: [{license: {deny: [-nc, -nd]}}]",
    )
