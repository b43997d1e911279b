"""What the listen page shows, worked out once: words, tables and the data of its figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import pandas as pd

from birdlab.errors import AudioError, DataError
from birdlab.study.heard_files import HeardFile
from birdlab.study.listening import Hearing, rank_species
from birdlab.study.listening_figures import HearingInfo, get_hearing_info
from birdlab.study.run_choice import NO_OUTPUTS, name_runs, pick_known, run_options, runs_with_cells
from birdlab.study.sounds import Kind, SoundFile
from birdlab.study.species import FoldTables, pool_folds
from birdlab.study.spectrogram import PLAIN, Spectrogram
from birdlab.study.tables import StudyTables
from birdlab.words import count_words

KINDS: tuple[Kind, ...] = ("recording", "soundscape")
KIND_NAMES = {"recording": "validation recordings", "soundscape": "soundscapes"}
MOST_FILES = 200
SHOWN_SPECIES = 8


@dataclass(frozen=True)
class ListenChoice:
    """What a reader may choose: a run, a kind of file, a text that files contain, and a file."""

    run: str = ""
    kind: str = ""
    text: str = ""
    file: str = ""


@dataclass(frozen=True, eq=False)
class ListeningView:
    """A file as shown: the choice made, what else there is, and what the models say of it.

    files: what the drop-down offers, as label and value; cut: in words, where that is not all;
    table: species with what is shown of them; sentences: what is to be known of it; audio: in words
    why there is no player, "" where there is one.
    """

    choice: ListenChoice
    runs: list[dict[str, str]]
    files: list[dict[str, str]]
    answer: str
    hearing: Hearing | None = None
    figure: HearingInfo | None = None
    table: pd.DataFrame | None = None
    sentences: tuple[str, ...] = ()
    audio: str = ""
    cut: str = ""


class Reader(Protocol):
    """What the view reads of a run; a page keeps it in memory."""

    def fold_tables(self, run: str) -> FoldTables:
        """Its out-of-fold tables, empty for none."""
        ...

    def heard(self, run: str, kind: Kind) -> Mapping[str, HeardFile]:
        """Its files of a kind, as `list_heard` gives them."""
        ...

    def hearing(self, run: str, file: HeardFile) -> Hearing:
        """What it says of one file, as `load_hearing` gives it."""
        ...

    def check(self, sound: SoundFile) -> None:
        """Raise DataError where the file is gone or may not be read, as `Sounds.require` does."""
        ...

    def spectrogram(self, sound: SoundFile) -> Spectrogram:
        """The image of a file, as `see_sound` gives it."""
        ...


def build_listening_view(
    tables: StudyTables, reader: Reader, wanted: ListenChoice
) -> ListeningView:
    """The page of one file of one run, for what the reader of the page wants.

    What does not exist becomes the first that does: the newest run, a kind that it has files of,
    the first file. Recordings are listed from the one whose own species gets the lowest
    probability, soundscapes by name; at most 200 that contain the text, in any case of letters.
    """
    runs = runs_with_cells(tables)
    names = name_runs(runs)
    run = pick_known(wanted.run, list(names))
    view = ListeningView(
        replace(wanted, run=run, file=""), run_options(runs, names), [], NO_OUTPUTS
    )
    if not run:
        return view
    kind = wanted.kind if wanted.kind in KINDS else KINDS[0]
    heard = reader.heard(run, "recording" if kind == "recording" else "soundscape")
    text = wanted.text.strip()
    choice = ListenChoice(run, kind, text)
    if not heard:
        return replace(view, choice=choice, answer=_nothing_heard(names[run], run, kind))
    labels = _label_files(heard, reader.fold_tables(run) if kind == "recording" else {})
    found = [name for name, label in labels.items() if text.lower() in label.lower()]
    files = [{"label": labels[name], "value": name} for name in found[:MOST_FILES]]
    choice = replace(choice, file=wanted.file if wanted.file in found else next(iter(found), ""))
    view = replace(view, choice=choice, files=files)
    if not choice.file:
        return replace(view, answer=f"None of {count_words(len(heard), 'file')} contains {text!r}.")
    if choice.file not in found[:MOST_FILES]:
        files.append({"label": labels[choice.file], "value": choice.file})
    if len(found) > MOST_FILES:
        view = replace(view, cut=f"The list holds the first {MOST_FILES} of {len(found):,} files.")
    return _show_file(view, names[run], reader, heard[choice.file])


def _nothing_heard(name: str, run: str, kind: str) -> str:
    if kind == "recording":
        return f"{name} has no stored outputs of recordings."
    return (
        f"{name} has no stored outputs of soundscapes: birdlab lb score {run} makes them for those "
        "of its leaderboard, evaluate.soundscapes in a spec for others."
    )


def _label_files(heard: Mapping[str, HeardFile], tables: FoldTables) -> dict[str, str]:
    """What each file is called in a list, in the order of the list."""
    if not tables:
        return {name: name for name in heard}
    pooled = pool_folds(tables)
    rows = range(len(pooled.recordings))
    own = pooled.probs[rows, pooled.primary]
    labels = {
        pooled.recordings[row]: f"{pooled.recordings[row]}: {pooled.codes[pooled.primary[row]]} "
        f"{own[row]:.2f}"
        for row in sorted(rows, key=lambda row: float(own[row]))
        if pooled.recordings[row] in heard
    }
    return labels | {name: f"{name}: partly in training" for name in heard if name not in labels}


def _show_file(view: ListeningView, name: str, reader: Reader, file: HeardFile) -> ListeningView:
    hearing = reader.hearing(view.choice.run, file)
    table = rank_species(hearing, SHOWN_SPECIES)
    sentences = [
        f"Each window is the mean of {_models(hearing)}.",
        f"What is known to be there: {hearing.known}.",
    ]
    if hearing.whole:
        sentences.append(
            "A foreign run has one probability of a whole file, drawn over its first window."
        )
    audio, spectrogram = _lacks_audio(reader, hearing), None
    if hearing.sound is not None and not audio:
        try:
            spectrogram = reader.spectrogram(hearing.sound)
            sentences.append(PLAIN)
        except AudioError as error:
            sentences.append(f"No image of the sound: {error.what}.")
    if hearing.sound is not None and hearing.sound.credit:
        sentences.append(f"Recorded by {hearing.sound.credit}.")
    return replace(
        view,
        answer=_answer(name, hearing, table),
        hearing=hearing,
        figure=get_hearing_info(hearing, spectrogram, SHOWN_SPECIES),
        table=table,
        sentences=tuple(sentences),
        audio=audio,
    )


def _lacks_audio(reader: Reader, hearing: Hearing) -> str:
    """Why there is nothing to play, "" where there is something."""
    if hearing.sound is None:
        return "No data set of the lab names this file, so there is nothing to play."
    try:
        reader.check(hearing.sound)
    except DataError as error:
        return f"Nothing to play: {error.what}."
    return ""


def _models(hearing: Hearing) -> str:
    if hearing.file.kind == "recording":
        seeds = count_words(hearing.n_models, "model")
        return f"{seeds} of the fold that did not train on this recording"
    lacking = hearing.file.n_lacking
    all_of = f" of {hearing.n_models + lacking}" if lacking else ""
    return f"{hearing.n_models}{all_of} models of the run"


def _answer(name: str, hearing: Hearing, table: pd.DataFrame) -> str:
    top = table.iloc[0]
    when = "" if hearing.whole else f" at {top['at']}"
    where = f"{hearing.file.name}: {top['highest']:.2f}{when}"
    heard = f"{name} hears {top['code']} most in {where}"
    if hearing.truth is None:
        return f"{heard}. Nobody has said what is in it."
    true = table[table["true"] != ""]
    if true.empty:
        return f"{heard}, and no species is known to be there."
    said = f"{heard}, which is {'one' if top['true'] else 'none'} of its labels."
    missed = true.iloc[-1]
    if missed["code"] == top["code"]:
        return f"{said} No other species is known to be there."
    least = f"{missed['code']} is heard least, at most {missed['highest']:.2f}"
    return f"{said} Of what is there {least}."


def hearing_words(view: ListeningView) -> pd.DataFrame:
    """The species of a file as a table to show, the highest first."""
    if view.table is None:
        return pd.DataFrame()
    return pd.DataFrame(
        {
            "species": view.table["code"],
            "highest probability": view.table["highest"].map("{:.3f}".format),
            "in the window": view.table["at"],
            "known to be there": view.table["true"],
        }
    )


def windows_words(view: ListeningView) -> pd.DataFrame:
    """Every window of the file with the probability of each shown species, as a table to save."""
    if view.hearing is None or view.figure is None:
        return pd.DataFrame()
    table = pd.DataFrame({"start_s": view.hearing.start_s, "end_s": view.hearing.end_s})
    for code, probs in zip(view.figure.codes, view.figure.probs, strict=True):
        table[code] = probs
    return table
