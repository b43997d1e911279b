"""Documents as Markdown, to paste into a write-up; names are text here too."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import quote

import pandas as pd

from birdlab.study.document import Commands, Document, Drawing, Listing, Part, Table, Words
from birdlab.study.report import cell_text

_SPECIAL = re.compile(r"([\\`*_\[\]<>|~$&^])")
"""What GitHub, Pandoc or an HTML block may read as a sign; a backslash before it makes it text."""
_AT_THE_START = re.compile(r"^([#+=-](?=[\s#+=-]|$)|\d+(?=[.)](?:\s|$)))")
_ADDRESS = re.compile(r"(?i)\b(https?|ftp|mailto|www)(?=[:.])")


def document_markdown(document: Document, files: PurePosixPath) -> str:
    """The document as Markdown; its figures are links to `<files>/<name>.svg`."""
    lines = [f"# {escape_markdown(document.title)}", ""]
    lines += [f"{escape_markdown(document.question)}", ""] if document.question else []
    lines += [f"**{escape_markdown(document.answer)}**", ""] if document.answer else []
    for section in document.sections:
        lines += [f"## {escape_markdown(section.title)}", ""]
        for part in section.parts:
            lines += [_part(part, files), ""]
    return "\n".join(lines).rstrip() + "\n"


def _part(part: Part, files: PurePosixPath) -> str:
    match part:
        case Words(text):
            return escape_markdown(text)
        case Listing(sentences):
            return "\n".join(f"- {escape_markdown(sentence)}" for sentence in sentences)
        case Commands(lines):
            text = "\n".join(" ".join(line.split()) for line in lines)
            fence = "`" * (1 + max([2, *map(len, re.findall("`+", text))]))
            return f"{fence}\n{text}\n{fence}"
        case Table():
            return table_markdown(part.table)
        case Drawing():
            caption = escape_markdown(part.caption)
            return f"![{caption}]({quote(str(files / part.name))}.svg)\n\n{caption}"


def table_markdown(table: pd.DataFrame) -> str:
    """A table in pipes; numbers to the right, floats with four digits, NaN empty."""
    head = [escape_markdown(name) for name in table.columns]
    align = ["---:" if pd.api.types.is_numeric_dtype(table[c]) else "---" for c in table.columns]
    rows = [
        [escape_markdown(cell_text(value)) for value in row]
        for row in table.itertuples(index=False)
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, align, *rows))


def escape_markdown(value: object) -> str:
    """The value as Markdown that reads as this very text, on one line; addresses are no links."""
    text = _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))
    text = _AT_THE_START.sub(lambda m: f"{m[1]}\\" if m[1].isdigit() else f"\\{m[1]}", text)
    return _ADDRESS.sub(r"\1\\", text)
