"""What is said of an ensemble on the command line: likeness, gains, blends, weights, a choice."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from birdlab.errors import DataError
from birdlab.evaluate.blends import Blend
from birdlab.lab import Lab
from birdlab.recorded import name_remarks
from birdlab.study.blending import EQUAL, FittedShares, compare_blends, fit_shares
from birdlab.study.blending_scores import Metric
from birdlab.study.ensemble import (
    Members,
    align_members,
    correlate_members,
    judge_ensemble,
    rank_folds,
    weigh_members,
)
from birdlab.study.ensemble_gates import count_windows, table_costs
from birdlab.study.greedy import GreedyChoice, select_greedy
from birdlab.study.ranking import Ranking
from birdlab.study.species import FoldTables
from birdlab.words import count_words

GIVEN = "given weights"
Record = Mapping[str, Any]


@dataclass(frozen=True)
class EnsembleQuestion:
    """What is asked of an ensemble.

    shares: given weights, one a run; fit: whether weights are fitted; greedy: whether members are
    chosen, within `minutes` of the competition on `cores`, or `budget_ms` a window on one; again: a
    member may be chosen twice. weights: which models speak for a run, all of its folds or one that
    was trained on all data.
    """

    blend: Blend
    metric: Metric = "padded_cmap"
    shares: tuple[float, ...] = ()
    fit: bool = False
    greedy: bool = False
    minutes: float | None = None
    budget_ms: float | None = None
    cores: int = 2
    again: bool = False
    weights: Literal["full", "folds", "averaged"] = "full"

    def limit_ms(self, record: Record) -> float:
        """The milliseconds a window that members may take together; infinite without a limit.

        Raises DataError for two limits, and for minutes without a competition.
        """
        if self.minutes is not None and self.budget_ms is not None:
            raise DataError("give one limit, of minutes or of ms a window")
        if self.minutes is None:
            return float("inf") if self.budget_ms is None else self.budget_ms
        windows = count_windows(record)
        if windows != windows:
            raise DataError(
                "the first run was imported, so the windows of its competition are not known",
                fix="give the limit as --budget-ms",
            )
        return self.minutes * self.cores * 60_000 / windows


@dataclass(frozen=True)
class MemberCosts:
    """Milliseconds of a window by each member, what they may take together, and how it is known."""

    ms: Mapping[str, float]
    limit_ms: float
    sentence: str


@dataclass(frozen=True, eq=False)
class EnsembleSummary:
    """The findings; `weighed` and `costs_ms` have a row per member, see `weigh_members`.

    given: the verdict on given weights against equal ones, None for none; remarks: what makes the
    scores less comparable, in words; command: what promotes the ensemble.
    """

    members: Members
    weighed: pd.DataFrame
    costs_ms: tuple[float, ...]
    correlation: pd.DataFrame
    verdict: Ranking | None
    blends: Ranking | None
    given: Ranking | None
    fitted: FittedShares | None
    greedy: GreedyChoice | None
    limit_ms: float
    measured: MemberCosts | None
    remarks: tuple[str, ...]
    command: str

    @property
    def answer(self) -> str:
        """How the ensemble of all, with equal weights, does."""
        m = self.members
        over = (
            f"over {len(m.recordings):,} recordings and "
            f"{count_words(len(m.codes), 'class', 'classes')} in "
            f"{count_words(len(np.unique(m.fold)), 'fold')}"
        )
        if self.verdict is None:
            return f"{m.names[0]} alone scores {self.weighed['alone'].iloc[0]:.4f} {over}."
        row = self.verdict.table[self.verdict.table["arm"] != self.verdict.base].iloc[0]
        return (
            f"{len(m.names)} runs with equal weights score {row['mean']:.4f} {over}, "
            f"{row['delta']:+.4f} against their best member {self.verdict.base}: {row['verdict']}."
        )


def summarise_ensemble(
    lab: Lab,
    records: Mapping[str, Record],
    tables: Mapping[str, FoldTables],
    asked: EnsembleQuestion,
    measured: MemberCosts | None = None,
) -> EnsembleSummary:
    """What is asked of the runs, whose records and out-of-fold tables are by name.

    Costs and limit are those `measured`, else those of the lab's costs.json and of the question.
    Raises DataError for a limit that cannot be held, OutputsError for folds without the metric.
    """
    members = align_members(tables)
    kept = {name: records[name] for name in members.names}
    costs, limit = _costs(lab, kept, asked, measured)
    fitted = fit_shares(members, asked.blend, metric=asked.metric) if asked.fit else None
    greedy = None
    if asked.greedy:
        greedy = select_greedy(
            members,
            costs,
            limit,
            asked.blend,
            metric=asked.metric,
            replacement=asked.again,
        )
    return EnsembleSummary(
        members,
        weigh_members(members, asked.blend, metric=asked.metric),
        costs,
        correlate_members(members),
        judge_ensemble(members, asked.blend, metric=asked.metric),
        compare_blends(members, metric=asked.metric),
        _judge_given(members, asked),
        fitted,
        greedy,
        limit,
        measured,
        (*members.left_out, *name_remarks(kept)),
        _command(kept, asked, fitted, greedy),
    )


def _costs(
    lab: Lab,
    records: Mapping[str, Record],
    asked: EnsembleQuestion,
    measured: MemberCosts | None,
) -> tuple[tuple[float, ...], float]:
    if measured is not None:
        return tuple(measured.ms[name] for name in records), measured.limit_ms
    column = "ms" if asked.weights == "folds" else "ms_per_model"
    limit = asked.limit_ms(next(iter(records.values())))
    return tuple(table_costs(lab, records)[column]), limit


def _judge_given(members: Members, asked: EnsembleQuestion) -> Ranking | None:
    if not asked.shares or len(members.names) < 2:
        return None
    if len(asked.shares) != len(members.names):
        raise DataError(
            "the shares do not fit the members",
            got=f"{len(asked.shares)} for {', '.join(members.names)}",
            fix="; ".join(members.left_out) or None,
        )
    scorer = members.scorer(asked.blend, asked.metric)
    equal = scorer.score_folds(np.ones(len(members.names)))
    return rank_folds({EQUAL: equal, GIVEN: scorer.score_folds(asked.shares)}, base=EQUAL)


def _command(
    records: Mapping[str, Record],
    asked: EnsembleQuestion,
    fitted: FittedShares | None,
    greedy: GreedyChoice | None,
) -> str:
    """The command that promotes what was found: the greedy choice, or all with their weights."""
    if greedy is not None:
        shares = greedy.weights
    elif fitted is not None:
        shares = fitted.weights
    else:
        shares = asked.shares or (1.0,) * len(records)
    chosen = [(r["spec_id"], w) for r, w in zip(records.values(), shares, strict=True) if w > 0]
    parts = ["birdlab", "promote", *(run for run, _ in chosen)]
    if asked.weights != "full":
        parts += ["--weights", asked.weights]
    if asked.blend != Blend():
        kind = asked.blend.kind
        parts += ["--blend", f"power:{asked.blend.power:g}" if kind == "power" else kind]
    numbers = [w for _, w in chosen]
    if max(numbers) - min(numbers) > 1e-9 * max(numbers):
        parts += ["--shares", ",".join(f"{w / sum(numbers):.4g}" for w in numbers)]
    return shlex.join(parts)
