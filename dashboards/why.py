"""Why does one run score otherwise than another: which species and recordings, to see and hear?"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from dash import Dash, Input, Output, html, no_update

from birdlab.errors import OutputsError, ResolveError
from birdlab.recorded import list_networks
from birdlab.study.run_choice import list_judges
from birdlab.study.run_tables import RunTables
from birdlab.study.sounds import SoundFile
from birdlab.study.spectrogram import Spectrogram
from birdlab.study.splits import count_split_folds
from birdlab.study.why import Why, explain
from birdlab.study.why_figures import (
    LINES_LEGEND,
    MOVES_LEGEND,
    SHARES_LEGEND,
    get_moves_info,
    get_shares_info,
    plot_bars,
    plot_twice,
)
from birdlab.study.why_hearing import HeardTwice, hear_row, of_seeds
from birdlab.study.why_view import WhyChoice, WhyView, build_why_view
from birdlab.study.why_words import recordings_words, species_words
from dashboards.listen import Listener, embedded_part, player_part
from dashboards.parts import Part, choice_part, figure_part, page_part, table_part
from dashboards.source import LabSource
from dashboards.state import Options, Shown, State, follow_url, section_part
from dashboards.static import html_of

PATH, FILE, TITLE = "/why", "why.html", "Why"
QUESTION = "Why does one run score otherwise than another?"
CONTROLS = ("base", "run", "recording")
N_DRAWS = 300
STATIC_RECORDINGS = 3
"""So many recordings of an exported page have their sound."""
Named = tuple[str, str]


class Explainer:
    """What the page reads of two runs, kept by the source."""

    def __init__(self, source: LabSource) -> None:
        self.source, self.listener = source, Listener(source)

    def explain(self, base: Named, arm: Named) -> Why:
        """Why two runs differ; kept while the runs of the lab stay as they are."""
        return self.source.keep(
            "why", (base, arm), self.source.version, lambda: self._explain(base, arm)
        )

    def _explain(self, base: Named, arm: Named) -> Why:
        recordists = {**self.source.recordists(arm[0]), **self.source.recordists(base[0])}
        one, two = (RunTables(name, self.source.fold_tables(run)) for run, name in (base, arm))
        judges = {}
        for run in list_judges(self.source.tables().runs, (base[0], arm[0])):
            with suppress(OutputsError, ResolveError):  # outputs that are gone judge nothing
                if found := self.source.fold_tables(run):
                    judges[run] = found
        return explain(
            (one, two),
            recordists,
            split_folds=count_split_folds(self.source.record(base[0])),
            judges=judges,
            networks={
                name: list_networks(self.source.record(run))
                for run, name in (base, arm, *((run, run) for run in judges))
            },
            n_draws=N_DRAWS,
        )

    def hear(self, base: Named, arm: Named, why: Why, row: Mapping[Any, Any]) -> HeardTwice | str:
        """One recording as both runs hear it."""
        recording = str(row["recording"])
        files = {name: self.listener.heard(run, "recording") for run, name in (base, arm)}
        gone = [name for name, heard in files.items() if recording not in heard]
        if gone:
            return f"The stored outputs of {' and '.join(gone)} on {recording} are gone."
        records = {name: self.source.record(run) for run, name in (base, arm)}
        return hear_row(
            row,
            {name: of_seeds(record, why.seeds[name]) for name, record in records.items()},
            {name: heard[recording] for name, heard in files.items()},
            self.listener.sounds,
            self.listener.outputs,
        )

    def check(self, sound: SoundFile) -> None:
        """Raise DataError where the file is gone or may not be read."""
        self.listener.check(sound)

    def spectrogram(self, sound: SoundFile) -> Spectrogram:
        """The image of a file that was checked."""
        return self.listener.spectrogram(sound)


def build_layout() -> html.Div:
    """The page without its content, which the callback fills in from the URL."""
    controls = [
        choice_part("Run A, the base", "why-base", searchable=True),
        choice_part("Run B", "why-run", searchable=True),
        choice_part("Recording", "why-recording", searchable=True),
    ]
    return page_part("why", QUESTION, controls)


def register_callbacks(app: Dash, source: LabSource) -> None:
    """Keep controls, URL and content of the page in step; a recording can be clicked."""
    explainer = Explainer(source)
    follow_url(app, "why", CONTROLS, lambda wanted: _show(explainer, wanted))

    @app.callback(  # type: ignore[untyped-decorator]
        Output("why-recording", "value", allow_duplicate=True),
        Input("why-moves", "clickData"),
        prevent_initial_call=True,
    )
    def pick(click: dict[str, list[dict[str, str]]] | None) -> object:
        return click["points"][0]["customdata"] if click else no_update


def build_static(source: LabSource) -> str:
    """The champion, or the newest run, against its base; the sound of the first 3 recordings."""
    explainer = Explainer(source)
    view = _view(explainer, WhyChoice())
    if view.why is None:
        return html_of(section_part("", _shown(view, [])))
    which = f"{view.why.arm} against {view.why.base}"
    parts = [section_part(which, _shown(view, _about(view.why)))]
    for recording in view.recordings[:STATIC_RECORDINGS]:
        one = _view(explainer, WhyChoice(view.choice.base, view.choice.run, recording))
        parts.append(html.Section(_recording_part(one, embedded_part(_sound(one), one.audio))))
    return html_of(parts)


def _show(explainer: Explainer, wanted: State) -> Shown:
    view = _view(explainer, WhyChoice(wanted["base"], wanted["run"], wanted["recording"]))
    if view.why is None:
        return _shown(view, [])
    player = player_part(_sound(view), view.audio)
    return _shown(view, [*_about(view.why), *_recording_part(view, player)])


def _view(explainer: Explainer, wanted: WhyChoice) -> WhyView:
    tables = explainer.source.tables()
    return build_why_view(tables, explainer, wanted, explainer.source.champions())


def _shown(view: WhyView, content: list[Part]) -> Shown:
    bases, runs = (
        [option for option in view.runs if option["value"] != other]
        for other in (view.choice.run, view.choice.base)
    )
    offered: dict[str, Options] = {"base": bases, "run": runs, "recording": view.recordings}
    return Shown(asdict(view.choice), offered, view.answer, content)


def _about(why: Why) -> list[Part]:
    """The verdict, what species add, and what recordings move."""
    unit = f"difference in {why.split.metric}"
    return [
        html.Ul([html.Li(sentence) for sentence in why.sentences]),
        html.H2("What each species adds"),
        figure_part(plot_bars(get_shares_info(why), unit), "why-species-figure", title="species"),
        html.P(SHARES_LEGEND, className="soft"),
        table_part(species_words(why), "why-species", title="species", data=why.species),
        html.H2("The recordings that move most"),
        figure_part(plot_bars(get_moves_info(why), unit), "why-moves", title="recordings"),
        html.P(MOVES_LEGEND, className="soft"),
        html.Details(
            [
                html.Summary("As a table"),
                table_part(recordings_words(why), "why-recordings", data=why.recordings),
            ]
        ),
    ]


def _recording_part(view: WhyView, player: list[Part]) -> list[Part]:
    """One recording: player, spectrogram and lines, words."""
    assert view.why is not None
    names = view.why.base, view.why.arm
    figure = []
    if view.heard is not None:
        drawn = plot_twice(view.heard, view.spectrogram, names)
        figure = [figure_part(drawn, "why-lines", title=view.choice.recording)]
        figure.append(html.P(LINES_LEGEND, className="soft"))
    return [
        html.H2(view.choice.recording),
        *player,
        *figure,
        html.Ul([html.Li(sentence) for sentence in view.sentences], className="soft"),
    ]


def _sound(view: WhyView) -> SoundFile | None:
    return None if view.heard is None else view.heard.sound
