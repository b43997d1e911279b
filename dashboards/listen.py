"""What do the models of a run hear in one file, and is it there?"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlencode

from dash import Dash, html
from flask import Response, request, send_file

from birdlab.errors import AudioError, DataError
from birdlab.evaluate.outputs import StoredOutputs, load_outputs
from birdlab.study.heard_files import HeardFile, heard_state, list_heard
from birdlab.study.listening import Hearing, load_hearing
from birdlab.study.listening_figures import plot_hearing
from birdlab.study.listening_view import (
    KIND_NAMES,
    KINDS,
    ListenChoice,
    ListeningView,
    build_listening_view,
    hearing_words,
    windows_words,
)
from birdlab.study.sounds import Kind, SoundFile, Sounds, embed_sound, mime_of, play_as_wav
from birdlab.study.species import FoldTables
from birdlab.study.spectrogram import Spectrogram, see_sound
from dashboards.parts import (
    Part,
    audio_part,
    choice_part,
    figure_part,
    page_part,
    table_part,
    text_part,
)
from dashboards.source import LabSource
from dashboards.state import Shown, State, follow_url, section_part
from dashboards.static import html_of

PATH, FILE, TITLE = "/listen", "listen.html", "Listen"
QUESTION = "What do the models of a run hear in a file, and is it there?"
AUDIO_PATH = "/audio"
CONTROLS = ("run", "kind", "text", "file")
LEGEND = (
    "Numbers and colours: the probability in each window. ● before a name: known to be in the "
    "file; orange dots: windows with this label."
)


class Listener:
    """What the page reads of runs and sounds, kept by the source."""

    def __init__(self, source: LabSource) -> None:
        self.source, self.sounds = source, Sounds(source.lab)

    def fold_tables(self, run: str) -> FoldTables:
        """The out-of-fold tables of a run, empty for none."""
        return self.source.fold_tables(run)

    def heard(self, run: str, kind: Kind) -> Mapping[str, HeardFile]:
        """The files of a kind that a run has stored outputs of."""
        if not self.source.has_record(run):
            return {}
        lab, record = self.source.lab, self.source.record(run)
        state = heard_state(lab, record)
        return self.source.keep("heard", (run, kind), state, lambda: list_heard(lab, record, kind))

    def hearing(self, run: str, file: HeardFile) -> Hearing:
        """What a run says of one file."""
        record = self.source.record(run)
        return self.source.keep(
            "hearing",
            (run, file.kind, file.name),
            file.folders,
            lambda: load_hearing(record, file, self.sounds, self.outputs),
        )

    def check(self, sound: SoundFile) -> None:
        """Raise DataError where the file is gone or may not be read."""
        self.sounds.require(sound.dataset, sound.kind, sound.file)

    def spectrogram(self, sound: SoundFile) -> Spectrogram:
        """The image of a file that was checked."""
        path = sound.path
        return self.source.keep("spectrogram", path, None, lambda: see_sound(path))

    def outputs(self, folder: Path) -> StoredOutputs:
        """The stored outputs in a folder."""
        return self.source.keep("outputs", folder, None, lambda: load_outputs(folder))


def build_layout() -> html.Div:
    """The page without its content, which the callback fills in from the URL."""
    controls = [
        choice_part("Run", "listen-run", searchable=True),
        choice_part("Kind of file", "listen-kind"),
        text_part("Files that contain", "listen-text", placeholder="name or species"),
        choice_part("File", "listen-file", searchable=True),
    ]
    return page_part("listen", QUESTION, controls)


def register_callbacks(app: Dash, source: LabSource) -> None:
    """Keep controls, URL and content of the page in step, and serve the sounds."""
    listener = Listener(source)
    follow_url(app, "listen", CONTROLS, lambda wanted: _show(listener, wanted), texts=("text",))
    app.server.add_url_rule(AUDIO_PATH, "audio", lambda: _serve(listener.sounds))


def build_static(source: LabSource) -> str:
    """A few files of the newest run that has outputs, each with at most 0.8 MB of sound."""
    listener = Listener(source)
    parts = []
    for kind in KINDS:
        first = build_listening_view(source.tables(), listener, ListenChoice(kind=kind))
        files = [option["value"] for option in first.files]
        for file in dict.fromkeys([*files[:1], *files[-1:]]):
            wanted = ListenChoice(first.choice.run, kind, "", file)
            view = build_listening_view(source.tables(), listener, wanted)
            shown = _shown(view, embedded_part(_sound(view), view.audio))
            parts.append(section_part(file, shown))
        if not files:
            parts.append(section_part(KIND_NAMES[kind], _shown(first, [])))
    return html_of(parts)


def _show(listener: Listener, wanted: State) -> Shown:
    choice = ListenChoice(wanted["run"], wanted["kind"], wanted["text"], wanted["file"])
    view = build_listening_view(listener.source.tables(), listener, choice)
    cut = [html.P(view.cut, className="soft")] if view.cut else []
    return _shown(view, [*cut, *player_part(_sound(view), view.audio)])


def _shown(view: ListeningView, player: list[Part]) -> Shown:
    kinds = [{"label": KIND_NAMES[kind], "value": kind} for kind in KINDS]
    return Shown(
        asdict(view.choice),
        {"run": view.runs, "kind": kinds, "file": view.files},
        view.answer,
        _lay_out(view, player),
    )


def _lay_out(view: ListeningView, player: list[Part]) -> list[Part]:
    if view.figure is None:
        return []
    return [
        *player,
        html.Div(figure_part(plot_hearing(view.figure), "listen-windows"), className="crowded"),
        html.P(LEGEND, className="soft"),
        html.Ul([html.Li(sentence) for sentence in view.sentences], className="soft"),
        html.H2("Species"),
        table_part(hearing_words(view), "listen-species", data=view.table),
        html.Details(
            [html.Summary("Every window"), table_part(windows_words(view), "listen-windows-table")]
        ),
    ]


def _sound(view: ListeningView) -> SoundFile | None:
    return None if view.hearing is None else view.hearing.sound


def player_part(sound: SoundFile | None, lacking: str) -> list[Part]:
    """A player of a file, which the server sends; why there is none, where that is said."""
    if sound is None or lacking:
        return [html.P(lacking, className="soft")] if lacking else []
    return [audio_part(sound_address(sound), sound.file)]


def embedded_part(sound: SoundFile | None, lacking: str) -> list[Part]:
    """A player that needs no server: the sound is in the page, the start of a long one."""
    if sound is None or lacking:
        return [html.P(lacking, className="soft")] if lacking else []
    try:
        address, seconds = embed_sound(sound.path)
    except AudioError as error:
        return [html.P(f"Nothing to play: {error.what}.", className="soft")]
    held = html.P(f"{seconds:.0f} s of the sound are in this page.", className="soft")
    return [audio_part(address, sound.file), held]


def sound_address(sound: SoundFile) -> str:
    """Where this server plays a sound."""
    query = urlencode({"dataset": sound.dataset, "kind": sound.kind, "file": sound.file})
    return f"{AUDIO_PATH}?{query}"


def _serve(sounds: Sounds) -> Response:
    """A sound that a data set of the lab names; 404 for anything else."""
    asked = (request.args.get(name, "") for name in ("dataset", "kind", "file"))
    try:
        path = sounds.require(*asked).path
        media = mime_of(path)
        # In memory: a browser that stops halfway would leave an open file behind.
        sound = io.BytesIO(path.read_bytes() if media else play_as_wav(path))
    except DataError as error:
        return Response(f"{error.what}\n", 404, mimetype="text/plain")
    return send_file(sound, mimetype=media or "audio/wav", conditional=True)
