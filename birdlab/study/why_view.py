"""What the why page shows, worked out once: the answer, its tables, and one recording."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from birdlab.errors import AudioError, DataError, OutputsError
from birdlab.study.run_choice import (
    NO_OUTPUTS,
    name_runs,
    newest_peer,
    pick_known,
    run_options,
    runs_with_cells,
)
from birdlab.study.sounds import SoundFile
from birdlab.study.spectrogram import PLAIN, Spectrogram
from birdlab.study.tables import StudyTables
from birdlab.study.why import Why
from birdlab.study.why_hearing import HeardTwice
from birdlab.study.why_words import recording_sentences


@dataclass(frozen=True)
class WhyChoice:
    """What a reader may choose: the base, the run that is compared with it, and a recording."""

    base: str = ""
    run: str = ""
    recording: str = ""


@dataclass(frozen=True, eq=False)
class WhyView:
    """A difference as shown: the choice made, what else there is, and why.

    runs, recordings: what the drop-downs offer; heard: the chosen recording, None where nothing can
    be shown of it; spectrogram: None where its audio is not there, which `audio` says in words;
    sentences: what is known of the recording.
    """

    choice: WhyChoice
    runs: list[dict[str, str]]
    answer: str
    why: Why | None = None
    recordings: tuple[str, ...] = ()
    heard: HeardTwice | None = None
    spectrogram: Spectrogram | None = None
    sentences: tuple[str, ...] = ()
    audio: str = ""


class Reader(Protocol):
    """What the view reads of two runs; a page keeps it in memory."""

    def explain(self, base: tuple[str, str], arm: tuple[str, str]) -> Why:
        """Why two runs, (id, name) each, differ.

        DataError where they share nothing, OutputsError where stored outputs are gone.
        """
        ...

    def hear(
        self, base: tuple[str, str], arm: tuple[str, str], why: Why, row: Mapping[Any, Any]
    ) -> HeardTwice | str:
        """One recording of it as both hear it; in words why not."""
        ...

    def check(self, sound: SoundFile) -> None:
        """Raise DataError where the file is gone or may not be read, as `Sounds.require` does."""
        ...

    def spectrogram(self, sound: SoundFile) -> Spectrogram:
        """The image of a file, as `see_sound` gives it."""
        ...


def build_why_view(
    tables: StudyTables, reader: Reader, wanted: WhyChoice, champions: Collection[str] = ()
) -> WhyView:
    """The page of one pair of runs, for what the reader of the page wants.

    What does not exist becomes what does: the run of the champion that has a peer, else the newest
    with one, else the newest; as its base the newest run without a delta among its peers. Without a
    recording the one that moves most is shown.
    """
    runs = runs_with_cells(tables)
    names = name_runs(runs)
    options = run_options(runs, names)
    if len(names) < 2:
        said = NO_OUTPUTS if not names else "It takes two runs with stored outputs: there is one."
        return WhyView(replace(wanted, recording=""), options, said)
    peers = {run: newest_peer(runs, run) for run in names}
    known = [run for run in names if run != wanted.base]
    likely = [run for run in known if peers[run]]
    first = [run for run in likely if run in champions]
    run = wanted.run if wanted.run in known else pick_known("", [*first, *likely, *known])
    others = [other for other in names if other != run]
    base = wanted.base if wanted.base in others else pick_known(peers[run], others)
    choice = WhyChoice(base, run)
    view = WhyView(choice, options, "")
    pair = (base, names[base]), (run, names[run])
    try:
        why = reader.explain(*pair)
    except (DataError, OutputsError) as error:
        return replace(view, answer=f"{names[run]} and {names[base]} do not compare: {error.what}.")
    rows = {str(row["recording"]): row for row in why.recordings.to_dict("records")}
    chosen = pick_known(wanted.recording, list(rows))
    view = replace(
        view,
        choice=replace(choice, recording=chosen),
        answer=why.answer,
        why=why,
        recordings=tuple(rows),
    )
    return _show_recording(view, reader, why, rows[chosen], pair) if chosen else view


def _show_recording(
    view: WhyView,
    reader: Reader,
    why: Why,
    row: Mapping[Any, Any],
    pair: tuple[tuple[str, str], tuple[str, str]],
) -> WhyView:
    heard = reader.hear(*pair, why, row)
    if isinstance(heard, str):
        return replace(view, sentences=(heard, *recording_sentences(row, None, why)))
    view = replace(view, heard=heard, sentences=tuple(recording_sentences(row, heard, why)))
    if heard.sound is None:
        return replace(view, audio="No data set of the lab names this file: nothing to play.")
    try:
        reader.check(heard.sound)
        image = reader.spectrogram(heard.sound)
    except (AudioError, DataError) as error:
        return replace(view, audio=f"Nothing to play: {error.what}.")
    return replace(view, spectrogram=image, sentences=(*view.sentences, PLAIN))
