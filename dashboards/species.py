"""Which species does a run know, which does it not, and what does it take them for?"""

from __future__ import annotations

from urllib.parse import urlencode

from dash import Dash, html

from birdlab.study.run_figures import plot_class_scores
from birdlab.study.species_view import (
    NOBODY,
    SpeciesView,
    build_species_view,
    changes_words,
    pairs_words,
    species_words,
)
from birdlab.study.suspect_report import suspect_table
from birdlab.study.suspect_view import SuspectsView, build_suspects_view, judging_runs
from dashboards.parts import Part, choice_part, figure_part, list_part, page_part, table_part
from dashboards.source import LabSource
from dashboards.state import Shown, State, follow_url, section_part
from dashboards.static import html_of

PATH, FILE, TITLE = "/species", "species.html", "Species"
QUESTION = "Which species does a run know, and which does it take for another?"
SHOWN_PAIRS, LINKED_PAIRS = 30, 8
SHOWN_SUSPECTS = 20
METHOD = (
    "Scores are those of the models that did not train on a recording, folds pooled, the mean over "
    "seeds. Padded AP is high for rare species whatever the model says, so species are "
    "ordered by how far they are from what a constant predictor gets."
)


def build_layout() -> html.Div:
    """The page without its content, which the callback fills in from the URL."""
    controls = [
        choice_part("Run", "species-run", searchable=True),
        choice_part("Compared with", "species-other", searchable=True),
    ]
    return page_part("species", QUESTION, controls)


def register_callbacks(app: Dash, source: LabSource) -> None:
    """Keep controls, URL and content of the page in step."""
    follow_url(app, "species", ("run", "other"), lambda wanted: _show(source, wanted))


def build_static(source: LabSource) -> str:
    """The page for the newest run that has stored outputs."""
    return html_of(section_part("", _show(source, {"run": "", "other": ""}, static=True)))


def _show(source: LabSource, wanted: State, *, static: bool = False) -> Shown:
    view = build_species_view(
        source.tables(),
        source.fold_tables,
        source.recordists,
        wanted["run"],
        wanted["other"],
    )
    suspects = _suspects(source, view.run) if view.support is not None else None
    others = [option for option in view.options if option["value"] != view.run]
    return Shown(
        {"run": view.run, "other": view.other if view.run else ""},
        {
            "run": view.options,
            "other": [{"label": "no other run", "value": NOBODY}, *others],
        },
        view.answer,
        [*_lay_out(view, static=static), *_suspects_part(suspects, view.run, static=static)],
    )


def _lay_out(view: SpeciesView, *, static: bool) -> list[Part]:
    if view.support is None:
        return list_part("Left out", view.sentences)
    silent = (
        [f"Without a single recording, so nothing is known of them: {', '.join(view.silent)}."]
        if view.silent
        else []
    )
    return [
        html.H2("Recordings against precision"),
        figure_part(plot_class_scores(view.support), "species-support"),
        html.P([METHOD, *(f" {sentence}" for sentence in silent)], className="soft"),
        html.H2("Least known first"),
        table_part(species_words(view), "species-table", data=view.species),
        *_changes_part(view),
        html.H2("Taken for another"),
        html.P(
            "For recordings of a species, how often another one that is no label of them gets the "
            "higher probability.",
            className="soft",
        ),
        table_part(pairs_words(view).head(SHOWN_PAIRS), "species-pairs", data=view.pairs),
        *([] if static else _links_part(view)),
    ]


def _changes_part(view: SpeciesView) -> list[Part]:
    title = html.H2(f"Better and worse than {view.other_name}")
    if view.changes is None:
        return [title, *map(html.P, view.sentences)] if view.sentences else []
    notes = [html.Li(sentence) for sentence in view.changes.sentences]
    return [
        title,
        table_part(changes_words(view), "species-changes", data=view.changes.table),
        html.Ul(notes, className="soft"),
    ]


def _links_part(view: SpeciesView) -> list[Part]:
    """Links to the clearest example of the most frequent pairs, on the page that plays it."""
    if view.pairs.empty:
        return []
    links = [
        html.Li(
            html.A(
                f"{pair.species} taken for {pair.other}",
                href=f"/listen?{urlencode({'run': view.run, 'file': pair.example})}",
            )
        )
        for pair in view.pairs.head(LINKED_PAIRS).itertuples()
    ]
    return [html.H2("Listen to the clearest ones"), html.Ul(links)]


def _suspects(source: LabSource, run: str) -> SuspectsView:
    """The label suspects of a run, kept until the lab changes."""
    tables = source.tables()
    runs = tuple(judging_runs(tables, run))
    return source.keep(
        "suspects",
        runs,
        source.version,
        lambda: build_suspects_view(tables, source.fold_tables, run),
    )


def _suspects_part(view: SuspectsView | None, run: str, *, static: bool) -> list[Part]:
    """The recordings that all models get wrong, each with a link to the page that plays it."""
    if view is None:
        return []
    asked = ", ".join(view.runs.values())
    parts = [
        html.H2("Labels that every model contradicts"),
        html.P(f"Asked: {asked}.", className="soft"),
        html.Ul([html.Li(sentence) for sentence in view.sentences], className="soft"),
    ]
    table = view.suspects.table
    if table.empty:
        return parts
    parts.append(table_part(suspect_table(view.suspects), "species-suspects", data=table))
    parts.append(html.P(["As a list for ", html.Code("exclude"), ": ", html.Code(view.command)]))
    if static:
        return parts
    links = [
        html.Li(
            html.A(
                f"{row.filename}: labelled {row.primary_label}, heard {row.heard_instead}",
                href=f"/listen?{urlencode({'run': run, 'file': row.filename})}",
            )
        )
        for row in table.head(SHOWN_SUSPECTS).itertuples()
    ]
    return [*parts, html.Ul(links)]
