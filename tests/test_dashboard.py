"""The dashboard: what it serves, to whom, and what a real browser makes of it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pandas as pd
import pytest
from browsing import (
    DRAWN,
    HOSTILE,
    MadeSource,
    choose,
    complaints,
    fits,
    save,
    serving,
    sized,
    wait,
)
from conftest import TINY_SPEC
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from test_ablation_view import build_outputs, build_sweep
from test_study_tables import build_synthetic
from werkzeug.serving import make_server

from birdlab.errors import LabError, LedgerError
from birdlab.evaluate.score import FoldTable
from birdlab.spec import load_spec
from birdlab.study.tables import StudyTables
from dashboards import cv_lb
from dashboards.app import PAGES, build_app, export_static, serve

LONG = f"train.optimizer.lr={HOSTILE}{'x' * 200}"


def build_hostile() -> StudyTables:
    tables = build_synthetic(24)
    tables.runs.loc[3, ["name", "delta"]] = [HOSTILE, LONG]
    return tables


SYNTHETIC = MadeSource(build_synthetic)


def test_foreign_hosts_are_refused() -> None:
    client = build_app(SYNTHETIC).server.test_client()
    for host in ("localhost:8050", "127.0.0.1", "[::1]:8050", "LOCALHOST"):
        assert client.get("/", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example:8050", "localhost.evil.example", "[::2]"):
        for path in ("/", "/_dash-layout", "/ablation"):
            refused = client.get(path, headers={"Host": host})
            assert (refused.status_code, refused.mimetype) == (403, "text/plain")
            assert "--host NAME" in refused.text
    named = build_app(SYNTHETIC, hosts=frozenset({"lab.example"})).server.test_client()
    assert named.get("/", headers={"Host": "lab.example:80"}).status_code == 200


def test_everything_comes_from_this_server() -> None:
    page = build_app(SYNTHETIC).server.test_client().get("/", headers={"Host": "localhost"})
    sources = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(sources) > 3
    assert all(source.startswith(("/", "data:,")) and source[:2] != "//" for source in sources)


def test_an_address_in_use_is_said_in_words() -> None:
    server = make_server("127.0.0.1", 0, lambda *_: [])
    try:
        with pytest.raises(LabError, match="--port"):
            serve(SYNTHETIC, port=server.server_port)
    finally:
        server.server_close()


def test_the_export_writes_a_page_per_question(tmp_path: Path) -> None:
    written = export_static(MadeSource(build_hostile), tmp_path / "new" / "folder")
    assert [path.name for path in written] == [*(page.FILE for page in PAGES), "index.html"]
    texts = {path.name: path.read_text(encoding="utf-8") for path in written}
    text = texts["cv_lb.html"]
    assert "public leaderboard, padded_cmap" in text and "private leaderboard" in text
    assert "Bars: 95 % intervals" in texts["ablation.html"]
    for name, text in texts.items():
        assert HOSTILE not in text and "http://localhost" not in text, name
        assert text.count("id='plotly-js'") == int("plotly-graph-div" in text), name
        assert all(page.FILE in text for page in PAGES), f"{name} leads to all pages"
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot be written"):
        export_static(MadeSource(build_hostile), tmp_path / "file")


def test_an_empty_lab_exports_what_to_do(tmp_path: Path) -> None:
    tables = build_synthetic(3)
    empty = StudyTables(tables.runs.iloc[:0], tables.cells.iloc[:0], tables.ledger.iloc[:0])
    export_static(MadeSource(lambda: empty), tmp_path)
    assert "birdlab run" in (tmp_path / "cv_lb.html").read_text()
    assert "birdlab sweep" in (tmp_path / "ablation.html").read_text()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(MadeSource(build_hostile)) as address:
        yield address


ANSWER = "(document.querySelector('#cv-lb-answer') || {}).textContent"
N_ROWS = "document.querySelector('[aria-label=\"Table: runs\"] tbody')?.rows.length"
N_POINTS = "document.querySelectorAll('#cv-lb-scatter .point').length"
SAID = "document.querySelector('#cv-lb-said')?.textContent"


@pytest.mark.browser
def test_the_page_renders_and_a_filter_changes_the_numbers(browser: Any, address: str) -> None:
    browser.get(f"{address}/cv-lb")
    assert wait(browser, f"{N_POINTS} === 24 && {N_ROWS} === 24")
    assert wait(browser, ANSWER).startswith("CV ranks the field")
    assert wait(browser, f"{SAID}?.includes('Over 24 runs')")
    assert wait(browser, "document.querySelectorAll('#cv-lb-estimator-figure .point').length === 3")
    box = browser.find_element("id", "cv-lb-runs")
    box.send_keys("run 1")
    assert wait(browser, f"{N_ROWS} === 11 && {N_POINTS} === 11")
    assert wait(browser, f"{SAID}?.includes('Over 11 runs')")
    assert wait(browser, "location.search.includes('runs=run+1')")
    box.send_keys("1")
    assert wait(browser, f"{ANSWER}.startsWith('No verdict: 1 run')")
    box.send_keys("nobody")
    assert wait(browser, f"{N_ROWS} === 0 && {N_POINTS} === 0")
    browser.back()
    browser.back()
    assert wait(browser, f"{N_ROWS} === 11")
    assert browser.execute_script("return document.querySelector('#cv-lb-runs').value") == "run 1"
    choose(browser, "cv-lb-band", "top half by CV")
    assert wait(browser, f"{N_ROWS} === 6 && location.search.includes('band=top+half')")
    assert complaints(browser) == []


@pytest.mark.browser
@pytest.mark.parametrize(("page", "table"), [("cv-lb", "cv_lb"), ("ablation.html", "ranking")])
def test_tables_and_figures_are_saved(
    browser: Any, address: str, tmp_path: Path, page: str, table: str
) -> None:
    """The same buttons on a served page and on an exported one."""
    exported = page.endswith(".html")
    if exported:
        export_static(MadeSource(build_hostile), tmp_path)
    browser.get((tmp_path / page).as_uri() if exported else f"{address}/{page}")
    assert wait(browser, f"{DRAWN} > 3")
    svg = save(browser, "figure [data-save=svg]").read_text()
    assert svg.startswith("<svg") and "<img" not in svg and "rgb(255, 255, 255)" in svg
    assert save(browser, "figure [data-save=png]").read_bytes().startswith(b"\x89PNG")
    rows = pd.read_csv(save(browser, f"[data-name={table}]"))
    assert any(HOSTILE in name for name in rows.iloc[:, 0])
    alone = save(browser, "figure [data-save=html]")
    browser.get(alone.as_uri())
    assert wait(browser, f"{DRAWN} > 3")
    assert browser.title in ("cv-lb-scatter", "ablation-forest")
    assert complaints(browser) == []


def build_request(page: str, controls: tuple[str, ...], texts: set[str]) -> dict[str, Any]:
    """What the browser asks when a page of `follow_url` opens."""
    values = [{"id": f"{page}-{name}", "property": "value"} for name in controls]
    search = {"id": f"{page}-url", "property": "search", "value": ""}
    outputs = [
        {"id": f"{page}-url", "property": "search"},
        {"id": f"{page}-opened", "property": "data"},
        {"id": f"{page}-answer", "property": "children"},
        {"id": f"{page}-content", "property": "children"},
        *values,
        *({"id": f"{page}-{n}", "property": "options"} for n in controls if n not in texts),
    ]
    named = "...".join(f"{output['id']}.{output['property']}" for output in outputs)
    return {
        "output": f"..{named}..",
        "outputs": outputs,
        "inputs": [search, *values],
        "state": [{"id": f"{page}-opened", "property": "data"}],
        "changedPropIds": [],
    }


class SweepSource(MadeSource):
    """The synthetic sweep with its record, stored outputs, curves and specs."""

    def __init__(self, spec: dict[str, Any]) -> None:
        tables, self.records = build_sweep()
        super().__init__(lambda: tables)
        self.spec = spec
        self.base = str(tables.runs["run"][0])

    def sweeps(self) -> dict[str, dict[str, Any]]:
        return self.records

    def record(self, run: str) -> dict[str, Any]:
        rate = 0.003 if run == self.base else 0.25
        train = {**self.spec["train"], "optimizer": {"kind": "adam", "lr": rate}}
        spec = {**self.spec, "train": train, "stages": []}
        return {"spec_id": run, "spec": spec, "cells": []}

    def fold_tables(self, run: str) -> dict[tuple[int, int], FoldTable]:
        return build_outputs(0.0 if run == self.base else 0.4)

    def curves(self, run: str) -> pd.DataFrame:
        losses = {"epoch": [0, 1, 2], "loss": [3.0, 2.0, 1.0]}
        return pd.DataFrame({"stage": "train", "fold": 0, "seed": 0, **losses})


@pytest.mark.browser
def test_a_clicked_arm_opens_and_the_link_keeps_it(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY_SPEC)
    source = SweepSource(load_spec(tmp_path / "tiny.yaml").model_dump(mode="json"))
    heads = "[...document.querySelectorAll('#ablation-content h2, #ablation-content h3')]"
    titles = f"{heads}.map(e => e.textContent).join()"
    with serving(source) as address:
        browser.get(f"{address}/ablation")
        assert wait(browser, "document.querySelectorAll('#ablation-forest .point').length === 4")
        assert "Stopped by the race,Failed" in browser.execute_script(f"return {titles}")
        point = browser.find_element("css selector", "#ablation-forest .point")
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
        ActionChains(browser).move_to_element(point).click().perform()
        assert wait(browser, f"{titles}.includes('Recordings and species')")
        arm = wait(browser, "new URLSearchParams(location.search).get('arm')")
        assert f"{arm} against base" in browser.execute_script(f"return {titles}")
        said = "document.querySelector('#ablation-species').textContent"
        assert "1 shown to be better and 0 worse" in browser.execute_script(f"return {said}")
        fields = "document.querySelector('[aria-label=\"Table: changes\"] td').textContent"
        assert browser.execute_script(f"return {fields}") == "train.optimizer.lr"
        choose(browser, "ablation-arm", "rate 0.001" if arm != "rate 0.001" else "rate 0.01")
        other = wait(browser, f"{heads}.map(e => e.textContent).find(t => t.includes('against'))")
        assert wait(browser, f"!{titles}.includes({f'{arm} against'!r})"), other
        browser.get(f"{address}/ablation?arm=nobody")
        assert wait(browser, "document.querySelectorAll('#ablation-forest .point').length === 4")
        assert "against" not in browser.execute_script(f"return {titles}")
    assert complaints(browser) == []


@pytest.mark.browser
def test_a_page_of_1280_pixels_shows_the_verdicts(browser: Any, address: str) -> None:
    table = "document.querySelector('[aria-label=\"Table: ranking\"]')"
    head = f"[...{table}.querySelectorAll('th')].find(e => e.textContent === 'verdict')"
    right = "getBoundingClientRect().right"
    with sized(browser, 1280):
        browser.get(f"{address}/ablation")
        assert wait(browser, f"{table} && {head}")
        assert browser.execute_script(f"return {head}.{right} <= {table}.{right}")
    assert complaints(browser) == []


@pytest.mark.browser
def test_the_url_holds_the_state(browser: Any, address: str) -> None:
    browser.get(f"{address}/cv-lb?lb=private&cv=cv/macro_auc&runs=run")
    assert wait(browser, f"{SAID}?.includes('private padded_cmap')")
    assert wait(browser, "document.querySelector('.xtitle')?.textContent === 'cv/macro_auc'")
    assert "cv=cv%2Fmacro_auc&like=" in browser.execute_script("return location.search")
    browser.get(f"{address}/cv-lb?lb=nothing&metric=none")
    assert wait(browser, f"{SAID}?.includes('public padded_cmap')")
    assert wait(browser, "location.search.startsWith('?lb=public&')")
    browser.back()
    assert wait(browser, f"{SAID}?.includes('private padded_cmap')"), "one step back is enough"
    assert complaints(browser) == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1280])
def test_pages_fit_and_a_hostile_name_is_text(browser: Any, address: str, width: int) -> None:
    with sized(browser, width):
        for path in ("/cv-lb", "/ablation", f"/ablation?{urlencode({'arm': LONG})}"):
            browser.get(address + path)
            assert wait(browser, f"{DRAWN} > 3")
            heads = "[...document.querySelectorAll('h2')].map(e => e.textContent).join()"
            assert "?" not in path or wait(browser, f"{heads}.includes('xxx against base')")
            assert wait(browser, "document.body.textContent.includes('<img src=x onerror')")
            assert browser.execute_script("return document.images.length") == 0
            assert browser.title == "birdlab"
            assert fits(browser)
    assert complaints(browser) == []


@pytest.mark.browser
def test_an_unreadable_ledger_is_said_in_words(
    browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.source.FRESH_S", 0.0)
    torn = threading.Event()

    def load() -> StudyTables:
        if torn.is_set():
            raise LedgerError("the last ledger line was cut off", fix="delete <that> line")
        return build_synthetic(12)

    said = "document.querySelector('#problem')?.textContent.includes('delete <that> line')"
    with serving(MadeSource(load)) as address:
        browser.get(f"{address}/cv-lb")
        assert wait(browser, f"{N_ROWS} === 12") and not browser.execute_script(f"return {said}")
        torn.set()
        box = browser.find_element("id", "cv-lb-runs")
        box.send_keys("run")
        assert wait(browser, said)
        torn.clear()
        box.send_keys(" 1")
        assert wait(browser, f"{N_ROWS} === 3") and not browser.execute_script(f"return {said}")
        torn.set()
        browser.refresh()
        assert wait(browser, said)
    assert complaints(browser) == []


@pytest.mark.browser
def test_the_export_opens_without_a_network(browser: Any, tmp_path: Path) -> None:
    export_static(MadeSource(build_hostile), tmp_path)
    for name in ("ablation.html", "cv_lb.html"):
        browser.get((tmp_path / name).as_uri())
        assert wait(browser, f"{DRAWN} > 3")
        assert "<img src=x onerror" in browser.execute_script("return document.body.textContent")
        assert browser.execute_script("return document.images.length") == 0
        assert browser.title != "owned"
        entries = "performance.getEntriesByType('resource').map(e => e.name)"
        fetched = browser.execute_script(f"return {entries}")
        assert [name for name in fetched if name.startswith("http")] == []
    assert complaints(browser) == []


@pytest.mark.browser
def test_the_keyboard_reaches_everything(browser: Any, address: str) -> None:
    """The skip link is first and seen; every control and button can be reached, and used."""
    browser.get(f"{address}/cv-lb")
    assert wait(browser, f"{N_POINTS} === 24 && document.querySelector('#cv-lb-study table')")
    keys, focused = ActionChains(browser), "document.activeElement"
    keys.send_keys(Keys.TAB).perform()
    assert browser.execute_script(f"return {focused}.textContent") == "Skip to the content"
    assert browser.execute_script(f"return {focused}.getBoundingClientRect().left") >= 0
    reached: list[str] = []
    for _ in range(60):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.append(
            browser.execute_script(
                f"return [{focused}.id, {focused}.getAttribute('aria-label'), "
                f"{focused}.textContent].find(t => t)"
            )
        )
        outline = browser.execute_script(f"return getComputedStyle({focused}).outlineStyle")
        assert outline != "none", reached[-1]
        if reached[-1] == "Save runs as CSV":
            break
    assert {page.TITLE for page in PAGES} <= set(reached)
    assert {"cv-lb-lb", "cv-lb-band", "cv-lb-runs", "Save CV and leaderboard as SVG"} <= set(
        reached
    )
    assert reached[-2:] == ["Table: runs", "Save runs as CSV"]
    browser.execute_script("document.querySelector('#cv-lb-band').focus()")
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    assert wait(browser, f"{focused}.value === 'top half by CV'")
    ActionChains(browser).send_keys(Keys.SPACE).perform()
    assert wait(browser, "location.search.includes('band=top+half')")
    assert complaints(browser) == []


def test_2000_runs_send_what_can_be_looked_at() -> None:
    """The first hundred rows and one point per run: no page grows with what nobody reads."""
    tables = build_synthetic(2000)
    client = build_app(MadeSource(lambda: tables)).server.test_client()
    page = build_request("cv-lb", cv_lb.CONTROLS, texts={"runs"})
    answer = client.post("/_dash-update-component", json=page, headers={"Host": "localhost"})
    assert answer.status_code == 200 and len(answer.data) < 1_500_000
    sent = json.dumps(answer.json["response"]["cv-lb-content"]["children"])
    assert sent.count('"namespace"') < 60, "each component takes the browser milliseconds"
    (table,) = re.findall(r'"data-table": ("(?:[^"\\]|\\.)*")', sent)
    assert len(json.loads(json.loads(table))["rows"]) == 100
    assert "The first 100 of 2000 rows. The CSV has all." in sent
    (saved,) = set(re.findall(r'"data-csv": "((?:[^"\\]|\\.)*)"', sent))
    assert len(json.loads(f'"{saved}"').splitlines()) == 2001


def test_a_bug_is_named_on_the_page_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Else old numbers would stand below new choices."""

    def fail() -> StudyTables:
        raise KeyError("lr")

    client = build_app(MadeSource(fail)).server.test_client()
    page = build_request("cv-lb", cv_lb.CONTROLS, texts={"runs"})
    answer = client.post("/_dash-update-component", json=page, headers={"Host": "localhost"})
    assert "This page failed: KeyError: 'lr'." in answer.text
    assert caplog.records[-1].exc_info is not None
