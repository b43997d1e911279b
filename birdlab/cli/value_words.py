"""What a ranking costs, as `birdlab value` and `birdlab compare --costs` print it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.study.arm_costs import ArmCosts
    from birdlab.study.compare import Comparison
    from birdlab.study.cost_values import CostValues
    from birdlab.study.savings import Savings


def weigh_runs(
    lab: Lab, found: Comparison, records: Mapping[str, Mapping[str, Any]]
) -> tuple[CostValues, ArmCosts]:
    """What the gains of a comparison cost; `records` by what the runs are called in it.

    Raises ResolveError where the runs share no cell, so that there is no ranking.
    """
    from birdlab.errors import ResolveError
    from birdlab.study.cost_records import load_arm_costs
    from birdlab.study.cost_values import value_table

    if found.ranking is None:
        raise ResolveError(
            "the runs were split otherwise, so they share no cell to weigh",
            got=", ".join(records),
            fix="birdlab compare tells of runs with other folds",
        )
    costs = load_arm_costs(lab, records)
    return value_table(found.ranking, costs), costs


def value_lines(values: CostValues, costs: ArmCosts, savings: Savings | None = None) -> list[str]:
    """Gains, hours and CPU time in three tables that fit a terminal, and what is said of them."""
    from birdlab.study.cost_report import values_words

    words = values_words(values)
    cpu = [name for name in words if "CPU" in name]
    hours = ["hours", "on", "hours a model", "gain for hours"]
    gains = [name for name in words if name not in ("arm", *hours, *cpu)]
    lines: list[str] = []
    for columns in (gains, hours, cpu):
        lines += [*words[["arm", *columns]].to_string(index=False).splitlines(), ""]
    return [*lines, *(f"  {sentence}" for sentence in _sentences(values, costs, savings))]


def value_json(
    values: CostValues, costs: ArmCosts, savings: Savings | None = None
) -> dict[str, Any]:
    """All of it as JSON takes it; null where there is no number."""
    from birdlab.cli.common import table_rows

    return {
        "base": values.base,
        "arms": table_rows(values.table),
        "costs": table_rows(costs.table),
        "saved": [] if savings is None else table_rows(savings.table),
        "sentences": _sentences(values, costs, savings),
    }


def no_value_line(found: Comparison) -> str:
    """Why a comparison has no costs beside it: its runs share no cell."""
    arms = ", ".join(found.shared.arms)
    return f"No gain is weighed against its cost: {arms} and {found.shared.base} share no cell."


def _sentences(values: CostValues, costs: ArmCosts, savings: Savings | None) -> list[str]:
    return [*values.sentences, *costs.sentences, *(savings.sentences if savings else ())]
