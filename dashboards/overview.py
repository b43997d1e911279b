"""What ran, what runs, what is best so far, and what did it cost?"""

from __future__ import annotations

import pandas as pd
from dash import Dash, html

from birdlab.study.activity import Activity, read_activity
from birdlab.study.lab_savings import load_savings
from birdlab.study.overview import Overview, build_overview
from birdlab.study.overview_figures import plot_progress
from dashboards.parts import Part, choice_part, figure_part, list_part, page_part, table_part
from dashboards.source import LabSource
from dashboards.state import Shown, State, follow_url, section_part
from dashboards.static import html_of

PATH, FILE, TITLE = "/overview", "overview.html", "Overview"
QUESTION = "What ran, what runs, what is best so far, and what did it cost?"
COMPARE = (
    "Scores compare only among runs on the same recordings and classes, with as many folds: one "
    "line for each such set."
)


def build_layout() -> html.Div:
    """The page without its content, which the callback fills in from the URL."""
    return page_part("overview", QUESTION, [choice_part("Project", "overview-project", none="all")])


def register_callbacks(app: Dash, source: LabSource) -> None:
    """Keep control, URL and content of the page in step."""
    follow_url(app, "overview", ("project",), lambda wanted: _show(source, wanted))


def build_static(source: LabSource) -> str:
    """The page as HTML that needs no server, with all projects."""
    return html_of(section_part("", _show(source, {})))


def _show(source: LabSource, wanted: State) -> Shown:
    tables, activity = source.tables(), read_activity(source.lab)
    found = build_overview(tables, activity, source.unscored(), wanted.get("project", ""))
    return Shown(
        {"project": found.project},
        {"project": found.projects},
        found.answer,
        [*_lay_out_activity(activity), *_lay_out_runs(found), *_lay_out_savings(source)],
    )


def _lay_out_savings(source: LabSource) -> list[Part]:
    """Hours that cache and race of each sweep saved, for the whole lab."""
    sweeps = source.sweeps()
    state = (source.state(), [record.get("updated_at") for record in sweeps.values()])
    saved = source.keep("savings", "", state, lambda: load_savings(source.lab, sweeps))
    unread = {**source.unread_sweeps(), **saved.attrs["left_out"]}
    said = [f"{name}: {why}" for name, why in sorted(unread.items())]
    return [
        *_titled("Hours saved by cache and race", saved, "saved"),
        *list_part("Sweeps that cannot be read", said),
    ]


def _lay_out_activity(activity: Activity) -> list[Part]:
    running = activity.running.rename(columns={"name": "sweep or run"})
    running["share"] = [f"{100 * share:.0f} %" for share in running["share"]]
    return [
        *_titled("What runs", running, "running"),
        *_titled("Cells at work, and failed ones", activity.cells, "cells"),
        *_titled("What ended", activity.ended, "ended"),
        *_titled("Half-trained cells that no command goes on with", activity.unfinished, "half"),
    ]


def _lay_out_runs(found: Overview) -> list[Part]:
    if found.best.empty:
        return _titled("Newest runs", found.newest, "newest")
    figure = plot_progress(found.progress, metric=found.metric)
    return [
        html.H2("Best so far"),
        figure_part(figure, "overview-progress", title="best so far"),
        html.P(COMPARE, className="soft"),
        table_part(found.best, "best", title="best so far"),
        *_titled("Newest runs", found.newest, "newest"),
        *_titled("Cost", found.cost, "cost"),
        *([html.P(found.saved, className="soft")] if found.saved else []),
    ]


def _titled(title: str, table: pd.DataFrame, name: str) -> list[Part]:
    """A table under its title; nothing where it has no rows."""
    if table.empty:
        return []
    return [html.H2(title), table_part(table, name, title=title)]
