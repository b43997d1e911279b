"""Which settings matter, and what did the search and the race do?"""

from __future__ import annotations

from dash import Dash, html

from birdlab.study.document import file_name
from birdlab.study.other_effects import load_judged_sweep
from birdlab.study.sweep_figures import (
    plot_importance,
    plot_parallel,
    plot_response,
    plot_rounds,
)
from birdlab.study.sweep_view import SweepView, build_sweep_view
from dashboards.parts import Part, choice_part, figure_part, list_part, page_part, table_part
from dashboards.source import LabSource
from dashboards.state import Shown, State, follow_url, section_part
from dashboards.static import html_of

PATH, FILE, TITLE = "/sweeps", "sweeps.html", "Sweeps"
QUESTION = "Which settings matter, and what did the search and the race do?"
METRIC = "padded cmAP"
SHOWN_ARMS = 50
SPREAD = "Bars: lowest to highest fold, seeds averaged. Circles: every fold and seed."
MIXED = "The arms differ in other settings as well, so nothing is drawn between them."
ALL_AT_ONCE = "A line is an arm: what it takes of each setting, and at the right its score."


def build_layout() -> html.Div:
    """The page without its content, which the callback fills in from the URL."""
    return page_part("sweeps", QUESTION, [choice_part("Sweep", "sweeps-sweep", searchable=True)])


def register_callbacks(app: Dash, source: LabSource) -> None:
    """Keep control, URL and content of the page in step."""
    follow_url(app, "sweeps", ("sweep",), lambda wanted: _show(source, wanted))


def build_static(source: LabSource) -> str:
    """The page as HTML that needs no server: a section per sweep."""
    names = sweep_names(source) or [""]
    return html_of([section_part(name, _show(source, {"sweep": name})) for name in names])


def sweep_names(source: LabSource) -> list[str]:
    """The sweeps that ended, the newest first."""
    sweeps = source.sweeps()
    return sorted(sweeps, key=lambda name: str(sweeps[name].get("updated_at", "")), reverse=True)


def _show(source: LabSource, wanted: State) -> Shown:
    names = sweep_names(source)
    name = wanted.get("sweep", "")
    name = name if name in names else names[0] if names else ""
    options = {"sweep": names}
    if not name:
        nothing = "No sweep has ended yet: run one with birdlab sweep experiments/lr.yaml."
        return Shown({"sweep": ""}, options, nothing)
    view = _view_of(source, name)
    return Shown({"sweep": name}, options, view.answer, _lay_out(view, name))


def _view_of(source: LabSource, name: str) -> SweepView:
    """The view of a sweep, kept until any sweep or run of the lab is there anew."""
    state = [(each, record.get("updated_at")) for each, record in source.sweeps().items()]
    return source.keep(
        "sweep view",
        name,
        (state, source.state()),
        lambda: build_sweep_view(load_judged_sweep(source.lab, name)),
    )


def _lay_out(view: SweepView, name: str) -> list[Part]:
    n = len(view.table)
    more = f"The best {SHOWN_ARMS} of {n} arms. The CSV has all." if n > SHOWN_ARMS else ""
    return [
        html.P(view.question),
        *_lay_out_responses(view),
        *_lay_out_search(view),
        *_lay_out_race(view),
        html.H2("Arms"),
        table_part(view.table.head(SHOWN_ARMS), f"{name}-arms", title="arms", data=view.table),
        *([html.P(more, className="soft")] if more else []),
        *list_part("What failed", view.failed),
    ]


def _lay_out_responses(view: SweepView) -> list[Part]:
    parts: list[Part] = []
    for response in view.responses:
        figure = plot_response(response, metric=METRIC)
        said = SPREAD if response.is_line else f"{SPREAD} {MIXED}"
        parts += [
            html.H2(f"Response to {response.setting}"),
            figure_part(
                figure,
                f"sweeps-response-{file_name(response.setting)}",
                title=f"response to {response.setting}",
            ),
            html.P(said, className="soft"),
        ]
    return parts


def _lay_out_search(view: SweepView) -> list[Part]:
    parts: list[Part] = []
    if view.parallel is not None:
        figure = plot_parallel(view.parallel, metric=METRIC)
        parts += [
            html.H2("All settings side by side"),
            figure_part(figure, "sweeps-parallel", title="all settings side by side"),
            html.P(ALL_AT_ONCE, className="soft"),
        ]
    if view.search:
        parts += [html.H2("Importance"), html.P(view.search)]
    if view.importance:
        figure = plot_importance(view.importance)
        parts.append(figure_part(figure, "sweeps-importance", title="importance"))
    return parts


def _lay_out_race(view: SweepView) -> list[Part]:
    if view.rounds is None:
        return []
    return [
        html.H2("Race"),
        figure_part(plot_rounds(view.rounds), "sweeps-race", title="race"),
        html.Ul([html.Li(sentence) for sentence in view.race], className="soft"),
        table_part(
            view.rounds.table.head(SHOWN_ARMS), "rounds", title="rounds", data=view.rounds.table
        ),
    ]
