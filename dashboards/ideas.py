"""What do all sweeps say of an idea, which verdicts are old, what is worth a new try?"""

from __future__ import annotations

import pandas as pd
from dash import Dash, html

from birdlab.study.idea_figures import (
    FOREST_LEGEND,
    IDEAS_LEGEND,
    get_forest_info,
    plot_forest,
    plot_ideas,
)
from birdlab.study.ideas import By, IdeaLedger, over_data
from birdlab.study.lab_ideas import LabIdeas, load_ideas
from birdlab.study.reopen import Reopening
from dashboards.bets import bets_part
from dashboards.parts import Part, choice_part, figure_part, list_part, page_part, table_part
from dashboards.source import LabSource
from dashboards.state import Shown, State, follow_url, section_part
from dashboards.static import html_of

PATH, FILE, TITLE = "/ideas", "ideas.html", "Ideas"
QUESTION = "What do all sweeps say of an idea, and which is worth a new try?"
BY = ("idea", "family")
SHOWN_STATIC = 12
"""So many ideas have a section of their own in an export, those on most bases."""
IDEA_TABLE = (
    *("title", "says", "n_verdicts", "n_bases", "n_data", "mean", "low", "high", "tau"),
    *("predict_low", "predict_high"),
)
STALE_TABLE = ("title", "sweep", "arm", "verdict", "gain", "today", "changed_since", "decided_at")
REOPEN_TABLE = (
    *("try", "title", "worth", "chance", "expected", "observed", "last_verdict", "n_changed"),
    *("cells", "hours", "command"),
)
VERDICT_TABLE = (
    *("sweep", "arm", "data", "gain", "se", "n_folds", "n_seeds", "verdict", "left_out"),
    "decided_at",
)


def build_layout() -> html.Div:
    """The page without its content, which the callback fills in from the URL."""
    controls = [
        choice_part("An idea is", "ideas-by"),
        choice_part("Idea in detail", "ideas-idea", searchable=True, none="none"),
    ]
    return page_part("ideas", QUESTION, controls)


def register_callbacks(app: Dash, source: LabSource) -> None:
    """Keep controls, URL and content of the page in step."""
    follow_url(app, "ideas", ("by", "idea"), lambda wanted: _show(source, wanted))


def build_static(source: LabSource) -> str:
    """The page as HTML that needs no server: the ledger, then its first ideas in detail."""
    shown = _show(source, {})
    ledger = _load(source, "idea").ledger
    sections = [section_part("", shown)]
    for row in ledger.ideas.head(SHOWN_STATIC).to_dict("records"):
        detail = _lay_out_idea(ledger, str(row["idea"]))
        sections.append(section_part(str(row["title"]), Shown({}, {}, str(row["note"]), detail)))
    return html_of(sections)


def _load(source: LabSource, by: str) -> LabIdeas:
    """The ideas of the lab, kept until a run or a sweep is recorded."""
    sweeps = {name: record.get("updated_at") for name, record in source.sweeps().items()}
    state = (sweeps, source.state())
    kind: By = "family" if by == "family" else "idea"
    return source.keep("ideas", kind, state, lambda: load_ideas(source.lab, by=kind))


def _show(source: LabSource, wanted: State) -> Shown:
    by = wanted.get("by", "") if wanted.get("by", "") in BY else BY[0]
    found = _load(source, by)
    ledger = found.ledger
    titles = _titles(ledger.ideas)
    title = wanted.get("idea", "") if wanted.get("idea", "") in titles else ""
    content: list[Part] = []
    if title:
        row = ledger.ideas[ledger.ideas["idea"] == titles[title]].iloc[0]
        content += [html.H2(title), html.P(str(row["note"])), *_lay_out_idea(ledger, titles[title])]
    content += [*_lay_out(found), *bets_part(source)]
    options = {"by": list(BY), "idea": list(titles)}
    return Shown({"by": by, "idea": title}, options, " ".join(found.sentences), content)


def _titles(ideas: pd.DataFrame) -> dict[str, str]:
    """Each idea by its title, with its id where several have one."""
    several = ideas["title"].duplicated(keep=False)
    titles = ideas["title"].where(~several, ideas["title"] + " (" + ideas["idea"] + ")")
    return dict(zip(titles, ideas["idea"], strict=True))


def _lay_out(found: LabIdeas) -> list[Part]:
    ideas = found.ledger.ideas
    if ideas.empty:
        return []
    several = [
        figure_part(plot_ideas(ideas), "ideas-all", title="ideas on several bases"),
        html.P(IDEAS_LEGEND, className="soft"),
    ]
    return [
        html.H2("Ideas"),
        *(several if (ideas["n_bases"] > 1).any() else []),
        table_part(_rounded(ideas[list(IDEA_TABLE)]), "ideas", data=ideas),
        *_lay_out_reopening(found.reopening),
        *_lay_out_stale(found.stale),
    ]


def _lay_out_idea(ledger: IdeaLedger, idea: str) -> list[Part]:
    own = ledger.of(idea)
    bases = ledger.bases(idea)
    data = over_data(bases) if len(bases) else None
    said = (
        []
        if data is None
        else [
            f"Each data set as one: {data.mean:+.4f} ({data.low:+.4f} to {data.high:+.4f}) over "
            f"{data.n} data sets."
        ]
    )
    return [
        figure_part(
            plot_forest(get_forest_info(ledger, idea)), "ideas-forest", title="verdicts on the idea"
        ),
        html.P(FOREST_LEGEND, className="soft"),
        *[html.P(sentence) for sentence in said],
        table_part(
            _rounded(own[list(VERDICT_TABLE)]),
            "verdicts",
            data=own.drop(columns=["cells", "base_cells"]),
        ),
    ]


def _lay_out_reopening(found: Reopening | None) -> list[Part]:
    if found is None:
        return []
    known = found.spread is not None and len(found.table) > 0
    shown = found.table[list(REOPEN_TABLE)]
    return [
        html.H2("What is worth a new try"),
        html.Ul([html.Li(sentence) for sentence in found.sentences]),
        *([table_part(_rounded(shown), "reopen", data=found.table)] if known else []),
    ]


def _lay_out_stale(stale: pd.DataFrame) -> list[Part]:
    if stale.empty:
        return list_part("Stale verdicts", ["No verdict is stale."])
    shown = _rounded(stale[list(STALE_TABLE)])
    return [html.H2("Stale verdicts"), table_part(shown, "stale", data=stale)]


def _rounded(table: pd.DataFrame) -> pd.DataFrame:
    return table.round({name: 4 for name in table.columns if table[name].dtype.kind == "f"})
