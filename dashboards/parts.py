"""The pieces that pages are laid out from."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import parse_qs, urlencode

import pandas as pd
from dash import dcc, html

from birdlab.study.report import cell_text, is_long


def table_part(table: pd.DataFrame) -> html.Div:
    """A table that scrolls inside its own box; every cell is text."""
    head = html.Thead(html.Tr([html.Th(str(name)) for name in table.columns]))
    rows = [
        html.Tr([_cell(cell_text(value)) for value in row]) for row in table.itertuples(index=False)
    ]
    return html.Div(html.Table([head, html.Tbody(rows)]), className="scroll", tabIndex="0")


def _cell(text: str) -> html.Td:
    return html.Td(text, className="long" if is_long(text) else None)


def list_part(title: str, sentences: Sequence[str]) -> list[html.H2 | html.Ul]:
    """A titled list of sentences; nothing for none."""
    if not sentences:
        return []
    return [html.H2(title), html.Ul([html.Li(s) for s in sentences], className="soft")]


def choice_part(label: str, name: str) -> html.Div:
    """A labelled drop-down, filled by the page's callback."""
    box = dcc.Dropdown(id=name, clearable=False, searchable=False)
    return html.Div([html.Label(label, htmlFor=name), box])


def graph_part(figure: object, name: str) -> dcc.Graph:
    """A figure that follows the width of the page."""
    return dcc.Graph(id=name, figure=figure, config={"displayModeBar": False}, responsive=True)


def read_query(search: str | None) -> dict[str, str]:
    """The last value of each key in a query string."""
    return {key: values[-1] for key, values in parse_qs((search or "").lstrip("?")).items()}


def write_query(state: dict[str, str]) -> str:
    """The query string of the values that are not empty."""
    text = urlencode({key: value for key, value in state.items() if value})
    return f"?{text}" if text else ""
