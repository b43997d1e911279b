"""A sweep that ran: its arms with their results, and what they say together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from birdlab.errors import BirdlabError
from birdlab.runresult import RunResult
from birdlab.spec.sweep import Arm, Sweep
from birdlab.study.arms import grid_interactions
from birdlab.study.interactions import Interaction
from birdlab.study.ranking import Ranking


@dataclass(frozen=True, eq=False)
class SweepResult:
    """A sweep that ran: every arm with its result, and the ranking of those that have a score.

    `ranking` is None with fewer than two scored arms; `race` says the rule that stopped arms and
    what it saved, where the sweep has one.
    """

    sweep: Sweep
    arms: tuple[tuple[Arm, RunResult | BirdlabError], ...]
    ranking: Ranking | None
    race: tuple[str, ...] = ()

    @cached_property
    def scored(self) -> list[tuple[Arm, RunResult]]:
        """The arms that have a score, the best first."""
        pairs = [(arm, r) for arm, r in self.arms if isinstance(r, RunResult) and r.scores]
        return sorted(pairs, key=lambda pair: -pair[1].cv)

    @property
    def stopped(self) -> list[tuple[Arm, RunResult]]:
        """The arms that the race stopped: they have cells and no score."""
        return [(arm, r) for arm, r in self.arms if isinstance(r, RunResult) and r.stopped_at]

    @property
    def race_sentences(self) -> tuple[str, ...]:
        """The race in words: its rule, what it saved, which arms it stopped and why."""
        return (*self.race, *(f"{arm.title}: stopped {r.stopped_at}." for arm, r in self.stopped))

    @property
    def failed(self) -> list[tuple[Arm, BirdlabError]]:
        """The arms that have none."""
        return [(arm, r) for arm, r in self.arms if isinstance(r, BirdlabError)]

    @cached_property
    def scores(self) -> pd.DataFrame:
        """arm, fold, seed, score of every scored cell."""
        columns = ("fold", "seed", "padded_cmap")
        rows = [
            (arm.title, int(fold), seed, score)
            for arm, result in self.scored
            for fold, seed, score in zip(*(result.cells[c].tolist() for c in columns), strict=True)
        ]
        return pd.DataFrame(rows, columns=["arm", "fold", "seed", "score"])

    @cached_property
    def interactions(self) -> tuple[Interaction, ...]:
        """What every two entries of a grid say about each other; empty for other forms."""
        points = {arm.title: arm.point for arm, _ in self.scored}
        return grid_interactions(self.sweep.spec, points, self.scores)

    @cached_property
    def importance(self) -> dict[str, float]:
        """What share of the spread each searched entry explains; empty where that is unknown."""
        from birdlab.sweep.importance import importance

        spec = self.sweep.spec.optuna
        return {} if spec is None else importance(spec, [(a.point, r.cv) for a, r in self.scored])
