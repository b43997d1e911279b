"""Pages that belong together as files: each opens without a network and links to the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.offline

from birdlab.study.report import PAGE_CSS, PAGE_JS, POLICY, escape


@dataclass(frozen=True)
class SitePage:
    """A page of a site: its file, its name in the navigation, the question it answers."""

    file: str
    title: str
    question: str


def site_page_html(page: SitePage, body: str, pages: Sequence[SitePage]) -> str:
    """A whole page around the HTML `body`: navigation to all `pages`, style and scripts inside.

    Plotly's script is in it once, and only where there is a figure.
    """
    drawn = "plotly-graph-div" in body
    plotly_js = f"<script id='plotly-js'>{plotly.offline.get_plotlyjs()}</script>" if drawn else ""
    links = "".join(_link(other, here=other == page) for other in pages)
    return (
        f"{_head(page.title)}{plotly_js}<script>{PAGE_JS}</script></head><body>"
        "<a class='skip' href='#main'>Skip to the content</a>"
        f"<header class='top'><strong>birdlab</strong><nav aria-label='Pages'>{links}</nav>"
        f"</header><main id='main'><h1>{escape(page.question)}</h1>{body}</main></body></html>"
    )


def site_index_html(pages: Sequence[SitePage]) -> str:
    """The first page of a site: what the others answer."""
    lines = "".join(f"<li>{_link(page)}: {escape(page.question)}</li>" for page in pages)
    return (
        f"{_head('pages')}</head><body><main><h1>birdlab</h1><ul>{lines}</ul></main></body></html>"
    )


def _head(title: str) -> str:
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"{POLICY}<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<link rel='icon' href='data:,'><title>birdlab: {escape(title)}</title>"
        f"<style>{PAGE_CSS}</style>"
    )


def _link(page: SitePage, *, here: bool = False) -> str:
    mark = " aria-current='page'" if here else ""
    return f"<a href='{escape(page.file)}'{mark}>{escape(page.title)}</a>"
