"""Why two runs differ: the verdict, then the species and recordings that make the difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from birdlab.evaluate.evidence import Cell, FoldTable
from birdlab.spec.estimators import EstimatorSpec
from birdlab.study.compare import HEADLINE, Comparison, compare_runs
from birdlab.study.contrasts import EXACT
from birdlab.study.delta_split import DeltaSplit, split_delta
from birdlab.study.run_tables import RunTables
from birdlab.study.split_evidence import weigh_evidence
from birdlab.study.suspect_evidence import Networks
from birdlab.study.suspects import Suspects, find_suspects
from birdlab.words import count_words, list_some

N_RECORDINGS = 20


@dataclass(frozen=True, eq=False)
class Why:
    """What makes the difference of an arm to its base, as it is shown.

    seeds: those of each run that are compared.
    shown: whether there is evidence enough for a difference; answer: in some sentences, the lack of
    it first; sentences: what else is to be known. species: of DeltaSplit, without those that add
    nothing, with pooled, low, high and q: the difference in the average precision of the species
    alone, its folds taken as one table, as `compare_species` tests it (NaN where not known; another
    number than ap_b - ap_a, which is a mean over folds). recordings: those of DeltaSplit that move
    most, with `moved` (the other species that each moves most, codes separated by commas) and
    `suspect` (in words, "" for none). judges: the runs that say which are suspects.
    """

    split: DeltaSplit
    seeds: Mapping[str, list[int]]
    shown: bool
    answer: str
    sentences: tuple[str, ...]
    species: pd.DataFrame
    recordings: pd.DataFrame
    judges: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """The run that the other is compared with."""
        return self.split.base

    @property
    def arm(self) -> str:
        """The other."""
        return self.split.arm

    def tables(self) -> dict[str, pd.DataFrame]:
        """Everything as tables to save: all species, the recordings, and species by recording."""
        return {
            "species": self.species,
            "recordings": self.recordings,
            "species_recordings": self.split.parts,
        }


def explain(
    runs: tuple[RunTables, RunTables],
    recordists: Mapping[str, str],
    *,
    metric: EstimatorSpec = HEADLINE,
    split_folds: int | None = None,
    judges: Mapping[str, Mapping[Cell, FoldTable]] | None = None,
    networks: Networks | None = None,
    n_recordings: int = N_RECORDINGS,
    n_draws: int = 500,
) -> Why:
    """Why two runs differ, the base first, from their stored outputs alone.

    recordists, split_folds, n_draws: as in `compare_runs`; judges: further runs that say which
    recordings are label suspects; networks: as in `find_suspects`, of all of them. Raises DataError
    for runs that share nothing, or a metric that does not split.
    """
    base, arm = runs
    comparison = compare_runs(
        runs, recordists, metric=metric, split_folds=split_folds, n_draws=n_draws
    )
    split = split_delta(comparison.shared, arm.name, metric=metric.name)
    judging = {base.name: base.tables, arm.name: arm.tables, **(judges or {})}
    suspects = find_suspects(judging, networks)
    found = build_why(comparison, split, n_recordings=n_recordings, suspects=suspects)
    if comparison.shared.paired:
        return found
    return replace(found, seeds={run.name: run.seeds for run in runs})


def build_why(
    comparison: Comparison,
    split: DeltaSplit,
    *,
    n_recordings: int = N_RECORDINGS,
    suspects: Suspects | None = None,
) -> Why:
    """The answer from the verdict of a comparison and the split of its difference.

    `comparison` holds the arm of the split, by the metric of the split.
    """
    evidence = weigh_evidence(split, comparison)
    shared = comparison.shared
    first, *others = split.sentences
    said = evidence.sentences if evidence.enough else ()
    answer = first if evidence.enough else " ".join([*evidence.sentences, first])
    sentences = [*said, *_verdict_sentences(comparison, split.arm), *others]
    sentences += [*_suspect_words(suspects), *shared.notes, *shared.left_out]
    return Why(
        split,
        {name: shared.seeds(name) for name in (split.base, split.arm)},
        evidence.enough,
        answer,
        tuple(sentences),
        _with_intervals(split, comparison.species.get(split.arm)),
        _most_moving(split, n_recordings, suspects),
        () if suspects is None else tuple(dict.fromkeys(run for run, _ in suspects.models)),
    )


def _verdict_sentences(comparison: Comparison, arm: str) -> list[str]:
    """What `birdlab compare` says of the arm."""
    crossed = [c.sentence(comparison.shared.base) for c in comparison.crossed if c.arm == arm]
    ranked = () if comparison.ranking is None else comparison.ranking.sentences
    return [*crossed, *(s for s in ranked if s.startswith(f"{arm}: "))]


def _with_intervals(split: DeltaSplit, alone: pd.DataFrame | None) -> pd.DataFrame:
    """The species that add something, with what is known of each alone."""
    table = split.species[split.species["share"].abs() > EXACT]
    columns = ["pooled", "low", "high", "q"]
    if alone is None or alone.empty or split.metric != HEADLINE.name:
        return table.assign(**dict.fromkeys(columns, np.nan)).reset_index(drop=True)
    tested = alone.rename(columns={"delta": "pooled"})
    return table.merge(tested[["code", *columns]], on="code", how="left")


def _most_moving(split: DeltaSplit, n: int, suspects: Suspects | None) -> pd.DataFrame:
    table = split.recordings.head(n).reset_index(drop=True)
    others: dict[str, list[str]] = {}
    own = dict(zip(table["recording"], table["primary"], strict=True))
    for name, code in zip(split.moves["recording"], split.moves["code"], strict=True):
        if name in own and own[name] != code:
            others.setdefault(name, []).append(code)
    doubts = {} if suspects is None else _doubts(suspects)
    return table.assign(
        moved=[", ".join(others.get(name, ())) for name in table["recording"]],
        suspect=[doubts.get(name, "") for name in table["recording"]],
    )


def _doubts(suspects: Suspects) -> dict[str, str]:
    """What models say against the labels of each suspect recording."""
    return {
        str(row["filename"]): f"all {row['n_models']} models get it wrong; "
        f"{row['heard_instead']} is heard instead"
        for row in suspects.table.to_dict("records")
    }


def _suspect_words(suspects: Suspects | None) -> list[str]:
    if suspects is None:
        return []
    if not suspects.enough:
        return list(suspects.sentences[:1])
    return [
        f"Label suspects are recordings that all of {count_words(len(suspects.models), 'model')} "
        f"get wrong: {list_some(suspects.table['filename'], most=3)}."
        if len(suspects.table)
        else f"None of the recordings is wrong to all of {len(suspects.models)} models."
    ]
