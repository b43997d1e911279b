"""Which species are asked for, and the code that each scientific name is labelled with."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from birdlab.data.csvfile import Findings
from birdlab.data.xenocanto.recording import Recording
from birdlab.errors import DataError

COLUMNS = ("primary_label", "scientific_name")

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
_NAME = re.compile(r"[^\W\d_][\w'×.-]*( [\w'×.()-]+)+")


@dataclass(frozen=True)
class SpeciesList:
    """Scientific names in order, and the label of each.

    `labels` maps a folded name to its label: several names may share one, as synonyms do.
    """

    names: tuple[str, ...]
    labels: Mapping[str, str]

    def label_of(self, scientific_name: str) -> str | None:
        """The label of a scientific name in any case, or None when it is not in the list."""
        return self.labels.get(fold_name(scientific_name))

    @property
    def queries(self) -> list[str]:
        """A query for each name."""
        return [f'sp:"{name.lower()}"' for name in self.names]


def load_species(path: Path) -> SpeciesList:
    """The species in a CSV or text file with the columns primary_label and scientific_name.

    Columns are parted by commas, semicolons or tabs; other columns are not read, and repeated
    rows count once, so that a taxonomy.csv or a train_metadata.csv will do. Raises DataError with
    everything that is wrong: a label that is no folder name, a name that is no scientific
    one, a name with two labels.
    """
    rows = _read_rows(path)
    findings = Findings(path)
    labels: dict[str, str] = {}
    names: dict[str, str] = {}
    faults: dict[str, dict[str, None]] = {}
    for label, name in dict.fromkeys(rows):
        if not is_label(label):
            faults.setdefault("primary_label is no folder name", {})[repr(label)] = None
        if not _NAME.fullmatch(name):
            faults.setdefault("scientific_name is not a genus and a species", {})[repr(name)] = None
        known = labels.setdefault(fold_name(name), label)
        names.setdefault(fold_name(name), name)
        if known != label:
            example = f"{name}: {known} and {label}"
            faults.setdefault("scientific_name has two labels", {})[example] = None
    for what, examples in faults.items():
        findings.add(what, examples)
    findings.raise_if_any()
    if not names:
        raise DataError(
            "the species file names no species", where=str(path), expected="one species a row"
        )
    return SpeciesList(tuple(names.values()), labels)


def species_found(recordings: Iterable[Recording]) -> SpeciesList:
    """The species that a free query found, each labelled with its name in lower_snake form."""
    names = {fold_name(r.scientific_name): r.scientific_name for r in recordings if r.is_species}
    labels = {folded: snake_label(name) for folded, name in names.items()}
    kept = {folded: label for folded, label in labels.items() if is_label(label)}
    return SpeciesList(tuple(names[folded] for folded in kept), kept)


def is_label(text: str) -> bool:
    """Whether a label can be the name of a folder on every system."""
    return bool(_LABEL.fullmatch(text)) and not _RESERVED.fullmatch(text)


def snake_label(scientific_name: str) -> str:
    """A scientific name in lower_snake form: Turdus merula becomes turdus_merula."""
    plain = unicodedata.normalize("NFKD", scientific_name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")[:64]


def fold_name(scientific_name: str) -> str:
    """A scientific name in the form in which two spellings of it are equal."""
    return " ".join(scientific_name.casefold().split())


def _read_rows(path: Path) -> list[tuple[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        header = next((line for line in text.splitlines() if line.strip()), "")
        separator = max("\t;,", key=header.count)
        table = csv.DictReader(io.StringIO(text), delimiter=separator)
        columns = [column.strip() for column in table.fieldnames or ()]
        table.fieldnames = columns
        rows = list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "the species file cannot be read",
            where=str(path),
            got=f"{type(error).__name__}: {error}",
            expected="a table in UTF-8 with the columns primary_label and scientific_name",
        ) from None
    if not set(COLUMNS) <= set(columns):
        raise DataError(
            "the species file lacks a column",
            where=str(path),
            got=", ".join(columns),
            expected=" and ".join(COLUMNS),
            fix="the first line names the columns, parted by commas or tabs",
        )
    pairs = [((row["primary_label"] or ""), (row["scientific_name"] or "")) for row in rows]
    return [(label.strip(), " ".join(name.split())) for label, name in pairs]
