"""A report as data, before anyone decides how it looks: words, tables and figures in sections."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Listing:
    """Sentences one below the other."""

    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Commands:
    """Lines to type."""

    lines: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Table:
    """A table under a file name without its ending; each cell is shown as it is."""

    name: str
    table: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure under a file name without its ending, with the sentence that explains it."""

    name: str
    figure: go.Figure
    caption: str


Part = Words | Listing | Commands | Table | Drawing


@dataclass(frozen=True, eq=False)
class Section:
    """Parts under a title."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, eq=False)
class Document:
    """A report: its title, what it asks, the answer in a sentence or two, its sections."""

    title: str
    question: str
    answer: str
    sections: tuple[Section, ...]

    def iter_parts(self) -> Iterator[Part]:
        """Every part in order."""
        for section in self.sections:
            yield from section.parts

    @property
    def drawings(self) -> list[Drawing]:
        """Its figures."""
        return [part for part in self.iter_parts() if isinstance(part, Drawing)]

    @property
    def tables(self) -> list[Table]:
        """Its tables."""
        return [part for part in self.iter_parts() if isinstance(part, Table)]


def build_section(title: str, *parts: Part | None) -> Section | None:
    """A section of the parts that hold something; None where none does."""
    kept = tuple(part for part in parts if part is not None and not is_empty(part))
    return Section(title, kept) if kept else None


def is_empty(part: Part) -> bool:
    """Whether there is nothing to show."""
    match part:
        case Words(text):
            return not text
        case Listing(lines) | Commands(lines):
            return not lines
        case Table():
            return bool(part.table.empty)
    return False


def build_document(
    title: str, question: str, answer: str, sections: Sequence[Section | None]
) -> Document:
    """A document of the sections that are there."""
    return Document(title, question, answer, tuple(s for s in sections if s is not None))


def file_name(text: str) -> str:
    """A name of letters, digits and dashes for a file."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[:60] or "figure"
