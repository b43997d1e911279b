"""What the other sweeps of a lab say of how far effects scatter: what a small table lacks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pandas as pd

from birdlab.lab import Lab
from birdlab.study.effects import METRIC, is_decided, load_effects
from birdlab.study.shrinkage import MIN_EFFECTS, EffectPrior, fit_effects
from birdlab.study.stored_sweep import StoredSweep
from birdlab.study.sweep_records import load_sweep


def load_prior(
    lab: Lab, rows_hash: str, *, besides: str = "", runs: Collection[str] = ()
) -> EffectPrior | None:
    """`prior_of` the effects of the lab."""
    effects = load_effects(lab, controlled=True, besides=besides)
    return prior_of(effects, rows_hash, besides=besides, runs=runs)


def prior_of(
    effects: pd.DataFrame, rows_hash: str, *, besides: str = "", runs: Collection[str] = ()
) -> EffectPrior | None:
    """How the effects of a lab are distributed; None for fewer than MIN_EFFECTS.

    effects: as `load_effects` gives them. Those on the rows of this hash where they suffice, else
    on all rows, which the source says. Left out are the sweep `besides`, pairs of `runs`, of one
    pair its older verdict, verdicts under 3 folds, and sweeps without a control: their base was
    picked, so the others look too low. Effects of one sweep share their base.
    """
    judged = effects[is_decided(effects) & ~effects["chosen"].astype(bool)]
    judged = judged[(judged["metric"] == METRIC) & (judged["se"] > 0)]
    judged = judged[judged["sweep"] != besides]
    judged = judged[~(judged["run"].isin(runs) & judged["base_run"].isin(runs))]
    judged = judged.drop_duplicates(["run", "base_run"], keep="last")
    alike = judged[judged["rows_hash"] == rows_hash]
    enough = len(alike) >= MIN_EFFECTS
    used = alike if enough else judged
    where = "on these recordings" if enough else "on any recordings"
    return fit_effects(
        used["effect"].to_numpy(float),
        used["se"].to_numpy(float),
        used["df"].to_numpy(float),
        groups=used["base_run"].tolist(),
        source=f"{len(used)} effects of other sweeps of this lab {where}",
    )


def load_judged_sweep(lab: Lab, name: str) -> StoredSweep:
    """The sweep of this name, its arms weighed beside the effects of the lab's other sweeps.

    Raises what `load_sweep` does.
    """
    sweep = load_sweep(lab, name)
    if not sweep.scored:
        return sweep
    rows = str(sweep.base["evaluation"]["rows_hash"])
    return replace(sweep, prior=load_prior(lab, rows, besides=name))
