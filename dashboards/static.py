"""Laid-out parts as HTML that needs no server: every text in it is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dash import dcc
from dash.development.base_component import Component

from birdlab.study.report import escape, figure_html
from dashboards.parts import TABLE_DATA, Part

NAMES = {"className": "class", "htmlFor": "for"}
"""HTML's names of properties that React calls otherwise; the rest is the same in lower case."""
VOID = frozenset({"br", "hr", "img", "input", "source"})


def html_of(part: Part) -> str:
    """The HTML of a text, a component of `dash.html`, a graph, or a list of them.

    Raises TypeError for other components of dash: they do nothing without a server.
    """
    if part is None:
        return ""
    if isinstance(part, (list, tuple)):
        return "".join(map(html_of, part))
    if isinstance(part, dcc.Graph):
        return figure_html(part.figure)
    if not isinstance(part, Component):
        return escape(part)
    if part._namespace != "dash_html_components":
        raise TypeError(f"{part._type} cannot be exported: it needs a server")
    tag = part._type.lower()
    props = part.to_plotly_json()["props"]
    inside = props.pop("children", None)
    props.pop("id", None)  # an export may hold the same part several times
    if TABLE_DATA in props:
        return _box_html(props)
    attributes = "".join(_attribute(name, value) for name, value in props.items())
    return f"<{tag}{attributes}>" + ("" if tag in VOID else f"{html_of(inside)}</{tag}>")


def _box_html(props: dict[str, Any]) -> str:
    """A box with its table, which on a served page is made in the browser."""
    cells = json.loads(props.pop(TABLE_DATA))
    head = "".join(f"<th scope='col'>{escape(text)}</th>" for text in cells["head"])
    rows = "".join(
        f"<tr>{''.join(_cell_html(text, cells['long']) for text in row)}</tr>"
        for row in cells["rows"]
    )
    attributes = "".join(_attribute(name, value) for name, value in props.items())
    return (
        f"<div{attributes}><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _cell_html(text: str, long: int) -> str:
    mark = " class='long'" if len(text) > long else ""
    return f"<td{mark}>{escape(text)}</td>"


def _attribute(name: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    name = NAMES.get(name, name.lower())
    if value is True:
        return f" {name}"
    if isinstance(value, Mapping):
        value = "; ".join(f"{key}: {text}" for key, text in value.items())
    return f' {name}="{escape(value)}"'
