"""Which changes of a sweep made a difference, and how much of it is noise?"""

from __future__ import annotations

from dash import Dash, html

from birdlab.study import report
from birdlab.study.figures import plot_ranking, plot_response
from birdlab.study.tables import StudyTables
from birdlab.study.views import AblationView, build_ablation_view
from dashboards.parts import Part, choice_part, figure_part, list_part, page_part, table_part
from dashboards.source import LabSource
from dashboards.state import Shown, State, follow_url, section_part
from dashboards.static import html_of

PATH, FILE, TITLE = "/ablation", "ablation.html", "Ablation"
QUESTION = "Which changes made a difference, and how much of it is noise?"
CONTROLS = ("sweep", "metric")
LEGEND = "Bars: 95 % intervals. Band: differences too small to matter."


def build_layout() -> html.Div:
    """The page without its content, which the callback fills in from the URL."""
    controls = [
        choice_part("Sweep", "ablation-sweep"),
        choice_part("Metric", "ablation-metric"),
    ]
    return page_part("ablation", QUESTION, controls)


def register_callbacks(app: Dash, source: LabSource) -> None:
    """Keep controls, URL and content of the page in step."""
    follow_url(app, "ablation", CONTROLS, lambda wanted: _show(source.tables(), wanted))


def build_static(source: LabSource) -> str:
    """The page as HTML that needs no server: a section per sweep."""
    tables = source.tables()
    sweeps = build_ablation_view(tables).sweep_options
    shown = [(sweep, _show(tables, {"sweep": sweep})) for sweep in sweeps or [""]]
    return html_of([section_part(sweep, page) for sweep, page in shown])


def _show(tables: StudyTables, wanted: State) -> Shown:
    view = build_ablation_view(tables, wanted.get("sweep", ""), wanted.get("metric", ""))
    return Shown(
        {"sweep": view.sweep, "metric": view.metric},
        {"sweep": view.sweep_options, "metric": view.metric_options},
        view.answer,
        _lay_out(view),
    )


def _lay_out(view: AblationView) -> list[Part]:
    if view.ranking is None or view.forest is None:
        return list_part("Left out", view.sentences)
    response = (
        [html.H2("Response"), figure_part(plot_response(view.response), "ablation-response")]
        if view.response
        else []
    )
    return [
        figure_part(plot_ranking(view.forest), "ablation-forest"),
        html.P(LEGEND, className="soft"),
        *response,
        html.H2("Ranking"),
        table_part(report.ranking_words(view.ranking), "ranking"),
        *list_part("In words", view.sentences),
    ]
