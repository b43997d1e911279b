"""How far can CV be trusted to rank models on the leaderboard?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from dash import Dash, Input, Output, State, ctx, dcc, html, no_update

from birdlab.study import report
from birdlab.study.figures import plot_cv_lb
from birdlab.study.tables import StudyTables
from birdlab.study.views import CvLbChoice, CvLbView, build_cv_lb_view, csv_text
from dashboards.parts import (
    choice_part,
    graph_part,
    list_part,
    read_query,
    table_part,
    write_query,
)

PATH, FILE, TITLE = "/", "cv_lb.html", "CV and leaderboard"
QUESTION = "How far can cross-validation be trusted to rank models on the leaderboard?"
CONTROLS = ("lb", "metric", "cv")


def build_layout() -> html.Div:
    """The page without its content, which the callback fills in from the URL."""
    by_name = html.Div(
        [
            html.Label("Runs that contain", htmlFor="cv-lb-runs"),
            dcc.Input(id="cv-lb-runs", type="text", debounce=0.5, placeholder="name, id or delta"),
        ]
    )
    choices = zip(("Leaderboard column", "Its metric", "CV estimate"), CONTROLS, strict=True)
    return html.Div(
        [
            dcc.Location(id="cv-lb-url", refresh=False),
            html.H1(QUESTION),
            html.P(id="cv-lb-answer", className="answer", role="status"),
            html.Div(
                [*(choice_part(label, f"cv-lb-{name}") for label, name in choices), by_name],
                className="controls",
            ),
            html.Div(id="cv-lb-content"),
            html.Button("Download these runs as CSV", id="cv-lb-csv"),
            dcc.Download(id="cv-lb-file"),
        ]
    )


def register_callbacks(app: Dash, load_tables: Callable[[], StudyTables]) -> None:
    """Keep controls, URL and content of the page in step."""

    @app.callback(  # type: ignore[untyped-decorator]
        Output("cv-lb-url", "search"),
        *(Output(f"cv-lb-{name}", part) for name in CONTROLS for part in ("options", "value")),
        Output("cv-lb-runs", "value"),
        Output("cv-lb-answer", "children"),
        Output("cv-lb-content", "children"),
        Input("cv-lb-url", "search"),
        *(Input(f"cv-lb-{name}", "value") for name in (*CONTROLS, "runs")),
    )
    def show(search: str | None, *chosen: str | None) -> tuple[Any, ...]:
        if ctx.triggered_id in (None, "cv-lb-url"):
            query = read_query(search)
            wanted = CvLbChoice(*(query.get(name, "") for name in (*CONTROLS, "runs")))
        else:
            wanted = CvLbChoice(*(value or "" for value in chosen))
        view = build_cv_lb_view(load_tables(), wanted)
        state = asdict(view.choice)
        query_text = write_query(state)
        # An unchanged URL is not written again: each write is a step of the back button.
        unchanged = ctx.triggered_id is None or read_query(search) == read_query(query_text)
        options = (view.lb_options, view.metric_options, view.cv_options)
        boxes = [
            part
            for name, names in zip(CONTROLS, options, strict=True)
            for part in (names, state[name])
        ]
        return (
            no_update if unchanged else query_text,
            *boxes,
            state["runs"],
            view.answer,
            _lay_out(view),
        )

    @app.callback(  # type: ignore[untyped-decorator]
        Output("cv-lb-file", "data"),
        Input("cv-lb-csv", "n_clicks"),
        *(State(f"cv-lb-{name}", "value") for name in (*CONTROLS, "runs")),
        prevent_initial_call=True,
    )
    def download(_: int, *chosen: str | None) -> dict[str, str]:
        wanted = CvLbChoice(*(value or "" for value in chosen))
        view = build_cv_lb_view(load_tables(), wanted)
        return {"content": csv_text(view.runs), "filename": "cv_lb.csv", "type": "text/csv"}


def build_static(tables: StudyTables) -> str:
    """The page as HTML that needs no server: a section per metric and leaderboard column."""
    views = [
        build_cv_lb_view(tables, CvLbChoice(lb=lb, metric=metric))
        for metric in build_cv_lb_view(tables, CvLbChoice()).metric_options
        for lb in build_cv_lb_view(tables, CvLbChoice(metric=metric)).lb_options
    ]
    views = views or [build_cv_lb_view(tables, CvLbChoice())]
    return report.page_html(QUESTION, [_section_html(view) for view in views])


def _lay_out(view: CvLbView) -> list[Any]:
    if view.figure is None:
        return []
    return [
        graph_part(plot_cv_lb(view.figure), "cv-lb-scatter"),
        html.P("Bars: lowest to highest fold.", className="soft"),
        html.H2("How strong is the relation"),
        table_part(view.statistics),
        *list_part("Chosen scores", view.chosen),
        *list_part("Left out", view.left_out),
        html.H2("Runs"),
        table_part(view.runs),
    ]


def _section_html(view: CvLbView) -> str:
    if view.figure is None or view.result is None:
        return f"<p class='answer'>{report.escape(view.answer)}</p>"
    left_out = f"<h2>Left out</h2>{report.list_html(view.left_out)}" if view.left_out else ""
    if view.chosen:
        left_out = f"<h2>Chosen scores</h2>{report.list_html(view.chosen)}{left_out}"
    csv = quote(csv_text(view.runs))
    link = f"data:text/csv;charset=utf-8,{csv}"
    return (
        f"<section><h2>{report.escape(view.choice.lb)} leaderboard, "
        f"{report.escape(view.choice.metric)}</h2>"
        f"<p class='answer'>{report.escape(view.answer)}</p>"
        f"{report.figure_html(plot_cv_lb(view.figure))}"
        "<p class='soft'>Bars: lowest to highest fold.</p>"
        f"<h2>How strong is the relation</h2>{report.table_html(view.statistics)}{left_out}"
        f"<h2>Runs</h2>{report.table_html(view.runs)}"
        f"<a class='button' download='cv_lb.csv' href='{link}'>Download these runs as CSV</a>"
        "</section>"
    )
