"""How far can CV be trusted to rank models on the leaderboard?"""

from __future__ import annotations

from dataclasses import asdict

from dash import Dash, html

from birdlab.study.figures import plot_cv_lb
from birdlab.study.tables import StudyTables
from birdlab.study.views import CvLbChoice, CvLbView, build_cv_lb_view
from dashboards.parts import (
    Part,
    choice_part,
    figure_part,
    list_part,
    page_part,
    table_part,
    text_part,
)
from dashboards.source import LabSource
from dashboards.state import Shown, State, follow_url, section_part
from dashboards.static import html_of

PATH, FILE, TITLE = "/cv-lb", "cv_lb.html", "CV and leaderboard"
QUESTION = "How far can cross-validation be trusted to rank models on the leaderboard?"
CONTROLS = ("lb", "metric", "cv", "runs")


def build_layout() -> html.Div:
    """The page without its content, which the callback fills in from the URL."""
    controls = [
        choice_part("Leaderboard column", "cv-lb-lb"),
        choice_part("Its metric", "cv-lb-metric"),
        choice_part("CV estimate", "cv-lb-cv"),
        text_part("Runs that contain", "cv-lb-runs", placeholder="name, id or delta"),
    ]
    return page_part("cv-lb", QUESTION, controls)


def register_callbacks(app: Dash, source: LabSource) -> None:
    """Keep controls, URL and content of the page in step."""
    follow_url(
        app, "cv-lb", CONTROLS, lambda wanted: _show(source.tables(), wanted), texts={"runs"}
    )


def build_static(source: LabSource) -> str:
    """The page as HTML that needs no server: a section per metric and leaderboard column."""
    tables = source.tables()
    first = build_cv_lb_view(tables, CvLbChoice())
    wanted = [
        {"metric": metric, "lb": lb}
        for metric in first.metric_options
        for lb in build_cv_lb_view(tables, CvLbChoice(metric=metric)).lb_options
    ]
    sections = [
        (f"{choice['lb']} leaderboard, {choice['metric']}", _show(tables, choice))
        for choice in wanted
    ]
    shown = sections or [("", _show(tables, {}))]
    return html_of([section_part(title, page) for title, page in shown])


def _show(tables: StudyTables, wanted: State) -> Shown:
    choice = CvLbChoice(**{name: wanted.get(name, "") for name in CONTROLS})
    view = build_cv_lb_view(tables, choice)
    options = {"lb": view.lb_options, "metric": view.metric_options, "cv": view.cv_options}
    return Shown(asdict(view.choice), options, view.answer, _lay_out(view))


def _lay_out(view: CvLbView) -> list[Part]:
    if view.figure is None:
        return []
    return [
        figure_part(plot_cv_lb(view.figure), "cv-lb-scatter"),
        html.P("Bars: lowest to highest fold.", className="soft"),
        html.H2("How strong is the relation"),
        table_part(view.statistics, "cv_lb_statistics"),
        *list_part("Chosen scores", view.chosen),
        *list_part("Left out", view.left_out),
        html.H2("Runs"),
        table_part(view.runs, "cv_lb"),
    ]
