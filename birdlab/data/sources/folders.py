"""Folders that say what they are: competitions, downloads, annotated sets, plain audio."""

from __future__ import annotations

from birdlab.data.catalog import Dataset
from birdlab.data.sources.birdclef import find_table, load_birdclef, load_classes
from birdlab.data.sources.place import Place
from birdlab.data.sources.recordings import list_recordings
from birdlab.data.sources.soundscapes import (
    load_competition_soundscapes,
    load_soundscapes,
    load_window_labels,
)
from birdlab.data.sources.tables import XENO_CANTO_AUDIO, XENO_CANTO_TABLE, load_xeno_canto
from birdlab.spec.kinds import implements
from birdlab.spec.sources import (
    AutoSource,
    BirdclefSource,
    DemoSource,
    SoundscapesSource,
    XenoCantoSource,
)

ANNOTATIONS = "annotations.csv"
"""The table of the annotated soundscapes on Zenodo."""


@implements(AutoSource)
def load_folder(source: AutoSource, place: Place) -> Dataset:
    """The data set of a folder, read by the first thing it is told by.

    A table of a competition; recordings.csv beside audio/; annotations.csv; else all audio
    below it, of which nothing is known. Raises DataError when there is none.
    """
    root, path = place.root, source.path
    if find_table(root) is not None:
        return load_birdclef(BirdclefSource(path=path), place)
    if (root / XENO_CANTO_TABLE).is_file() and (root / XENO_CANTO_AUDIO).is_dir():
        return load_xeno_canto(XenoCantoSource(path=path), place)
    if (root / ANNOTATIONS).is_file():
        return load_soundscapes(SoundscapesSource(path=path, annotations=ANNOTATIONS), place)
    recordings = list_recordings(place.name, root)
    soundscapes, annotations = load_competition_soundscapes(place)
    classes = load_classes(root)
    labels = load_window_labels(place, classes)
    return Dataset(place.name, root, recordings, classes, soundscapes, labels, annotations)


@implements(DemoSource)
def load_demo(source: DemoSource, place: Place) -> Dataset:
    """The generated competition or part of it; generating it is the caller's part."""
    return load_folder(AutoSource(path=source.path), place)
