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
from birdlab.lab import BUILT_IN_DATA, Lab
from birdlab.recorded import AS_IS, is_foreign
from birdlab.runtables import steps_of
from birdlab.soundscapes import soundscape_truth
from birdlab.spec.parts import OutputSpec
from birdlab.spec.postprocess import PostStep
from birdlab.study.sounds import Kind, SoundFile, Sounds

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


@dataclass(frozen=True)
class HeardFile:
    """A file that has stored outputs of a run: its name there, and the folders with them.

    n_lacking: how many models of the run have not heard it and should have, as a score of its
    soundscapes is under way.
    """

    name: str
    kind: Kind
    folders: tuple[Path, ...]
    n_lacking: int = 0


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


def list_heard(lab: Lab, record: Mapping[str, Any], kind: Kind) -> dict[str, HeardFile]:
    """The files of a kind that a run has stored outputs of, by name, sorted.

    A recording has those of the fold that did not train on it, one for each seed; a soundscape
    those of every model of the run that heard it. Empty for a run without stored outputs.
    """
    folders: dict[str, dict[Path, Path]] = {}
    for cell in record["cells"]:
        if not cell.get("cell_id"):
            continue
        place, found = lab.cells / cell["cell_id"], list[Path]()
        if kind == "soundscape":
            found = sorted(place.glob("soundscapes-*"), key=lambda path: path.stat().st_mtime_ns)
        elif cell.get("fold") is not None and cell.get("eval_id"):
            found = [place / f"outputs-{cell['eval_id']}"]
        for folder in found:  # of two outputs of one model the newer ones count
            for name in _recordings(folder):
                folders.setdefault(name, {})[place] = folder
    n_models = len(record["cells"]) if kind == "soundscape" else 0
    return {
        name: HeardFile(name, kind, tuple(found.values()), max(0, n_models - len(found)))
        for name, found in sorted(folders.items())
    }


def heard_state(lab: Lab, record: Mapping[str, Any]) -> object:
    """What is equal as long as no outputs came or went in the cells of a run."""
    places = [lab.cells / str(cell.get("cell_id", "")) for cell in record["cells"]]
    return [place.stat().st_mtime_ns if place.is_dir() else 0 for place in places]


def _recordings(folder: Path) -> list[str]:
    """The recordings that outputs are of; none where they are not there (whole)."""
    path = folder / "recordings.parquet"
    if not path.is_file():
        return []
    return [str(name) for name in pd.read_parquet(path, columns=["recording"])["recording"]]


def load_hearing(
    record: Mapping[str, Any], file: HeardFile, sounds: Sounds, load: Load = load_outputs
) -> Hearing:
    """What the models of a run say of a file; see Hearing.

    Audio is not read, and need not be there. Raises OutputsError where outputs cannot be read.
    """
    output = AS_IS if is_foreign(record) else OutputSpec.model_validate(record["spec"]["output"])
    steps = steps_of(record)
    parts = [_windows_of(load(folder), file.name, output, steps) for folder in file.folders]
    end_s, codes = parts[0][0], parts[0][2]
    if any(part[2] != codes or not np.array_equal(part[0], end_s) for part in parts):
        raise OutputsError("the models of a run cut a file in different ways", where=file.name)
    probs = np.asarray(np.mean([part[1] for part in parts], axis=0, dtype=np.float64), np.float32)
    own = end_s[0] if len(end_s) == 1 else float(end_s[1] - end_s[0])
    name, first_s = _split_part(file.name)
    sound = _find(sounds, record, file, name)
    primary, secondary = parts[0][3], parts[0][4]
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


def _windows_of(
    stored: StoredOutputs, name: str, output: OutputSpec, steps: Sequence[PostStep]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], tuple[str, ...], str, tuple[str, ...]]:
    """end_s, probabilities, codes and the labels of one file, rows in time."""
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
    return (
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
