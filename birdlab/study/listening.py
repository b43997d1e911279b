"""What a run says of one file over time, beside what is known to be in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from birdlab.data.catalog import Dataset
from birdlab.data.classes import ClassList
from birdlab.data.windows_truth import window_targets
from birdlab.errors import DataError, OutputsError
from birdlab.evaluate.deployed import deployed_probs
from birdlab.evaluate.outputs import StoredOutputs, load_outputs
from birdlab.lab import BUILT_IN_DATA
from birdlab.recorded import AS_IS, is_foreign
from birdlab.runtables import steps_of
from birdlab.soundscapes import soundscape_truth
from birdlab.spec.parts import OutputSpec
from birdlab.spec.postprocess import PostStep
from birdlab.study.heard_files import HeardFile
from birdlab.study.sounds import SoundFile, Sounds

Load = Callable[[Path], StoredOutputs]
"""Reads stored outputs, from memory where it has them."""

Span = tuple[str, float, float]
"""A label in time: code, start and end in seconds."""

_PART = re.compile(r"\[([\d.]+)-([\d.]*)\]$")
PER_WINDOW = "labels per window"
IN_TIME = "labels in time, marked on the windows that hold them"
OF_FILE = "primary and secondary labels of the whole recording"
NO_LABELS = "no labels"
WHOLE = "the whole file"


@dataclass(frozen=True, eq=False)
class Hearing:
    """The mean of a run's models over the windows of one file.

    start_s and end_s: [W] of each window, on the clock of the file; probs: [W, C] the deployed
    probability; n_models: how many models it is the mean of; truth: [W, C], or None where nothing
    is known; spans: labels in time, (code, start_s, end_s); primary and secondary: labels of a
    recording; known: in words, where the truth comes from; sound: the audio file, None where no
    data set of the lab names it; whole: the one window stands for all of the file, as in a foreign
    run, which has one probability of a file.
    """

    file: HeardFile
    codes: tuple[str, ...]
    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    probs: npt.NDArray[np.float32]
    n_models: int
    truth: npt.NDArray[np.bool_] | None
    spans: tuple[Span, ...]
    primary: str
    secondary: tuple[str, ...]
    known: str
    sound: SoundFile | None
    whole: bool = False


def load_hearing(
    record: Mapping[str, Any], file: HeardFile, sounds: Sounds, load: Load = load_outputs
) -> Hearing:
    """What the models of a run say of a file; see Hearing.

    Audio is not read, and need not be there. Raises OutputsError where outputs cannot be read.
    """
    output = AS_IS if is_foreign(record) else OutputSpec.model_validate(record["spec"]["output"])
    steps = steps_of(record)
    parts = [_windows_of(load(folder), file.name, output, steps) for folder in file.folders]
    end_s, codes = parts[0].end_s, parts[0].codes
    if any(part.codes != codes or not np.array_equal(part.end_s, end_s) for part in parts):
        raise OutputsError("the models of a run cut a file in different ways", where=file.name)
    probs = np.asarray(
        np.mean([part.probs for part in parts], axis=0, dtype=np.float64), np.float32
    )
    own = end_s[0] if len(end_s) == 1 else float(end_s[1] - end_s[0])
    name, first_s = _split_part(file.name)
    sound = _find(sounds, record, file, name)
    primary, secondary = parts[0].primary, parts[0].secondary
    truth: npt.NDArray[np.bool_] | None = None
    spans: tuple[Span, ...] = ()
    known = NO_LABELS
    if file.kind == "recording":
        classes = ClassList(codes)
        labels = classes.encode([primary], [secondary], secondary_weight=1.0) > 0
        truth, known = np.repeat(labels, len(end_s), axis=0), OF_FILE
    elif sound is not None:
        data = sounds.dataset(sound.dataset)
        assert data is not None
        truth, spans, known = _soundscape_truth(
            data, sound.file, len(end_s), ClassList(codes), float(own)
        )
    return Hearing(
        file,
        codes,
        end_s - own + first_s,
        end_s + first_s,
        probs,
        len(parts),
        truth,
        spans,
        primary,
        secondary,
        known,
        sound,
        whole=is_foreign(record),
    )


@dataclass(frozen=True, eq=False)
class _Windows:
    """What one model says of one file, probs [W, C], windows in time; and the labels of it."""

    end_s: npt.NDArray[np.float64]
    probs: npt.NDArray[np.float32]
    codes: tuple[str, ...]
    primary: str
    secondary: tuple[str, ...]


def _windows_of(
    stored: StoredOutputs, name: str, output: OutputSpec, steps: Sequence[PostStep]
) -> _Windows:
    """What one model says of one file."""
    w = stored.windows
    place = w.recordings.index(name)
    chosen = np.flatnonzero(w.recording_index == place)
    chosen = chosen[np.argsort(w.end_s[chosen], kind="stable")]
    alone = replace(
        w,
        recordings=(name,),
        recording_index=np.zeros(len(chosen), np.int64),
        end_s=np.asarray(w.end_s[chosen], np.float64),
        clip_probs=w.clip_probs[chosen],
        time_max=w.time_max[chosen],
    )
    rows = deployed_probs(StoredOutputs(alone, stored.labels.iloc[[place]]), output, steps)
    label = stored.labels.iloc[place]
    return _Windows(
        rows.end_s,
        rows.probs,
        w.codes,
        str(label["primary_label"]),
        tuple(label["secondary_labels"]),
    )


def _split_part(name: str) -> tuple[str, float]:
    """The file of a row and the second at which its part begins: `a.ogg[5-10]` begins at 5."""
    part = _PART.search(name)
    return (name[: part.start()], float(part[1])) if part else (name, 0.0)


def _find(
    sounds: Sounds, record: Mapping[str, Any], file: HeardFile, name: str
) -> SoundFile | None:
    """The audio of a file of a run, looked for in the data sets that its spec names, then in all
    of the lab."""
    said = {} if is_foreign(record) else record["spec"]
    data, evaluate = said.get("data", {}), said.get("evaluate", {})
    named = [data.get("base"), *data.get("extra", ())]
    if file.kind == "soundscape":
        for known in evaluate.get("soundscapes", ()):  # stored as <data set>/<file>
            found = sounds.find(name.removeprefix(f"{known}/"), "soundscape", [known])
            if found is not None and name.startswith(f"{known}/"):
                return found
        named = [*data.get("soundscapes", ()), *named]
    others = [*sounds.lab.file.data, *BUILT_IN_DATA]
    names = dict.fromkeys(str(known) for known in [*named, *others] if known)
    return sounds.find(file.name, file.kind, names) or sounds.find(name, file.kind, names)


def _soundscape_truth(
    data: Dataset, file: str, n_windows: int, classes: ClassList, window_s: float
) -> tuple[npt.NDArray[np.bool_] | None, tuple[Span, ...], str]:
    """[W, C] what each window of a soundscape holds, labels in time, and how that is known."""
    row = data.soundscapes[data.soundscapes["filename"] == file]
    nothing = None, (), NO_LABELS
    if (row["split"] == "unlabelled").all():
        return nothing
    if len(data.soundscape_labels):
        try:
            truth, _ = soundscape_truth(data, row, np.array([n_windows]), classes, window_s)
        except DataError:  # the table names other windows, or other classes
            return nothing
        return truth.to_numpy() > 0, (), PER_WINDOW
    if data.annotations.empty:
        return nothing
    heard = pd.DataFrame({"filename": [file], "duration_s": [n_windows * window_s]})
    truth = window_targets(data.annotations, heard, classes, window_s)[list(classes)]
    own = data.annotations[data.annotations["filename"] == file]
    spans = zip(own["label"], own["start_s"].astype(float), own["end_s"].astype(float), strict=True)
    return truth.to_numpy() > 0, tuple(spans), IN_TIME


def rank_species(hearing: Hearing, most: int = 8) -> pd.DataFrame:
    """The species that are shown of a file, highest first: code, highest, at, true.

    The `most` with the highest probability in any window, and all that are known to be in the
    file. at: the window of the highest probability in words; true: `primary`, `secondary` or in
    how many windows, "" for a species that is not known to be there.
    """
    highest = hearing.probs.max(axis=0)
    order = np.argsort(-highest, kind="stable")
    there = set[int]()
    if hearing.truth is not None:
        there = set(np.flatnonzero(hearing.truth.any(axis=0)).tolist())
    shown = [c for i, c in enumerate(order.tolist()) if i < most or c in there]
    at = hearing.probs.argmax(axis=0)
    return pd.DataFrame(
        {
            "code": [hearing.codes[c] for c in shown],
            "highest": highest[shown].astype(float),
            "at": [
                WHOLE
                if hearing.whole
                else f"{hearing.start_s[at[c]]:g} to {hearing.end_s[at[c]]:g} s"
                for c in shown
            ],
            "true": [_true_words(hearing, c) for c in shown],
        }
    )


def _true_words(hearing: Hearing, column: int) -> str:
    code = hearing.codes[column]
    if hearing.truth is None or not hearing.truth[:, column].any():
        return ""
    if hearing.file.kind == "recording":
        return "primary" if code == hearing.primary else "secondary"
    return f"{int(hearing.truth[:, column].sum())} of {len(hearing.start_s)} windows"
