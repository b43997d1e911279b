"""The dashboard: what it serves, to whom, and what a real browser makes of it."""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_study_tables import build_synthetic
from werkzeug.serving import make_server

from birdlab.errors import LabError, LedgerError
from birdlab.study.tables import StudyTables
from dashboards.app import build_app, export_static, serve

HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
)


def build_hostile() -> StudyTables:
    tables = build_synthetic(24)
    tables.runs.loc[3, ["name", "delta"]] = [HOSTILE, f"train.optimizer.lr={HOSTILE}"]
    return tables


def test_foreign_hosts_are_refused() -> None:
    client = build_app(build_synthetic).server.test_client()
    for host in ("localhost:8050", "127.0.0.1", "[::1]:8050", "LOCALHOST"):
        assert client.get("/", headers={"Host": host}).status_code == 200
    for host in ("evil.example", "127.0.0.1.evil.example:8050", "localhost.evil.example", "[::2]"):
        for path in ("/", "/_dash-layout", "/ablation"):
            assert client.get(path, headers={"Host": host}).status_code == 403
    named = build_app(build_synthetic, hosts=frozenset({"lab.example"})).server.test_client()
    assert named.get("/", headers={"Host": "lab.example:80"}).status_code == 200


def test_everything_comes_from_this_server() -> None:
    page = build_app(build_synthetic).server.test_client().get("/", headers={"Host": "localhost"})
    sources = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(sources) > 3
    assert all(source.startswith(("/", "data:,")) and source[:2] != "//" for source in sources)


def test_an_address_in_use_is_said_in_words() -> None:
    server = make_server("127.0.0.1", 0, lambda *_: [])
    try:
        with pytest.raises(LabError, match="--port"):
            serve(build_synthetic, port=server.server_port)
    finally:
        server.server_close()


def test_the_export_writes_a_page_per_question(tmp_path: Path) -> None:
    written = export_static(build_hostile, tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["cv_lb.html", "ablation.html"]
    text = written[0].read_text(encoding="utf-8")
    assert "public leaderboard, padded_cmap" in text and "private leaderboard" in text
    assert HOSTILE not in text and "http://localhost" not in text
    assert "Bars: 95 % intervals" in written[1].read_text(encoding="utf-8")
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot be written"):
        export_static(build_hostile, tmp_path / "file")


def test_an_empty_lab_exports_what_to_do(tmp_path: Path) -> None:
    tables = build_synthetic(3)
    empty = StudyTables(tables.runs.iloc[:0], tables.cells.iloc[:0], tables.ledger.iloc[:0])
    written = export_static(lambda: empty, tmp_path)
    assert ["birdlab run" in written[0].read_text(), "birdlab sweep" in written[1].read_text()] == [
        True,
        True,
    ]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        reason = "no browser: chromium and chromedriver are not installed"
        if os.environ.get("BIRDLAB_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        # Any name but this machine's leads nowhere: what needs a network fails loudly.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = make_server("127.0.0.1", 0, build_app(build_hostile).server, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def wait(browser: Any, script: str, seconds: float = 30) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, seconds).until(lambda b: b.execute_script(f"return {script}"))


ANSWER = "(document.querySelector('#cv-lb-answer') || {}).textContent"
N_ROWS = "[...document.querySelectorAll('tbody')].pop()?.rows.length"
DRAWN = "document.querySelectorAll('.js-plotly-plot .scatterlayer .point').length"


def complaints(browser: Any) -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] != "INFO"]


@pytest.mark.browser
def test_the_page_renders_and_a_filter_changes_the_numbers(browser: Any, address: str) -> None:
    from selenium.webdriver.common.by import By

    browser.get(address)
    assert wait(browser, f"{DRAWN} === 24 && {N_ROWS} === 24")
    answer = wait(browser, ANSWER)
    assert "over 24 runs" in answer
    box = browser.find_element(By.ID, "cv-lb-runs")
    box.send_keys("run 1")
    assert wait(browser, f"{N_ROWS} === 11 && {DRAWN} === 11")
    assert "over 11 runs" in browser.execute_script(f"return {ANSWER}")
    assert wait(browser, "location.search.includes('runs=run+1')")
    box.send_keys("1")
    assert wait(browser, f"{ANSWER}.startsWith('No verdict: 1 run')")
    browser.back()
    assert wait(browser, f"{N_ROWS} === 11")
    assert browser.execute_script("return document.querySelector('#cv-lb-runs').value") == "run 1"
    assert complaints(browser) == []


@pytest.mark.browser
def test_the_url_holds_the_state(browser: Any, address: str) -> None:
    browser.get(f"{address}/?lb=private&cv=cv/macro_auc&runs=run")
    assert wait(browser, f"{ANSWER}?.includes('private padded_cmap')")
    assert wait(browser, "document.querySelector('.xtitle')?.textContent === 'cv/macro_auc'")
    browser.get(f"{address}/?lb=nothing&metric=none")
    assert wait(browser, f"{ANSWER}?.includes('public padded_cmap')")
    assert complaints(browser) == []


@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1280])
def test_pages_fit_and_a_hostile_name_is_text(browser: Any, address: str, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        for path in ("/", "/ablation"):
            browser.get(address + path)
            assert wait(browser, f"{DRAWN} > 3")
            assert wait(browser, "document.body.textContent.includes('<img src=x onerror')")
            assert browser.execute_script("return document.images.length") == 0
            assert browser.title == "birdlab"
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert complaints(browser) == []


@pytest.mark.browser
def test_an_unreadable_ledger_is_said_in_words(
    browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dashboards.app.FRESH_S", 0.0)
    torn = threading.Event()

    def load() -> StudyTables:
        if torn.is_set():
            raise LedgerError("the last ledger line was cut off", fix="delete <that> line")
        return build_synthetic(12)

    server = make_server("127.0.0.1", 0, build_app(load).server, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    said = "document.querySelector('#problem')?.textContent.includes('delete <that> line')"
    try:
        browser.get(f"http://127.0.0.1:{server.server_port}/")
        assert wait(browser, f"{N_ROWS} === 12") and not browser.execute_script(f"return {said}")
        torn.set()
        browser.find_element("id", "cv-lb-runs").send_keys("run")
        assert wait(browser, said)
        browser.refresh()
        assert wait(browser, said)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert complaints(browser) == []


@pytest.mark.browser
def test_the_export_opens_without_a_network(browser: Any, tmp_path: Path) -> None:
    for path in export_static(build_hostile, tmp_path):
        browser.get(path.as_uri())
        assert wait(browser, f"{DRAWN} > 3")
        assert "<img src=x onerror" in browser.execute_script("return document.body.textContent")
        assert browser.execute_script("return document.images.length") == 0
        assert browser.title != "owned"
        entries = "performance.getEntriesByType('resource').map(e => e.name)"
        fetched = browser.execute_script(f"return {entries}")
        assert [name for name in fetched if name.startswith("http")] == []
    assert complaints(browser) == []
