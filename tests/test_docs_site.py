"""The documentation as a site: it builds without a warning, loads nothing from elsewhere, and shows
what a code host shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from browsing import complaints, wait
from documents import DOCUMENTS, ROOT, blocks, tokens_of

COUNTED = ("h2", "h3", "li", "table", "tr", "pre", "img")


class Page(HTMLParser):
    """What a built page loads, where its links lead, its anchors, and the tags of its article."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()
        self.tags: Counter[str] = Counter()
        self.in_article = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.in_article |= tag == "article"
        self.ids.add(given.get("id", ""))
        if self.in_article:
            self.tags[tag] += 1
        if tag == "a":
            self.links.append(given.get("href", ""))
        else:
            self.loads += [given[name] for name in ("href", "src", "srcset") if name in given]

    def handle_endtag(self, tag: str) -> None:
        self.in_article &= tag != "article"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def html_of(site: Path, document: str) -> Path:
    """Where the page of a document is."""
    inside = document.startswith("docs/")
    place = document.removeprefix("docs/") if inside else f"repository/{document}"
    return site / re.sub(r"\.md$", ".html", place.replace("README.md", "index.md"))


def test_nothing_is_loaded_from_another_host(site: Path, pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        assert [target for target in page.loads if "//" in target] == [], path
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", text), sheet


def test_links_of_the_pages_lead_somewhere(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for target in page.links + page.loads:
            if path.name == "404.html" or re.match(r"https?:|data:|mailto:", target):
                continue
            file, _, anchor = target.partition("#")
            to = (path.parent / file).resolve() if file else path
            to = to / "index.html" if to.is_dir() else to
            assert to.exists(), (path.name, target)
            assert not anchor or to not in pages or anchor in pages[to].ids, (path.name, target)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_page_shows_what_a_code_host_shows(
    name: str, site: Path, pages: dict[Path, Page]
) -> None:
    tags = Counter(t.tag for t in tokens_of(name) if t.nesting == 1)
    tags["pre"] = len(blocks(name))
    tags["img"] = sum(c.type == "image" for t in tokens_of(name) for c in t.children or ())
    shown = pages[html_of(site, name)].tags
    assert {tag: shown[tag] for tag in COUNTED} == {tag: tags[tag] for tag in COUNTED}


@pytest.mark.browser
def test_the_served_site_is_searched(browser: Any, site: Path) -> None:
    """A browser lets no page search that is opened from the disk: `make docs-serve` is for that."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            browser.get(f"http://127.0.0.1:{server.server_port}/index.html")
            wait(browser, "document.readyState === 'complete'")
            browser.find_element("css selector", ".md-search__input").send_keys("spearman")
            found = "[...document.querySelectorAll('.md-search-result__link')].map(a => a.pathname)"
            wait(browser, f"{found}.length")
            assert "/statistics_plain.html" in browser.execute_script(f"return {found}")
            assert complaints(browser) == []
        finally:
            server.shutdown()
            thread.join()
