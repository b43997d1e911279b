"""Controls, URL and content of a page kept in step: a view can be sent as a link."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dash import Dash, Input, Output, ctx, html, no_update, set_props
from dash.dependencies import State as Held
from dash.exceptions import PreventUpdate

from dashboards.parts import Part, read_query, write_query

COMPLETE_ADDRESS = """query => {
  if (query && query !== location.search) {
    history.replaceState(history.state, '', location.pathname + query);
    dispatchEvent(new CustomEvent('_dashprivate_pushstate'));
  }
  return dash_clientside.no_update;
}"""
"""Writes the whole state into the address of a page that was opened, as no step of its own."""

Options = Sequence[str] | Sequence[Mapping[str, str]]
State = Mapping[str, str]


@dataclass(frozen=True)
class Shown:
    """A page for one state.

    `state`: the value of each control as it was taken, "" for none; it becomes the query string.
    `options`: what each drop-down offers, as values or as `{"label": ..., "value": ...}`.
    `answer`: the sentence at the top. `content`: what follows.
    """

    state: State
    options: Mapping[str, Options]
    answer: str
    content: Sequence[Part] = field(default_factory=tuple)


def follow_url(
    app: Dash,
    page: str,
    controls: Sequence[str],
    show: Callable[[State], Shown],
    *,
    texts: Collection[str] = (),
    several: Collection[str] = (),
) -> None:
    """Register the callback that fills in a page which `page_part` laid out.

    Control `x` has the id `<page>-x`; it is a drop-down unless it is one of `texts`. `show` gets
    what the reader wants of each control, from the URL when the page opens or goes back, else
    from the controls. It answers old links too: a wish that cannot be had becomes one that can.
    Drop-downs in `several` hold any number of values; `show` gets and gives them joined by commas.
    """
    boxes = {name: f"{page}-{name}" for name in controls}
    drop_downs = {name: box for name, box in boxes.items() if name not in texts}

    @app.callback(  # type: ignore[untyped-decorator]
        output={
            "search": Output(f"{page}-url", "search"),
            "opened": Output(f"{page}-opened", "data"),
            "answer": Output(f"{page}-answer", "children"),
            "content": Output(f"{page}-content", "children"),
            "values": {name: Output(box, "value") for name, box in boxes.items()},
            "options": {name: Output(box, "options") for name, box in drop_downs.items()},
        },
        inputs={
            "search": Input(f"{page}-url", "search"),
            "values": {name: Input(box, "value") for name, box in boxes.items()},
            "known": Held(f"{page}-opened", "data"),
        },
    )
    def fill(search: str | None, values: Mapping[str, Any], known: str | None) -> dict[str, Any]:
        opened = ctx.triggered_id in (None, f"{page}-url")
        if opened and known and read_query(search) == read_query(known):
            raise PreventUpdate  # the address was completed, and is that of what is shown
        wanted = read_query(search) if opened else {k: _joined(v) for k, v in values.items()}
        shown = show({name: wanted.get(name, "") for name in controls})
        set_props("problem", {"children": ""})
        query = write_query(shown.state)
        # Each written URL is a step of the back button, so that of an opened page is replaced.
        unchanged = opened or read_query(search) == read_query(query)
        return {
            "search": no_update if unchanged else query,
            "opened": query if opened else "",
            "answer": shown.answer,
            "content": list(shown.content),
            "values": {
                name: _split(value) if name in several else value or None
                for name, value in shown.state.items()
            },
            "options": {name: shown.options[name] for name in drop_downs},
        }

    _complete_address(app, page)


def _complete_address(app: Dash, page: str) -> None:
    """Register what writes the state of a page that was opened into its address."""
    app.clientside_callback(
        COMPLETE_ADDRESS,
        Output(f"{page}-opened", "clear_data"),
        Input(f"{page}-opened", "data"),
        prevent_initial_call=True,
    )


def section_part(title: str, shown: Shown) -> html.Section:
    """What a page shows for one state, as a section of the exported page."""
    head = [html.H2(title)] if title else []
    return html.Section([*head, html.P(shown.answer, className="answer"), *shown.content])


def _joined(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _split(text: str) -> list[str]:
    return [value for value in text.split(",") if value]
