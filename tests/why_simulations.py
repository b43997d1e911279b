"""Differences whose cause is known: how well their split names it, and what it shows by chance.

`python tests/why_simulations.py` prints the tables of docs/why.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.random import Generator
from scipy.special import expit

from birdlab.evaluate.evidence import FoldTable
from birdlab.evaluate.metrics import clamp_probs
from birdlab.study.compare import compare_runs
from birdlab.study.delta_split import DeltaSplit, split_delta
from birdlab.study.run_tables import RunTables
from birdlab.study.sharing import share_tables
from birdlab.study.split_evidence import weigh_evidence

N_ROWS, N_CLASSES, N_FOLDS = 600, 40, 3
CODES = tuple(f"species{i:02d}" for i in range(N_CLASSES))
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Study:
    """Two runs, and what the second does better: its species and its recordings by name."""

    runs: tuple[RunTables, RunTables]
    species: frozenset[str]
    recordings: frozenset[str]


def draw_study(
    rng: Generator,
    *,
    noise: float,
    n_seeds: int = 2,
    n_species: int = 0,
    n_recordings: int = 0,
    gain: float = 2.0,
) -> Study:
    """Two runs that know the same, save where it is planted that the second knows more by `gain`.

    Logits are what a recording is like for everybody (SD 1.5), 4 for a label, and noise (SD
    `noise`, new for each run, fold, seed, recording and class). `n_species` species of 5 recordings
    or more gain in all of theirs. In `n_recordings` recordings the first run misses the species by
    `gain`, which the second does not. Some species are 30 times as frequent as others.
    """
    often = np.exp(rng.normal(0, 1, N_CLASSES))
    primary = rng.choice(N_CLASSES, N_ROWS, p=often / often.sum())
    truth = np.zeros((N_ROWS, N_CLASSES), bool)
    truth[np.arange(N_ROWS), primary] = True
    known = 4 * truth + rng.normal(0, 1.5, truth.shape) - 5
    frequent = np.flatnonzero(np.bincount(primary, minlength=N_CLASSES) >= 5)
    better = rng.choice(frequent, n_species, replace=False)
    rows = rng.choice(N_ROWS, n_recordings, replace=False)
    more = np.zeros(truth.shape)
    more[:, better] = gain * truth[:, better]
    known[rows, primary[rows]] -= gain
    more[rows, primary[rows]] = gain
    a, b = (
        _draw_run(rng, name, known + extra, truth, primary, noise, n_seeds)
        for name, extra in (("a", np.zeros(truth.shape)), ("b", more))
    )
    return Study((a, b), frozenset(CODES[c] for c in better), frozenset(f"r{r}" for r in rows))


def _draw_run(
    rng: Generator,
    name: str,
    logits: Floats,
    truth: npt.NDArray[np.bool_],
    primary: npt.NDArray[np.int64],
    noise: float,
    n_seeds: int,
) -> RunTables:
    tables = {}
    for fold in range(N_FOLDS):
        held = np.arange(fold, N_ROWS, N_FOLDS)
        names = tuple(f"r{row}" for row in held)
        for seed in range(n_seeds):
            probs = clamp_probs(expit(logits[held] + rng.normal(0, noise, truth[held].shape)))
            tables[fold, seed] = FoldTable(names, CODES, primary[held], truth[held], probs)
    return RunTables(name, tables)


def split_study(study: Study) -> DeltaSplit:
    """The split of the difference of its two runs."""
    return split_delta(share_tables(study.runs), "b")


def found_share(ranked: Sequence[str], planted: frozenset[str]) -> float:
    """Which part of the planted is among as many of the first."""
    return len(planted & set(ranked[: len(planted)])) / len(planted)


def simulate_species(
    n_draws: int, *, noise: float, n_species: int = 4, n_seeds: int = 2, seed: int = 0
) -> dict[str, float]:
    """Mean delta, the part of the planted species among the first, and the part of delta theirs."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_draws):
        study = draw_study(rng, noise=noise, n_species=n_species, n_seeds=n_seeds)
        split = split_study(study)
        own = split.species["code"].isin(study.species)
        rows.append(
            {
                "delta": split.delta,
                "found": found_share(list(split.species["code"]), study.species),
                "theirs": split.species["share"][own].sum() / split.delta,
            }
        )
    return dict(pd.DataFrame(rows).agg({"delta": "mean", "found": "mean", "theirs": "median"}))


def simulate_recordings(
    n_draws: int, *, noise: float, n_recordings: int = 20, n_seeds: int = 2, seed: int = 0
) -> dict[str, float]:
    """Mean delta, the part of the planted recordings among the first by influence and by share,
    the part of delta that is theirs by share, and the part that is the remainder (medians)."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_draws):
        study = draw_study(rng, noise=noise, n_recordings=n_recordings, gain=4, n_seeds=n_seeds)
        split = split_study(study)
        by_share = split.recordings.sort_values("share", key=np.abs, ascending=False)
        own = split.recordings["recording"].isin(study.recordings)
        rows.append(
            {
                "delta": split.delta,
                "influence": found_share(list(split.recordings["recording"]), study.recordings),
                "share": found_share(list(by_share["recording"]), study.recordings),
                "theirs": split.recordings["share"][own].sum() / split.delta,
                "remainder": split.remainder / split.delta,
            }
        )
    table = pd.DataFrame(rows)
    return {**table.mean(), **table[["theirs", "remainder"]].median()}


def simulate_nothing(
    n_draws: int, *, noise: float, n_seeds: int = 2, seed: int = 0
) -> dict[str, float]:
    """What equal runs show: gains, the largest share and influence, each beside what `Chance` says.

    sd: of the difference, what is said its quadratic mean. above: how often the largest share is
    above that of `Chance`, its median, so about .5 where it is right.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_draws):
        study = draw_study(rng, noise=noise, n_seeds=n_seeds)
        split = split_study(study)
        chance = split.chance
        assert chance is not None
        shares = split.species["share"]
        rows.append(
            {
                "sd": split.delta,
                "sd_said": chance.delta,
                "gains": shares.clip(lower=0).sum(),
                "gains_said": chance.gains,
                "largest": shares.abs().max(),
                "largest_said": chance.largest,
                "recording": split.recordings["influence"].abs().max(),
                "recording_said": chance.largest_recording,
                "above": float(shares.abs().max() > chance.largest),
            }
        )
    table = pd.DataFrame(rows)
    said = float(np.sqrt((table["sd_said"] ** 2).mean()))
    return {**table.mean(), "sd": float(table["sd"].std(ddof=1)), "sd_said": said}


def simulate_evidence(n_draws: int, *, noise: float, seed: int = 0) -> dict[str, float]:
    """How often the evidence is called enough where nothing is better, and where 4 species are."""
    rng = np.random.default_rng(seed)
    enough: dict[str, list[bool]] = {"nothing": [], "species": []}
    for what, found in enough.items():
        for _ in range(n_draws):
            study = draw_study(rng, noise=noise, n_species=4 if what == "species" else 0)
            comparison = compare_runs(study.runs, {}, n_draws=100)
            split = split_delta(comparison.shared, "b")
            found.append(weigh_evidence(split, comparison).enough)
    return {what: float(np.mean(found)) for what, found in enough.items()}


def _print(title: str, lines: Sequence[dict[str, float]]) -> None:
    print(f"\n{title}")
    print(pd.DataFrame(lines).to_string(index=False, float_format=lambda value: f"{value:.4g}"))


def main() -> None:
    """Print the tables."""
    levels = (0.5, 1.0, 2.0, 4.0)
    _print(
        f"4 of {N_CLASSES} species are better: how many are among the first 4",
        [
            {"noise": n, "seeds": s, **simulate_species(200, noise=n, n_seeds=s)}
            for n in levels
            for s in (1, 3)
        ],
    )
    _print(
        f"20 of {N_ROWS} recordings are better: how many are among the first 20",
        [
            {"noise": n, "seeds": s, **simulate_recordings(200, noise=n, n_seeds=s)}
            for n in levels
            for s in (1, 3)
        ],
    )
    _print(
        "nothing is better: what the split shows, and what it says of chance",
        [
            {"noise": n, "seeds": s, **simulate_nothing(200, noise=n, n_seeds=s)}
            for n in levels
            for s in (2, 3)
        ],
    )
    _print(
        "how often the evidence is called enough: nothing, or 4 species better (60 studies each)",
        [{"noise": n, **simulate_evidence(60, noise=n)} for n in levels],
    )


if __name__ == "__main__":
    main()
