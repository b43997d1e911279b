"""What does each run add to an ensemble, what does it cost, and may it be deployed?"""

from __future__ import annotations

from dash import Dash, html

from birdlab.study.ensemble_view import (
    EnsembleView,
    build_ensemble_view,
    members_words,
    plot_correlation,
)
from dashboards.parts import Part, choice_part, figure_part, list_part, page_part, table_part
from dashboards.source import LabSource
from dashboards.state import Shown, State, follow_url, section_part
from dashboards.static import html_of

PATH, FILE, TITLE = "/ensemble", "ensemble.html", "Ensemble"
QUESTION = "What does each run add to an ensemble, and what is still to be shown of it?"
METHOD = (
    "Scores are fold-averaged padded cmAP of the mean probability, each run counted once, on the "
    "recordings that all members share. A prediction is always that of models which did not train "
    "on the recording."
)
ALIKE = (
    "Spearman's rank correlation of two members, numbered as above, over the recordings of a fold, "
    "the mean over species: the closer to 1, the less the second of them adds."
)

BLENDS = (
    "With equal weights, compared with the mean, fold by fold. Below, the weights of the mean that "
    "score highest, on all folds and without each of them. They are used where they are surely "
    "better on folds that the fit had not seen."
)


def build_layout() -> html.Div:
    """The page without its content, which the callback fills in from the URL."""
    members = choice_part("Members", "ensemble-runs", searchable=True, several=True)
    return page_part("ensemble", QUESTION, [members])


def register_callbacks(app: Dash, source: LabSource) -> None:
    """Keep controls, URL and content of the page in step."""
    follow_url(app, "ensemble", ("runs",), lambda wanted: _show(source, wanted), several=("runs",))


def build_static(source: LabSource) -> str:
    """The page for the three runs of the highest CV among those that compare with the newest."""
    return html_of(section_part("", _show(source, {"runs": ""})))


def _show(source: LabSource, wanted: State) -> Shown:
    runs = [run for run in wanted["runs"].split(",") if run]
    view = build_ensemble_view(source.lab, source.tables(), runs, source.fold_tables, source.record)
    return Shown({"runs": ",".join(view.runs)}, {"runs": view.options}, view.answer, _lay_out(view))


def _lay_out(view: EnsembleView) -> list[Part]:
    if not view.runs:
        return list_part("Left out", view.left_out)
    alike = (
        [
            html.H2("How alike the members are"),
            figure_part(plot_correlation(view.correlation), "ensemble-correlation"),
            html.P(ALIKE, className="soft"),
        ]
        if view.correlation is not None
        else []
    )
    return [
        html.H2("Members"),
        table_part(members_words(view), "ensemble-members", data=view.members.merge(view.costs)),
        html.P(METHOD, className="soft"),
        *alike,
        *_blends(view),
        html.H2("Before it is deployed"),
        table_part(view.gates, "ensemble-gates"),
        *list_part("In words", view.sentences),
        *list_part("Left out", view.left_out),
    ]


def _blends(view: EnsembleView) -> list[Part]:
    """Ways to blend and fitted weights; nothing for a single member."""
    if view.blends is None:
        return []
    tables = []
    if len(view.blends.blends):
        tables = [
            table_part(view.blends.blends, "ensemble-blends"),
            html.P(BLENDS, className="soft"),
            table_part(view.blends.shares, "ensemble-weights"),
        ]
    return [
        html.H2("Ways to blend, and weights"),
        *tables,
        *[html.P(sentence) for sentence in view.blends.sentences],
    ]
