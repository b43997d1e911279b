"""Which changes of a sweep made a difference, and how much of it is noise?"""

from __future__ import annotations

from dash import Dash, Input, Output, dcc, html, no_update

from birdlab.study import arm_figures, report
from birdlab.study.ablation_view import AblationView, build_ablation_view
from birdlab.study.arm_view import (
    ArmOutputs,
    compare_outputs,
    list_changes,
    list_curves,
    pair_cells,
    shown_species,
)
from birdlab.study.cost_records import load_arm_costs
from birdlab.study.cost_report import pareto_infos, values_words
from birdlab.study.cost_values import value_table
from birdlab.study.document import file_name
from birdlab.study.figures import RANKING_LEGEND, label_above, plot_ranking
from birdlab.study.pareto import PARETO_LEGEND, plot_pareto
from birdlab.study.species_differences import differences_words
from birdlab.study.splits import count_split_folds
from birdlab.study.sweep_figures import plot_interaction
from dashboards.parts import Part, choice_part, figure_part, list_part, page_part, table_part
from dashboards.source import LabSource
from dashboards.state import Shown, State, follow_url, section_part
from dashboards.static import html_of

PATH, FILE, TITLE = "/ablation", "ablation.html", "Ablation"
QUESTION = "Which changes made a difference, and how much of it is noise?"
CONTROLS = ("sweep", "metric", "arm")
HINT = "Click an arm, or choose one above, for its folds, species, training and changes."


def build_layout() -> html.Div:
    """The page without its content, which the callback fills in from the URL."""
    controls = [
        choice_part("Sweep", "ablation-sweep", searchable=True),
        choice_part("Metric", "ablation-metric"),
        choice_part("Arm in detail", "ablation-arm", none="none"),
    ]
    return page_part("ablation", QUESTION, controls)


def register_callbacks(app: Dash, source: LabSource) -> None:
    """Keep controls, URL and content of the page in step; an arm can be clicked in the figure."""

    def show(wanted: State) -> Shown:
        view = _view(source, wanted)
        arm = wanted.get("arm", "") if wanted.get("arm", "") in _other_arms(view) else ""
        content = [*_lay_out(view), *_lay_out_costs(source, view)]
        if arm and view.ranking is not None:
            outputs = {"base": view.arms[view.ranking.base], "arm": view.arms[arm]}
            content += _lay_out_arm(source, view, arm)
            content += [
                dcc.Store(id="ablation-outputs", data=outputs),
                html.Div("Reading stored outputs.", id="ablation-species", className="soft"),
            ]
        elif view.ranking is not None:
            content += [html.P(HINT, className="soft")]
        state = {"sweep": view.sweep, "metric": view.metric, "arm": arm}
        return Shown(state, {**view.options, "arm": _other_arms(view)}, view.answer, content)

    follow_url(app, "ablation", CONTROLS, show)

    @app.callback(  # type: ignore[untyped-decorator]
        Output("ablation-species", "children"),
        Output("ablation-species", "className"),
        Input("ablation-outputs", "data"),
    )
    def compare(runs: dict[str, str]) -> tuple[list[Part], str]:
        return _lay_out_outputs(_outputs(source, runs["base"], runs["arm"])), ""

    @app.callback(  # type: ignore[untyped-decorator]
        Output("ablation-arm", "value", allow_duplicate=True),
        Input("ablation-forest", "clickData"),
        prevent_initial_call=True,
    )
    def pick(click: dict[str, list[dict[str, str]]] | None) -> object:
        return click["points"][0]["customdata"] if click else no_update


def build_static(source: LabSource) -> str:
    """The page as HTML that needs no server: a section per sweep, its best arm in detail."""
    sections: list[Part] = []
    for sweep in _view(source, {}).options["sweep"] or [""]:
        view = _view(source, {"sweep": sweep})
        content = [*_lay_out(view), *_lay_out_costs(source, view)]
        if others := _other_arms(view):
            content += _lay_out_arm(source, view, others[0])
        sections.append(section_part(sweep, Shown({}, {}, view.answer, content)))
    return html_of(sections)


def _view(source: LabSource, wanted: State) -> AblationView:
    return build_ablation_view(
        source.tables(),
        wanted.get("sweep", ""),
        wanted.get("metric", ""),
        records=source.sweeps(),
        find_noise=source.noise,
        find_prior=source.prior,
        count_folds=lambda run: (
            count_split_folds(source.record(run)) if source.has_record(run) else None
        ),
    )


def _other_arms(view: AblationView) -> list[str]:
    """The arms that can be laid beside the base, the highest difference first."""
    if view.ranking is None:
        return []
    return [arm for arm in view.ranking.table["arm"] if arm != view.ranking.base]


def _lay_out(view: AblationView) -> list[Part]:
    asked = [text for text in (view.question, view.expect and f"Expected: {view.expect}.") if text]
    head = [html.P(" ".join(asked), className="soft")] if asked else []
    if view.ranking is None or view.forest is None:
        return [*head, *_lay_out_unscored(view), *list_part("In words", view.sentences)]
    table = view.ranking.table
    return [
        *head,
        figure_part(
            label_above(plot_ranking(view.forest)),
            "ablation-forest",
            title="differences to the base",
        ),
        html.P(RANKING_LEGEND, className="soft"),
        table_part(report.ranking_words(view.ranking), "ranking", title="ranking", data=table),
        html.H2("In words"),
        html.Ul([html.Li(sentence) for sentence in view.sentences]),
        html.H2("Other intervals"),
        table_part(report.other_intervals(view.ranking), "other_intervals"),
        *_lay_out_unscored(view),
        *_lay_out_interactions(view),
    ]


def _lay_out_costs(source: LabSource, view: AblationView) -> list[Part]:
    """What each gain costs, and which arms none beats in score and cost at once."""
    if view.ranking is None:
        return []
    runs = {arm: source.record(run) for arm, run in view.arms.items()}
    state = (source.state(), tuple(view.arms.items()))
    costs = source.keep("arm costs", view.sweep, state, lambda: load_arm_costs(source.lab, runs))
    values = value_table(view.ranking, costs)
    parts: list[Part] = [
        html.H2("Cost and value"),
        table_part(values_words(values), "costs", title="cost and value", data=values.table),
        html.Ul([html.Li(said) for said in (*values.sentences, *costs.sentences)]),
    ]
    for name, info in pareto_infos(values, view.metric).items():
        parts.append(figure_part(plot_pareto(info), f"ablation-{name}", title=info.label))
        parts.append(html.P(PARETO_LEGEND, className="soft"))
    return parts


def _lay_out_unscored(view: AblationView) -> list[Part]:
    parts: list[Part] = []
    if len(view.stopped):
        parts += [html.H2("Stopped by the race"), table_part(view.stopped, "stopped_arms")]
    if len(view.failed):
        parts += [html.H2("Failed"), table_part(view.failed, "failed_arms")]
    return parts


def _lay_out_interactions(view: AblationView) -> list[Part]:
    parts: list[Part] = []
    for found in view.interactions:
        names = " and ".join(found.names)
        parts += [
            html.H2(f"Do {names} depend on each other"),
            html.Ul([html.Li(sentence) for sentence in found.sentences]),
        ]
        if len(found.table):
            name = f"interaction-{file_name(names)}"
            figure = figure_part(plot_interaction(found), name, title=names)
            parts += [figure, table_part(found.table, "interaction", title=names)]
    return parts


def _lay_out_arm(source: LabSource, view: AblationView, arm: str) -> list[Part]:
    assert view.ranking is not None
    base = view.ranking.base
    runs = {name: view.arms[name] for name in (base, arm)}
    cells = pair_cells(view.scores, base, arm)
    changes = list_changes(*(source.record(run) for run in runs.values()))
    curves = list_curves({name: source.curves(run) for name, run in runs.items()})
    return [
        html.H2(f"{arm} against {base}"),
        figure_part(arm_figures.plot_cells(cells), "ablation-cells", title="folds and seeds"),
        table_part(cells, "arm_cells", title="folds and seeds"),
        html.H3("What it changes"),
        table_part(changes, "arm_changes", title="changes"),
        *([html.H3("Training")] if curves else []),
        *(
            figure_part(arm_figures.plot_curve(curve), f"ablation-{curve.key}", title=curve.key)
            for curve in curves
        ),
    ]


def _outputs(source: LabSource, base: str, arm: str) -> ArmOutputs:
    tables = source.fold_tables(base), source.fold_tables(arm)
    recordists = source.recordists(base)
    state = tuple(map(id, (*tables, recordists)))
    return source.keep(
        "arm_outputs", (base, arm), state, lambda: compare_outputs(*tables, recordists)
    )


def _lay_out_outputs(outputs: ArmOutputs) -> list[Part]:
    words = html.Ul([html.Li(sentence) for sentence in outputs.sentences])
    if outputs.species.empty:
        return [html.H3("Recordings and species"), words]
    shown = shown_species(outputs.species)
    return [
        html.H3("Recordings and species"),
        words,
        figure_part(arm_figures.plot_species(shown), "ablation-species-figure", title="species"),
        html.P(
            "The species that gained and lost most, with their number of recordings. Bars: 95 % "
            "intervals of each species alone; those of few recordists have none.",
            className="soft",
        ),
        table_part(
            differences_words(outputs.species, "base", "arm"),
            "arm_species",
            title="species",
            data=outputs.species,
        ),
    ]
