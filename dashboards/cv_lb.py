"""How far can CV be trusted to rank models on the leaderboard?"""

from __future__ import annotations

from dataclasses import asdict

from dash import Dash, Input, Output, dcc, html
from dash.dependencies import State as Held

from birdlab.errors import PredictError
from birdlab.study import cvlb_figures as figures
from birdlab.study.cvlb import CvLbStudy, EstimatorComparison
from birdlab.study.cvlb_choice import CvLbChoice, Pair, choice_of, pair_tables
from birdlab.study.cvlb_view import CvLbView, build_cv_lb_view, compare_view_estimators, study_view
from birdlab.study.figures import label_above
from birdlab.study.pick_figures import get_pick_info, plot_pick
from birdlab.study.pick_view import NextView, PickView, show_picks
from birdlab.study.pick_words import NEXT_COLUMNS, PICK_COLUMNS, candidates_words
from birdlab.study.tables import StudyTables
from dashboards.cv_lb_study import lay_out_estimators, lay_out_sentences, lay_out_study
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
CONTROLS = tuple(asdict(CvLbChoice()))
LEGEND = (
    "Bars: lowest to highest fold. Dotted line: the same rank on both; above it the leaderboard "
    "likes a run better than CV does."
)


def build_layout() -> html.Div:
    """The page without its content, which the callback fills in from the URL."""
    controls = [
        choice_part("Leaderboard column", "cv-lb-lb"),
        choice_part("Its metric", "cv-lb-metric"),
        choice_part("CV estimate", "cv-lb-cv"),
        choice_part("Kind of submission", "cv-lb-like"),
        choice_part("Rows, classes and folds", "cv-lb-pool", none="comparable only"),
        choice_part("Split", "cv-lb-split", none="all"),
        choice_part("Backbone family", "cv-lb-family", none="all"),
        choice_part("Checkpoint rule", "cv-lb-checkpoint", none="all"),
        choice_part("Band", "cv-lb-band", none="all"),
        choice_part("Colour", "cv-lb-colour", none="one"),
        text_part("Runs that contain", "cv-lb-runs", placeholder="name, id or delta"),
    ]
    return page_part("cv-lb", QUESTION, controls)


def register_callbacks(app: Dash, source: LabSource) -> None:
    """Keep controls, URL and content of the page in step; the study of what is shown follows.

    Its parts follow one after the other, so that the browser that draws keeps a core to itself.
    """

    def show(wanted: State) -> Shown:
        view = _view(source, wanted)
        later = [
            dcc.Store(id="cv-lb-state", data=asdict(view.choice)),
            html.Div(id="cv-lb-study"),
            html.Div(id="cv-lb-estimators"),
            html.Div(id="cv-lb-pick"),
        ]
        said = html.Div(id="cv-lb-said")
        content = [said, *_lay_out(view), *later] if view.figure else []
        return Shown(asdict(view.choice), view.options, view.answer, content)

    follow_url(app, "cv-lb", CONTROLS, show, texts={"runs"})

    @app.callback(  # type: ignore[untyped-decorator]
        Output("cv-lb-said", "children"),
        Output("cv-lb-study", "children"),
        Input("cv-lb-state", "data"),
    )
    def study(state: dict[str, str]) -> tuple[Part, list[Part]]:
        found = _study(source, choice_of(state))
        return lay_out_sentences(found), lay_out_study(found)

    @app.callback(  # type: ignore[untyped-decorator]
        Output("cv-lb-estimators", "children"),
        Input("cv-lb-study", "children"),
        Held("cv-lb-state", "data"),
        prevent_initial_call=True,
    )
    def compare(_: object, state: dict[str, str]) -> list[Part]:
        return lay_out_estimators(_compare(source, choice_of(state)))

    @app.callback(  # type: ignore[untyped-decorator]
        Output("cv-lb-pick", "children"),
        Input("cv-lb-estimators", "children"),
        Held("cv-lb-state", "data"),
        prevent_initial_call=True,
    )
    def pick(_: object, state: dict[str, str]) -> list[Part]:
        return _lay_out_pick(source, choice_of(state))


def build_static(source: LabSource) -> str:
    """The page as HTML that needs no server: a section per metric and leaderboard column."""
    options = _view(source, {}).options
    wanted = [
        {"metric": metric, "lb": lb}
        for metric in options["metric"]
        for lb in _view(source, {"metric": metric}).options["lb"]
    ]
    sections: list[Part] = []
    for asked in wanted or [{}]:
        view, content = _view(source, asked), list[Part]()
        if view.figure:
            study = _study(source, view.choice)
            content = [lay_out_sentences(study), *_lay_out(view), *lay_out_study(study)]
            content += lay_out_estimators(_compare(source, view.choice))
            content += _lay_out_pick(source, view.choice)
        title = f"{asked['lb']} leaderboard, {asked['metric']}" if asked else ""
        sections.append(section_part(title, Shown({}, {}, view.answer, content)))
    return html_of(sections)


def _view(source: LabSource, wanted: State) -> CvLbView:
    tables = source.tables()
    return build_cv_lb_view(tables, choice_of(dict(wanted)), pair=_pair(source, tables))


def _study(source: LabSource, choice: CvLbChoice) -> CvLbStudy:
    tables = source.tables()
    return study_view(tables, choice, pair=_pair(source, tables))


def _compare(source: LabSource, choice: CvLbChoice) -> EstimatorComparison:
    tables = source.tables()
    return compare_view_estimators(tables, choice, pair=_pair(source, tables))


def _pair(source: LabSource, tables: StudyTables) -> Pair:
    """The pairs of the tables, kept from one filter to the next."""
    pair, version = pair_tables(tables), source.version
    return lambda *asked: source.keep("pairs", asked, version, lambda: pair(*asked))


def _lay_out(view: CvLbView) -> list[Part]:
    assert view.figure is not None and view.ranks is not None
    return [
        figure_part(figures.plot_cv_lb(view.figure), "cv-lb-scatter", title="CV and leaderboard"),
        html.P(LEGEND, className="soft"),
        *list_part("Chosen scores", view.chosen),
        *list_part("Left out", view.left_out),
        html.H2("Runs"),
        table_part(view.runs, "cv_lb", title="runs"),
        html.H2("Who moves"),
        figure_part(figures.plot_ranks(view.ranks), "cv-lb-ranks", title="ranks"),
    ]


def _lay_out_pick(source: LabSource, choice: CvLbChoice) -> list[Part]:
    """The final pair and what to submit next, by the score that is seen before the private one."""
    if choice.lb == "private":
        return []
    parts: list[Part] = [html.H2("What to pick, and what to submit next")]
    try:
        blended = source.blended()
    except PredictError as error:
        return [*parts, html.P(f"{error.what}: {error.where}.")]

    def read() -> tuple[PickView, NextView] | str:
        asked = {"seen": choice.lb, "metric": choice.metric, "cv": choice.cv}
        return show_picks(blended, source.likeness, **asked)

    key = choice.lb, choice.metric, choice.cv  # no filter changes it
    shown = source.keep("picks", key, blended, read)
    if isinstance(shown, str):
        return [*parts, html.P(shown)]
    pick, coming = shown
    table = candidates_words(pick.pick.table, PICK_COLUMNS)
    figure = plot_pick(get_pick_info(pick.pick.table))
    parts += [
        html.Ul([html.Li(text) for text in pick.sentences]),
        figure_part(label_above(figure), "cv-lb-pick-figure", title="expected private"),
        html.P("Bars: 80 % intervals. Crosses: the scores that were seen.", className="soft"),
        table_part(table, "cv_lb_pick", title="final picks", data=pick.pick.table),
    ]
    if len(coming.table):
        words = candidates_words(coming.table, NEXT_COLUMNS)
        parts += [
            html.Ul([html.Li(text) for text in coming.said]),
            table_part(words, "cv_lb_next", title="next submissions", data=coming.table),
        ]
    return [*parts, html.Ul([html.Li(text) for text in pick.board.left_out], className="soft")]
