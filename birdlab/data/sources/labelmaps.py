"""Maps between sets of labels: taxonomy synonyms, and 822 pretraining species to 264 scored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from birdlab.data.catalog import Dataset
from birdlab.data.classes import ClassList
from birdlab.data.csvfile import Findings, read_text_table, text_column
from birdlab.data.paths import lab_file
from birdlab.errors import DataError
from birdlab.spec.sources import SourceSpec


def map_labels(dataset: Dataset, source: SourceSpec, lab_root: Path) -> Dataset:
    """The data set with its labels renamed: first by `synonyms`, then by `labels`.

    Rows whose primary label maps to nothing are dropped, and noted, as are such secondary
    labels and classes; an annotation stays with label "", for what is heard there is no
    silence. Columns of window labels that become one class are joined by their maximum. Raises
    DataError for a map that contradicts itself, that lists every label which `labels` leaves
    out, and when no row is left.
    """
    if source.synonyms is not None:
        where = f"data.{dataset.name}.synonyms"
        known = load_map(lab_file(lab_root, source.synonyms, where))
        dataset = _renamed(dataset, {label: known.get(label, label) for label in _all(dataset)})
    if source.labels is not None:
        where = f"data.{dataset.name}.labels"
        path = lab_file(lab_root, source.labels, where)
        known = load_map(path)
        lacking = sorted(_all(dataset) - known.keys())
        if lacking:
            raise DataError(
                f"{len(lacking)} labels of {dataset.name} are not in its label map",
                where=f"{path}, named by {where}",
                got=", ".join(lacking),
                expected="every label, primary and secondary, in the column `from`",
                fix="add a line for each; an empty `to` drops the label",
            )
        dataset = _renamed(dataset, known)
    return dataset


def load_map(path: Path) -> dict[str, str]:
    """The label that each label becomes, from the columns `from` and `to`; "" drops it.

    Raises DataError for a label that is empty or becomes two things.
    """
    table = read_text_table(path, ["from", "to"])
    old, new = text_column(table, "from"), text_column(table, "to")
    pairs = pd.DataFrame({"from": old, "to": new}).drop_duplicates()
    findings = Findings(path)
    findings.add("`from` is empty", old.index[old == ""] + 2)
    findings.add("label becomes two things", pairs["from"][pairs["from"].duplicated()])
    findings.raise_if_any()
    return dict(zip(pairs["from"].tolist(), pairs["to"].tolist(), strict=True))


def _all(dataset: Dataset) -> set[str]:
    """Every label of a data set: of recordings, windows, annotations, and the stated classes."""
    recordings = dataset.recordings
    labels = {*recordings["primary_label"], *dataset.annotations["label"]}
    labels.update(label for cell in recordings["secondary_labels"] for label in cell)
    labels.update(name for name in dataset.soundscape_labels.columns if name != "row_id")
    labels.update(dataset.classes or ())
    return labels - {""}


def _renamed(dataset: Dataset, known: Mapping[str, str]) -> Dataset:
    rows = dataset.recordings
    primary = pd.Series(
        [known.get(code, code) for code in rows["primary_label"].tolist()], rows.index, dtype=str
    )
    secondary = [
        _other_labels((known[label] for label in cell), code)
        for cell, code in zip(rows["secondary_labels"], primary, strict=True)
    ]
    dropped = (primary == "") & (rows["primary_label"] != "")
    if len(rows) and dropped.all():
        raise DataError(
            f"the label map of {dataset.name} leaves no recording",
            fix="map at least one of its labels to a code of the competition",
        )
    findings = Findings(dataset.root)
    findings.note("row whose label maps to nothing: dropped", rows["recording"][dropped])
    mapped = rows.assign(
        primary_label=primary, secondary_labels=pd.Series(secondary, rows.index, dtype=object)
    )
    labels = [known.get(label, label) for label in dataset.annotations["label"].tolist()]
    annotations = dataset.annotations.assign(
        label=pd.Series(labels, dataset.annotations.index, dtype=str)
    )
    return replace(
        dataset,
        recordings=mapped[~dropped].reset_index(drop=True),
        classes=_mapped_classes(dataset.classes, known),
        soundscape_labels=_mapped_columns(dataset.soundscape_labels, known),
        annotations=annotations.drop_duplicates().reset_index(drop=True),
        notes=(*dataset.notes, *findings.notes),
    )


def _other_labels(labels: Iterable[str], primary: str) -> tuple[str, ...]:
    """The labels each once, without those that map to nothing or to the primary one."""
    return tuple(dict.fromkeys(label for label in labels if label not in ("", primary)))


def _mapped_classes(classes: ClassList | None, known: Mapping[str, str]) -> ClassList | None:
    if classes is None:
        return None
    kept = dict.fromkeys(known[code] for code in classes if known[code])
    return ClassList(tuple(kept)) if kept else None


def _mapped_columns(labels: pd.DataFrame, known: Mapping[str, str]) -> pd.DataFrame:
    columns: dict[str, pd.Series] = {"row_id": labels["row_id"]}
    for name in labels.columns:
        code = known.get(name, "") if name != "row_id" else ""
        if code:
            both = np.maximum(columns[code], labels[name]) if code in columns else labels[name]
            columns[code] = both
    return pd.DataFrame(columns)
