"""The pieces that pages are laid out from, and the query string that holds their state."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlencode

import pandas as pd
from dash import dcc, html

from birdlab.spreadsheets import csv_text
from birdlab.study.report import LONG_TEXT, cell_text

SHOWN_ROWS = 100
TABLE_DATA = "data-table"
"""The property of a box that holds the texts of its table."""
FORMATS = ("png", "svg", "html")

Part = Any
"""A Dash component, or a text."""


def table_part(
    table: pd.DataFrame, name: str, *, title: str = "", data: pd.DataFrame | None = None
) -> html.Div:
    """A table that scrolls inside its own box, with a button that saves it as `<name>.csv`.

    Every cell is text. The first 100 rows are shown and the rest is counted; the CSV holds all.
    `data` is what the CSV holds where the table shows rounded numbers.
    """
    shown = [
        [cell_text(value) for value in row]
        for row in table.head(SHOWN_ROWS).itertuples(index=False)
    ]
    cells = {"head": [str(column) for column in table.columns], "rows": shown, "long": LONG_TEXT}
    label = title or name.replace("_", " ").replace("-", " ")
    # page.js makes the table of it: a component per cell would take the browser seconds.
    box = html.Div(
        className="scroll",
        tabIndex="0",
        role="region",
        **{"aria-label": f"Table: {label}", TABLE_DATA: json.dumps(cells)},
    )
    more = (
        [html.P(f"The first {SHOWN_ROWS} of {len(table)} rows. The CSV has all.", className="soft")]
        if len(table) > SHOWN_ROWS
        else []
    )
    button = _save_button(
        "csv", name, label, **{"data-csv": csv_text(table if data is None else data)}
    )
    return html.Div([box, *more, html.Div(button, className="saves")], className="table-part")


def figure_part(figure: Any, name: str, *, title: str = "") -> html.Figure:
    """A figure as wide as the page, with buttons that save it as PNG, SVG and a page of its own.

    The graph has the id `name`, so that callbacks can listen to clicks.
    """
    label = title or name.replace("_", " ").replace("-", " ")
    graph = dcc.Graph(
        id=name,
        figure=figure,
        config={"displayModeBar": False},
        responsive=True,
        style={"height": f"{figure.layout.height or 450}px"},
    )
    buttons = [_save_button(kind, name, label) for kind in FORMATS]
    return html.Figure(
        [graph, html.Div(buttons, className="saves")], **{"aria-label": f"Figure: {label}"}
    )


def audio_part(address: str, name: str) -> html.Audio:
    """A player of a sound, which is not fetched before it is played."""
    said = {"aria-label": f"Play {name}"}
    return html.Audio(src=address, controls=True, preload="none", className="player", **said)


def list_part(title: str, sentences: Sequence[str]) -> list[html.H2 | html.Ul]:
    """A titled list of sentences; nothing for none."""
    if not sentences:
        return []
    return [html.H2(title), html.Ul([html.Li(s) for s in sentences], className="soft")]


def choice_part(
    label: str, name: str, *, searchable: bool = False, several: bool = False, none: str = ""
) -> html.Div:
    """A labelled drop-down, filled by the page's callback.

    `none` is shown where nothing is chosen, which is then a choice too.
    """
    clearable = several or bool(none)
    box = dcc.Dropdown(
        id=name, clearable=clearable, searchable=searchable, multi=several, placeholder=none
    )
    parts = [html.Label(label, htmlFor=name), box]
    return html.Div(parts, role="group", **{"aria-label": label})


def text_part(label: str, name: str, *, placeholder: str = "") -> html.Div:
    """A labelled line of text; the page answers half a second after the last key."""
    box = dcc.Input(id=name, type="text", debounce=0.5, placeholder=placeholder)
    return html.Div([html.Label(label, htmlFor=name), box])


def page_part(page: str, question: str, controls: Sequence[Part]) -> html.Div:
    """A page without its content: question, answer, controls; `follow_url` fills it in."""
    return html.Div(
        [
            dcc.Location(id=f"{page}-url", refresh=False),
            dcc.Store(id=f"{page}-opened"),
            html.H1(question),
            html.P(id=f"{page}-answer", className="answer", role="status"),
            html.Div(list(controls), className="controls"),
            html.Div(id=f"{page}-content", className="content"),
        ]
    )


def read_query(search: str | None) -> dict[str, str]:
    """The last value of each key in a query string."""
    return {key: values[-1] for key, values in parse_qs((search or "").lstrip("?")).items()}


def write_query(state: Mapping[str, str]) -> str:
    """The query string of the values that are not empty."""
    text = urlencode({key: value for key, value in state.items() if value})
    return f"?{text}" if text else ""


def _save_button(kind: str, name: str, label: str, **data: str) -> html.Button:
    said = {"aria-label": f"Save {label} as {kind.upper()}", "data-save": kind, "data-name": name}
    return html.Button(kind.upper(), type="button", **said, **data)
