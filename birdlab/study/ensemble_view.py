"""What the ensemble page shows, worked out once: words, tables and the data of its figure."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from birdlab.lab import Lab
from birdlab.study.ensemble import (
    Members,
    align_members,
    correlate_members,
    judge_ensemble,
    weigh_members,
)
from birdlab.study.ensemble_blends import BlendsShown, show_blends
from birdlab.study.ensemble_gates import NOT_MEASURED, check_gates, table_costs, table_gates
from birdlab.study.figures import finish_figure
from birdlab.study.ranking import Ranking
from birdlab.study.run_choice import NO_OUTPUTS, alike, name_runs, run_options, runs_with_cells
from birdlab.study.species import FoldTables
from birdlab.study.tables import StudyTables
from birdlab.words import count_words

MOST_MEMBERS, FIRST_MEMBERS = 10, 3


@dataclass(frozen=True, eq=False)
class CorrelationInfo:
    """The rank correlation of each two members: [M][M], NaN where it is not defined."""

    names: list[str]
    values: list[list[float]]


@dataclass(frozen=True, eq=False)
class EnsembleView:
    """An ensemble as shown: the runs that were taken, what else there is, and the findings."""

    runs: tuple[str, ...]
    options: list[dict[str, str]]
    answer: str
    correlation: CorrelationInfo | None
    members: pd.DataFrame
    blends: BlendsShown | None
    costs: pd.DataFrame
    gates: pd.DataFrame
    sentences: tuple[str, ...]
    left_out: tuple[str, ...]


def build_ensemble_view(
    lab: Lab,
    tables: StudyTables,
    wanted: Sequence[str],
    read: Callable[[str], FoldTables],
    record: Callable[[str], Mapping[str, Any]],
) -> EnsembleView:
    """The page of an ensemble of the wanted runs.

    `read` gives the out-of-fold tables of a run, empty for none, `record` its record. Runs that do
    not exist or have no outputs are left out; without any the three of the highest CV among those
    that compare with the newest are taken. At most 10.
    """
    runs = runs_with_cells(tables)
    names = name_runs(runs)
    options = run_options(runs, names)
    chosen = [run for run in dict.fromkeys(wanted) if run in names] or _first(runs)
    left_out = [
        f"{names[run]}: an ensemble shown here has {MOST_MEMBERS} members at most."
        for run in chosen[MOST_MEMBERS:]
    ]
    chosen = chosen[:MOST_MEMBERS]
    found = {run: read(run) for run in chosen}
    left_out += [f"{names[run]} has no stored outputs." for run in chosen if not found[run]]
    with_outputs = {names[run]: table for run, table in found.items() if table}
    taken = tuple(run for run in chosen if found[run])
    if not taken:
        empty = pd.DataFrame()
        return EnsembleView(
            taken, options, NO_OUTPUTS, None, empty, None, empty, empty, (), tuple(left_out)
        )
    members = align_members(with_outputs)
    taken = tuple(run for run in taken if names[run] in members.names)
    records = {names[run]: record(run) for run in taken}
    verdict, costs = judge_ensemble(members), table_costs(lab, records)
    weighed = weigh_members(members)
    return EnsembleView(
        taken,
        options,
        _answer(members, weighed, verdict),
        get_correlation_info(members) if len(taken) > 1 else None,
        weighed,
        show_blends(members, taken),
        costs,
        table_gates(check_gates(lab, records, verdict, tables, costs)),
        (*(() if verdict is None else verdict.sentences), *_cost_sentences(costs, records)),
        (*left_out, *members.left_out),
    )


def _first(runs: pd.DataFrame) -> list[str]:
    """The runs of the highest CV among those that compare with the newest, best first."""
    if runs.empty:
        return []
    newest = runs.iloc[[0]]
    group = pd.concat([newest, alike(runs, str(newest["run"].iloc[0]))])
    scored = group[group["cv/padded_cmap"].notna()]
    best = scored.sort_values("cv/padded_cmap", ascending=False, kind="stable")
    return [str(run) for run in (best if len(best) else newest)["run"].head(FIRST_MEMBERS)]


def _answer(members: Members, weighed: pd.DataFrame, verdict: Ranking | None) -> str:
    n_folds = len(np.unique(members.fold))
    evidence = f"over {len(members.recordings):,} recordings in {count_words(n_folds, 'fold')}"
    if verdict is None:
        alone = weighed["alone"].iloc[0]
        return (
            f"{members.names[0]} alone scores {alone:.4f} {evidence}. "
            "Choose a second run to see what an ensemble gains."
        )
    row = verdict.table[verdict.table["arm"] != verdict.base].iloc[0]
    gains = weighed.sort_values("gain", ascending=False)
    most, least = gains.iloc[0], gains.iloc[-1]
    return (
        f"The mean of {len(members.names)} runs scores {row['mean']:.4f} {evidence}, "
        f"{row['delta']:+.4f} against its best member {verdict.base}: {row['verdict']}. "
        f"Most is gained by {most['name']} ({most['gain']:+.4f}), "
        f"least by {least['name']} ({least['gain']:+.4f})."
    )


def _cost_sentences(costs: pd.DataFrame, records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where the costs come from, and what brings those that are lacking."""
    sentences = []
    timed = costs[costs["ms"].notna()]
    if len(timed):
        processors = ", ".join(dict.fromkeys(timed["processor"]))
        sentences.append(
            "The time of a window is that of all models of a run, one after the other on one "
            f"thread of {processors}."
        )
    for name in costs.loc[costs["ms"].isna(), "name"]:
        run, seeds = records[name]["spec_id"], len(records[name]["evaluation"]["seeds"])
        sentences.append(
            f"{name} was not timed; the next cell of it that is trained will be: "
            f"birdlab extend {run} --seeds {seeds + 1}."
        )
    return sentences


def get_correlation_info(members: Members) -> CorrelationInfo:
    """The heat map of the members' rank correlation."""
    table = correlate_members(members)
    return CorrelationInfo(list(members.names), table.to_numpy().tolist())


def plot_correlation(info: CorrelationInfo) -> go.Figure:
    """The rank correlation of each two members, as colours and numbers.

    Members have the numbers of the table, so that ten of them fit a narrow page.
    """
    places = list(range(1, len(info.names) + 1))
    figure = go.Figure(
        go.Heatmap(
            x=places,
            y=places,
            z=info.values,
            zmin=0,
            zmax=1,
            colorscale="Cividis",
            showscale=False,
            text=[[_correlation_text(value) for value in row] for row in info.values],
            texttemplate="%{text}",
            xgap=2,
            ygap=2,
            customdata=[
                [f"{html.escape(a)}<br>{html.escape(b)}" for b in info.names] for a in info.names
            ],
            hovertemplate="%{customdata}<br>%{z:.3f}<extra></extra>",
        )
    )
    figure.update_xaxes(tickvals=places, side="top")
    figure.update_yaxes(tickvals=places, autorange="reversed")
    finish_figure(figure, height=100 + 36 * len(places))
    return figure.update_yaxes(showgrid=False).update_xaxes(showgrid=False)


def _correlation_text(value: float) -> str:
    return "" if value != value else f"{value:.2f}".replace("0.", ".")


def members_words(view: EnsembleView) -> pd.DataFrame:
    """The members with what they score, add and cost, as a table to show."""
    table = view.members.merge(view.costs, on="name")
    columns: dict[str, Any] = {
        "#": range(1, len(table) + 1),
        "member": table["name"],
        "alone": table["alone"].map("{:.4f}".format),
    }
    if len(table) > 1:
        columns |= {
            "without it": table["without"].map("{:.4f}".format),
            "gain": table["gain"].map("{:+.4f}".format),
            "in its folds": [
                f"{low:+.4f} to {high:+.4f}"
                for low, high in zip(table["gain_low"], table["gain_high"], strict=True)
            ],
            "helps in": table["helps"],
        }
    columns |= {
        "models": table["models"],
        "ms a window": [NOT_MEASURED if ms != ms else f"{ms:.1f}" for ms in table["ms"]],
    }
    return pd.DataFrame(columns)
