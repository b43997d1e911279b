"""Documents as one HTML page each: no script, no network, figures drawn for wide and narrow."""

from __future__ import annotations

from birdlab.study.document import Commands, Document, Drawing, Listing, Part, Table, Words
from birdlab.study.report import escape, figure_html, list_html, page_html, section_html, table_html
from birdlab.study.svg import NARROW, WIDE, draw_svg


def document_html(document: Document) -> str:
    """The document as a whole page; every name in it is text."""
    parts = [f"<p>{escape(document.question)}</p>"] if document.question else []
    parts += [f"<p class='answer'>{escape(document.answer)}</p>"] if document.answer else []
    for section in document.sections:
        inside = "".join(_part(part) for part in section.parts)
        parts.append(section_html(section.title, inside))
    return page_html(document.title, parts)


def figures_html(document: Document) -> str:
    """The figures of a document alone, each to zoom and to hover over; 5 MB of script come with it.

    Equal figures give an equal page.
    """
    parts = [
        f"<section><p class='soft'>{escape(d.caption)}</p>{figure_html(d.figure, d.name)}</section>"
        for d in document.drawings
    ]
    return page_html(f"Figures of {document.title}", parts)


def _part(part: Part) -> str:
    match part:
        case Words(text):
            return f"<p>{escape(text)}</p>"
        case Listing(sentences):
            return list_html(sentences)
        case Commands(lines):
            return f"<pre class='scroll'>{escape(chr(10).join(lines))}</pre>"
        case Table():
            return table_html(part.table)
        case Drawing():
            return drawing_html(part)


def drawing_html(part: Drawing) -> str:
    """The figure twice: a phone shows the narrow one, in which letters keep their size."""
    drawn = "".join(
        f"<div class='{name}'>{draw_svg(part.figure, width=width, title=part.caption, alone=False)}"
        "</div>"
        for name, width in (("wide", WIDE), ("narrow", NARROW))
    )
    caption = f"<figcaption class='soft'>{escape(part.caption)}</figcaption>"
    return f"<figure class='drawn'>{drawn}{caption}</figure>"
