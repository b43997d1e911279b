"""A sweep that ran, as the study sees it: its verdicts, costs and words from its records."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from birdlab.costs import ModelCosts
from birdlab.spec.sweep import SweepSpec
from birdlab.study.arm_costs import ArmCosts, CellCost, arm_costs
from birdlab.study.arms import grid_interactions, rank_sweep
from birdlab.study.bets import PlacedBet
from birdlab.study.cost_values import CostValues, value_table
from birdlab.study.importance_words import importance_sentence
from birdlab.study.interactions import Interaction
from birdlab.study.noise import NoiseFloor
from birdlab.study.race_rounds import Rounds, get_rounds
from birdlab.study.ranking import Ranking
from birdlab.study.savings import Savings, sweep_savings
from birdlab.study.shrinkage import EffectPrior
from birdlab.study.splits import count_split_folds
from birdlab.study.sweeping import Response, get_responses, points_of


def _no_costs() -> tuple[Mapping[str, CellCost], Mapping[str, ModelCosts]]:
    return {}, {}


@dataclass(frozen=True, eq=False)
class StoredSweep:
    """A sweep that ran: its record and those of its arms by title, scored ones first.

    command: what was typed to run it, "" where nobody knows; noise: the noise floor of its rows,
    where one was measured; read_costs: what gives the costs of the cells that its arms need and of
    its architectures when they are first asked for; placed: its bets as they stood at its start;
    prior: how the effects of other sweeps are distributed, for what its arms are worth.
    """

    name: str
    record: Mapping[str, Any]
    runs: Mapping[str, Mapping[str, Any]]
    command: str = ""
    noise: NoiseFloor | None = None
    read_costs: Callable[[], tuple[Mapping[str, CellCost], Mapping[str, ModelCosts]]] = _no_costs
    placed: tuple[PlacedBet, ...] = ()
    prior: EffectPrior | None = None

    @cached_property
    def spec(self) -> SweepSpec:
        """What the sweep asks, as its file said."""
        return SweepSpec.model_validate_json(json.dumps(self.record["spec"]))

    @property
    def scored(self) -> list[str]:
        """The arms that have a score, the best of them first when the sweep ended."""
        return [arm["title"] for arm in self.record["arms"]]

    @property
    def stopped(self) -> dict[str, str]:
        """The arms that a race stopped: where and why."""
        return {arm["title"]: arm["at"] for arm in self.record["stopped"]}

    @property
    def failed(self) -> dict[str, str]:
        """The arms that have no score, each with its error."""
        return {arm["title"]: arm["error"] for arm in self.record["failed"]}

    @property
    def left_out(self) -> tuple[str, ...]:
        """Each arm of the file that is none over another base, with the reason."""
        return tuple(f"{arm}: {why}" for arm, why in self.record.get("left_out", {}).items())

    @property
    def base(self) -> Mapping[str, Any]:
        """The record of the arm without changes; else of the first arm."""
        plain = (arm["title"] for arm in self.record["arms"] if not arm["delta"])
        return self.runs[next(plain, self.scored[0])]

    @property
    def has_base(self) -> bool:
        """Whether an arm without changes was scored."""
        return any(not arm["delta"] for arm in self.record["arms"])

    @cached_property
    def ranking(self) -> Ranking | None:
        """The verdicts on the scored arms, from all cells that they have by now."""
        folds = count_split_folds(self.base) if self.scored else None
        return rank_sweep(
            self.spec, self.scores, noise=self.noise, split_folds=folds, prior=self.prior
        )

    @cached_property
    def interactions(self) -> tuple[Interaction, ...]:
        """What every two entries of a grid say about each other."""
        points = {arm: self.points[arm] for arm in self.scored}
        return grid_interactions(self.spec, points, self.scores)

    @property
    def question(self) -> str:
        """What is asked, in the words of its file where it has some."""
        return self.spec.notes or f"Which of {', '.join(self.spec.entries)} is best?"

    @property
    def race_sentences(self) -> tuple[str, ...]:
        """The race in words: its rule, what it saved, which arms it stopped and why."""
        stopped = (f"{arm}: stopped {at}." for arm, at in self.stopped.items())
        return (*self.record.get("race", ()), *stopped)

    @property
    def failure_sentences(self) -> tuple[str, ...]:
        """Each arm that failed, with its error on one line."""
        return tuple(f"{arm}: {' '.join(error.split())}" for arm, error in self.failed.items())

    @cached_property
    def rounds(self) -> Rounds | None:
        """The rounds of the race; None where it had none, or nothing is scored."""
        if self.spec.race is None or not self.scored:
            return None
        return get_rounds(self.all_scores, self.stopped, self._raced_seeds, list(self.runs))

    @property
    def _raced_seeds(self) -> list[int]:
        """The seeds that a race was to have."""
        asked = self.spec.cells.seeds if self.spec.cells else self.base["spec"]["cells"]["seeds"]
        return [int(seed) for seed in asked]

    @cached_property
    def _costs(self) -> tuple[Mapping[str, CellCost], Mapping[str, ModelCosts]]:
        return self.read_costs()

    @property
    def cell_costs(self) -> Mapping[str, CellCost]:
        """What each cell that its arms go back to took, by cell id."""
        return self._costs[0]

    @cached_property
    def costs(self) -> ArmCosts:
        """What its arms cost, those that a race stopped as well."""
        return arm_costs(self.runs, *self._costs)

    @cached_property
    def values(self) -> CostValues | None:
        """Its verdicts beside what the arms cost; None where there are none."""
        return None if self.ranking is None else value_table(self.ranking, self.costs)

    @cached_property
    def savings(self) -> Savings:
        """What sharing cells and the race saved, since the sweep began."""
        planned: dict[str, int] = {}
        if self.spec.race is not None and self.scored:
            asked = None if self.spec.cells is None else self.spec.cells.folds
            own = asked if isinstance(asked, tuple) else self.base["evaluation"]["folds"]
            planned = dict.fromkeys(self.runs, len(own) * len(self._raced_seeds))
        return sweep_savings(self.runs, self.cell_costs, planned)

    @property
    def log_entries(self) -> dict[str, bool]:
        """For each searched entry whether its scale is logarithmic."""
        searched = self.spec.optuna or self.spec.random
        space = {} if searched is None else searched.space
        return {key: entry.log or entry.kind == "log_uniform" for key, entry in space.items()}

    @property
    def search_sentence(self) -> str:
        """What is said of the importance of what was searched; "" where nothing was."""
        if self.spec.optuna is None:
            return ""
        shares = self.record.get("importance", {})
        text = importance_sentence(self.spec.optuna, shares, len(self.scored))
        return f"{text[0].upper()}{text[1:]}."

    @cached_property
    def responses(self) -> list[Response]:
        """How the score answers to each numeric entry."""
        return get_responses(self.scores, self.points, self.log_entries)

    @cached_property
    def points(self) -> dict[str, dict[str, Any]]:
        """What each arm takes of each entry."""
        return points_of(self.record, self.base["spec"] if self.has_base else None)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """arm, fold, seed, score of every cell of the scored arms."""
        return self._scores(self.scored)

    @cached_property
    def all_scores(self) -> pd.DataFrame:
        """arm, fold, seed, score, of arms that the race stopped as well."""
        return self._scores(list(self.runs))

    def _scores(self, arms: list[str]) -> pd.DataFrame:
        rows = [
            (arm, int(cell["fold"]), int(cell["seed"]), float(cell["padded_cmap"]))
            for arm in arms
            for cell in self.runs[arm]["cells"]
            if cell["fold"] is not None
        ]
        return pd.DataFrame(rows, columns=["arm", "fold", "seed", "score"])
