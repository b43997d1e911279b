"""The dashboard: a page per question, on this machine only, or as files that need no server."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from dash import Dash, Input, Output, dcc, html, set_props
from flask import Response, current_app, request
from werkzeug.serving import run_simple

from birdlab.errors import BirdlabError, LabError
from birdlab.study.report import PAGE_CSS, PAGE_JS
from birdlab.study.site import SitePage, site_index_html, site_page_html
from dashboards import ablation, cv_lb, ensemble, ideas, listen, overview, species, sweeps, why
from dashboards.source import LabSource


class Page(Protocol):
    """What a page is: a module with these names.

    PATH: where it is served; FILE: its name in an export; TITLE: in the navigation; QUESTION: what
    it answers. `build_layout` returns the page without content, `register_callbacks` fills it in,
    `build_static` returns the HTML of its content, complete without a server.
    """

    PATH: str
    FILE: str
    TITLE: str
    QUESTION: str

    def build_layout(self) -> Any: ...
    def register_callbacks(self, app: Dash, source: LabSource) -> None: ...
    def build_static(self, source: LabSource) -> str: ...


PAGES: tuple[Page, ...] = (
    *(overview, sweeps, ablation, ideas, cv_lb, species, why, listen, ensemble),
)
"""In the order of the navigation; the first is what `/` shows."""
LOCAL_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
REFUSED = (
    "The dashboard is not served under this name. birdlab dashboard --host NAME, with the name or "
    "address that the browser uses for this machine, serves it.\n"
)

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "media-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
"""What each answer says to browsers. Dash writes its settings as inline script."""

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>{%metas%}<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{%title%}</title><link rel="icon" href="data:,">{%css%}<style>PAGE_CSS</style>
<script>PAGE_JS</script></head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body>
</html>"""


def build_app(source: LabSource, *, hosts: frozenset[str] = LOCAL_HOSTS) -> Dash:
    """The Dash app over what `source` reads.

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
        index_string=INDEX.replace("PAGE_CSS", PAGE_CSS).replace("PAGE_JS", PAGE_JS),
    )
    app.server.before_request(lambda: _refuse_foreign_host(hosts))
    app.server.after_request(_say_policy)
    app.layout = html.Div(
        [
            dcc.Location(id="url", refresh=False),
            html.A("Skip to the content", href="#main", className="skip"),
            html.Header(
                [html.Strong("birdlab"), html.Nav(id="pages", **{"aria-label": "Pages"})],
                className="top",
            ),
            html.Main([html.Pre(id="problem", role="alert"), html.Div(id="page")], id="main"),
        ]
    )

    @app.callback(  # type: ignore[untyped-decorator]
        Output("page", "children"), Output("pages", "children"), Input("url", "pathname")
    )
    def show_page(path: str | None) -> tuple[Any, list[html.A]]:
        here = PAGES[0] if path in (None, "", "/") else _page_at(path)
        links = [_link(page, here=page is here) for page in PAGES]
        if here is None:
            return html.P("There is no such page. The links above lead to those there are."), links
        source.tables()
        return here.build_layout(), links

    for page in PAGES:
        page.register_callbacks(app, source)
    return app


def serve(source: LabSource, host: str = "127.0.0.1", port: int = 8050) -> None:
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
    with suppress(BirdlabError):  # the page says it in words
        source.tables()  # whoever opens a page first does not wait for it
    app = build_app(source, hosts=LOCAL_HOSTS | {host.lower()})
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not a line for each request
    run_simple(host, port, app.server, threaded=True)


def export_static(source: LabSource, out_dir: Path) -> list[Path]:
    """The files written: one HTML page per question, complete in itself, and `index.html`."""
    site = [SitePage(page.FILE, page.TITLE, page.QUESTION) for page in PAGES]
    written: list[Path] = []
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for page, place in zip(PAGES, site, strict=True):
            path = out_dir / page.FILE
            text = site_page_html(place, page.build_static(source), site)
            path.write_text(text, encoding="utf-8")
            written.append(path)
        index = out_dir / "index.html"
        index.write_text(site_index_html(site), encoding="utf-8")
    except OSError as error:
        raise LabError(
            "the export cannot be written",
            where=str(out_dir),
            got=error,
            fix="name a folder where you may write",
        ) from None
    return [*written, index]


def _page_at(path: str) -> Page | None:
    return next((page for page in PAGES if path.rstrip("/") == page.PATH), None)


def _link(page: Page, *, here: bool) -> html.A:
    mark = {"aria-current": "page"} if here else {}
    return html.A(page.TITLE, href=page.PATH, **mark)


def _refuse_foreign_host(hosts: frozenset[str]) -> Response | None:
    name = request.host.lower()
    name = name[1 : name.index("]")] if name.startswith("[") and "]" in name else name.split(":")[0]
    return None if name in hosts else Response(REFUSED, 403, mimetype="text/plain")


def _say_policy(response: Response) -> Response:
    """The response, with what a browser may do with it: load from here alone, no frames."""
    for name, said in HEADERS.items():
        response.headers.setdefault(name, said)
    return response


def _say_error(error: Exception) -> None:
    """Show an error of birdlab in its words above the page; anything else is a bug.

    A bug is named there too, so that nobody reads old numbers beside new choices, and its
    traceback goes to the terminal.
    """
    said = str(error)
    if not isinstance(error, BirdlabError):
        current_app.logger.error("a page failed", exc_info=error)
        said = (
            f"This page failed: {type(error).__name__}: {error}. What stands below may be of an "
            "earlier choice. The terminal has the traceback."
        )
    set_props("problem", {"children": said})
