"""Costs beside verdicts as parts of a report: a table in words, the Pareto figures, savings."""

from __future__ import annotations

import math

import pandas as pd

from birdlab.study.arm_costs import ArmCosts
from birdlab.study.cost_values import CostValues
from birdlab.study.document import Document, Drawing, Listing, Part, Table, build_document
from birdlab.study.document import build_section as section
from birdlab.study.pareto import PARETO_LEGEND, ParetoInfo, get_pareto_info, plot_pareto
from birdlab.study.savings import Savings


def values_words(values: CostValues) -> pd.DataFrame:
    """The table of gains and costs to show: a price only where the verdict gives one."""
    table = values.table
    expected = {"expected": _numbers(table["expected"], "{:+.4f}")}
    return pd.DataFrame(
        {
            "arm": table["arm"],
            "mean": table["mean"].map("{:.4f}".format),
            "difference": [
                "" if arm == values.base or math.isnan(delta) else f"{delta:+.4f}"
                for arm, delta in zip(table["arm"], table["delta"], strict=True)
            ],
            **(expected if table["expected"].notna().any() else {}),
            "verdict": table["verdict"],
            "hours": _numbers(table["train_hours"], "{:.3g}"),
            "on": table["device"],
            "hours a model": _numbers(table["model_hours"], "{:.3g}"),
            "gain for hours": table["hours_words"],
            "CPU ms a window": _numbers(table["cpu_ms"], "{:.3g}"),
            "gain for CPU ms": table["cpu_words"],
        }
    )


def pareto_infos(values: CostValues, metric: str = "padded cmAP") -> dict[str, ParetoInfo]:
    """What the figures over hours and over CPU time show, by file name; those with points only."""
    labels = {
        "pareto-hours": ("hours_beside", f"{_kind(values)}-hours of training a model"),
        "pareto-cpu": ("cpu_ms_beside", "CPU ms of a window, one model"),
    }
    found = {
        name: get_pareto_info(values.table, column, label, metric=metric)
        for name, (column, label) in labels.items()
    }
    return {name: info for name, info in found.items() if len(info.points) > 1}


def _kind(values: CostValues) -> str:
    kind = str(values.table.loc[values.table["arm"] == values.base, "kind"].iloc[0])
    return kind if kind in ("GPU", "CPU") else "device"


def cost_parts(
    values: CostValues | None, costs: ArmCosts, savings: Savings | None, metric: str
) -> list[Part]:
    """The section on cost of a report: table, sentences, figures."""
    said = () if savings is None else savings.sentences
    if values is None:
        return [Listing((*costs.sentences, *said))]
    return [
        Table("costs", values_words(values)),
        Listing((*values.sentences, *costs.sentences, *said)),
        *(
            Drawing(name, plot_pareto(info), f"{metric} over {info.label}. {PARETO_LEGEND}")
            for name, info in pareto_infos(values, metric).items()
        ),
    ]


def build_value_document(
    title: str, values: CostValues, costs: ArmCosts, savings: Savings | None, metric: str
) -> Document:
    """Gains and costs of arms as a report of its own."""
    return build_document(
        title,
        "What does each gain cost, in training and at inference?",
        values.sentences[0] if values.sentences else "",
        [section("Cost and value", *cost_parts(values, costs, savings, metric))],
    )


def _numbers(column: pd.Series, form: str) -> list[str]:
    return ["" if math.isnan(value) else form.format(value) for value in column]
