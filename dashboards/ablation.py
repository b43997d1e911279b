"""Which changes of a sweep made a difference, and how much of it is noise?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dash import Dash, Input, Output, ctx, dcc, html, no_update

from birdlab.study import report
from birdlab.study.figures import plot_ranking, plot_response
from birdlab.study.tables import StudyTables
from birdlab.study.views import AblationView, build_ablation_view
from dashboards.parts import (
    choice_part,
    graph_part,
    list_part,
    read_query,
    table_part,
    write_query,
)

PATH, FILE, TITLE = "/ablation", "ablation.html", "Ablations"
QUESTION = "Which changes made a difference, and how much of it is noise?"
LEGEND = "Bars: 95 % intervals. Band: differences too small to matter."


def build_layout() -> html.Div:
    """The page without its content, which the callback fills in from the URL."""
    return html.Div(
        [
            dcc.Location(id="ablation-url", refresh=False),
            html.H1(QUESTION),
            html.P(id="ablation-answer", className="answer", role="status"),
            html.Div(
                [
                    choice_part("Sweep", "ablation-sweep"),
                    choice_part("Metric", "ablation-metric"),
                ],
                className="controls",
            ),
            html.Div(id="ablation-content"),
        ]
    )


def register_callbacks(app: Dash, load_tables: Callable[[], StudyTables]) -> None:
    """Keep controls, URL and content of the page in step."""

    @app.callback(  # type: ignore[untyped-decorator]
        Output("ablation-url", "search"),
        Output("ablation-sweep", "options"),
        Output("ablation-sweep", "value"),
        Output("ablation-metric", "options"),
        Output("ablation-metric", "value"),
        Output("ablation-answer", "children"),
        Output("ablation-content", "children"),
        Input("ablation-url", "search"),
        Input("ablation-sweep", "value"),
        Input("ablation-metric", "value"),
    )
    def show(search: str | None, sweep: str | None, metric: str | None) -> tuple[Any, ...]:
        query = read_query(search)
        if ctx.triggered_id in (None, "ablation-url"):
            sweep, metric = query.get("sweep"), query.get("metric")
        view = build_ablation_view(load_tables(), sweep or "", metric or "")
        text = write_query({"sweep": view.sweep, "metric": view.metric})
        unchanged = ctx.triggered_id is None or query == read_query(text)
        return (
            no_update if unchanged else text,
            view.sweep_options,
            view.sweep,
            view.metric_options,
            view.metric,
            view.answer,
            _lay_out(view),
        )


def build_static(tables: StudyTables) -> str:
    """The page as HTML that needs no server: a section per sweep."""
    sweeps = build_ablation_view(tables).sweep_options
    views = [build_ablation_view(tables, sweep) for sweep in sweeps or [""]]
    return report.page_html(QUESTION, [_section_html(view) for view in views])


def _lay_out(view: AblationView) -> list[Any]:
    if view.ranking is None or view.forest is None:
        return list_part("Left out", view.sentences)
    response = (
        [html.H2("Response"), graph_part(plot_response(view.response), "ablation-response")]
        if view.response
        else []
    )
    return [
        graph_part(plot_ranking(view.forest), "ablation-forest"),
        html.P(LEGEND, className="soft"),
        *response,
        html.H2("Ranking"),
        table_part(report.ranking_words(view.ranking)),
        *list_part("In words", view.sentences),
    ]


def _section_html(view: AblationView) -> str:
    answer = f"<p class='answer'>{report.escape(view.answer)}</p>"
    if view.ranking is None or view.forest is None:
        return answer
    response = (
        f"<h2>Response</h2>{report.figure_html(plot_response(view.response))}"
        if view.response
        else ""
    )
    return (
        f"<section><h2>{report.escape(view.sweep)}</h2>{answer}"
        f"{report.figure_html(plot_ranking(view.forest))}<p class='soft'>{LEGEND}</p>{response}"
        f"<h2>Ranking</h2>{report.table_html(report.ranking_words(view.ranking))}"
        f"<h2>In words</h2>{report.list_html(view.sentences)}</section>"
    )
