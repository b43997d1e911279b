"""The dashboard: a page per question, on this machine only, or as files that need no server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dash import Dash, Input, Output, dcc, html, set_props
from flask import Response, request

from birdlab.errors import BirdlabError, LabError
from birdlab.study.report import PAGE_CSS
from birdlab.study.tables import StudyTables
from dashboards import ablation, cv_lb

PAGES = (cv_lb, ablation)
LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
FRESH_S = 5.0

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{%title%}</title><link rel="icon" href="data:,">{%css%}<style>PAGE_CSS</style></head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def build_app(
    load_tables: Callable[[], StudyTables], *, hosts: frozenset[str] = LOCAL_HOSTS
) -> Dash:
    """The Dash app over the tables that `load_tables` returns, read again after 5 s at most.

    Requests that name another host than `hosts` get 403, so a foreign page cannot read it
    through a name that resolves to this machine (DNS rebinding). Scripts and styles come from
    this server. An error of birdlab while reading is shown in its words.
    """
    app = Dash(
        __name__,
        title="birdlab",
        update_title="",
        serve_locally=True,
        suppress_callback_exceptions=True,
        on_error=_say_error,
        index_string=INDEX.replace("PAGE_CSS", PAGE_CSS),
    )
    app.server.before_request(lambda: _refuse_foreign_host(hosts))
    links = [html.A(page.TITLE, href=page.PATH) for page in PAGES]
    app.layout = html.Div(
        [
            dcc.Location(id="url", refresh=False),
            html.Header([html.Strong("birdlab"), *links], className="top"),
            html.Main([html.Pre(id="problem", role="alert"), html.Div(id="page")]),
        ]
    )
    tables = _hold(load_tables)

    @app.callback(Output("page", "children"), Input("url", "pathname"))  # type: ignore[untyped-decorator]
    def show_page(path: str | None) -> html.Div | html.P:
        tables()
        for page in PAGES:
            if path == page.PATH:
                return page.build_layout()
        return html.P(["There is no such page. ", html.A(cv_lb.TITLE, href=cv_lb.PATH)])

    for page in PAGES:
        page.register_callbacks(app, tables)
    return app


def serve(
    load_tables: Callable[[], StudyTables], host: str = "127.0.0.1", port: int = 8050
) -> None:
    """Serve the dashboard until interrupted. LabError when the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise LabError(
            "the dashboard cannot listen on this address",
            where=f"{host}:{port}",
            got=error.strerror,
            fix="choose another one, for example --port 8051",
        ) from None
    app = build_app(load_tables, hosts=LOCAL_HOSTS | {host.lower()})
    app.run(host=host, port=port, debug=False)


def export_static(load_tables: Callable[[], StudyTables], out_dir: Path) -> list[Path]:
    """The files written: one HTML page per question, complete in itself, no network needed."""
    tables = load_tables()
    written: list[Path] = []
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for page in PAGES:
            path = out_dir / page.FILE
            path.write_text(page.build_static(tables), encoding="utf-8")
            written.append(path)
    except OSError as error:
        raise LabError("the export cannot be written", where=str(out_dir), got=error) from None
    return written


def _refuse_foreign_host(hosts: frozenset[str]) -> Response | None:
    name = request.host.lower()
    name = name[1 : name.index("]")] if name.startswith("[") and "]" in name else name.split(":")[0]
    return None if name in hosts else Response("This host is not served.\n", 403)


def _say_error(error: Exception) -> None:
    """Show an error of birdlab in its words above the page; anything else is a bug and raised."""
    if not isinstance(error, BirdlabError):
        raise error
    set_props("problem", {"children": str(error)})


def _hold(load_tables: Callable[[], StudyTables]) -> Callable[[], StudyTables]:
    """The same tables for a few seconds: one click asks for them several times."""
    lock = threading.Lock()
    held: list[tuple[float, StudyTables]] = []

    def load() -> StudyTables:
        with lock:
            if not held or time.monotonic() - held[0][0] > FRESH_S:
                held[:] = [(time.monotonic(), load_tables())]
            return held[0][1]

    return load
