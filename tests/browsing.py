"""A real browser on the pages of the dashboard: what its tests do with it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from werkzeug.serving import make_server

from birdlab.lab import Lab
from birdlab.study.tables import StudyTables
from dashboards.app import build_app
from dashboards.source import LabSource

DRAWN = "document.querySelectorAll('.js-plotly-plot .scatterlayer .point').length"
"""How many points all figures of the page show."""
HOSTILE = (
    "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
)


class MadeSource(LabSource):
    """A lab whose tables are made by a function; single runs are read from the lab as ever."""

    def __init__(self, make: Callable[[], StudyTables], lab: Lab | None = None) -> None:
        super().__init__(lab or Lab(Path("no-such-lab")))
        self.make = make

    def state(self) -> object:
        """Never the same: `make` may return something else each time."""
        return object()

    def read_tables(self) -> StudyTables:
        """What the function makes."""
        return self.make()

    def record(self, run: str) -> Mapping[str, Any]:
        """That of a foreign run without cells where the lab holds none."""
        if (self.lab.runs / f"{run}.json").is_file():
            return super().record(run)
        return {"spec_id": run, "name": run, "spec": None, "cells": []}


@contextmanager
def serving(source: LabSource) -> Iterator[str]:
    """The address of a dashboard over `source`, on a free port."""
    server = make_server("127.0.0.1", 0, build_app(source).server, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def start_browser(folder: Path) -> Any:
    """Headless Chromium without a network, its profile and downloads in `folder`.

    `downloads` of what is returned is where files arrive. WebDriverException where there is none.
    """
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("chromium-browser") or ""
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        # Any name but this machine's leads nowhere: what needs a network fails loudly.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        f"--user-data-dir={folder / 'profile'}",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    opened.downloads = folder / "downloads"
    opened.downloads.mkdir()
    opened.execute_cdp_cmd(
        "Browser.setDownloadBehavior",
        {"behavior": "allow", "downloadPath": str(opened.downloads)},
    )
    return opened


def wait(browser: Any, script: str, seconds: float = 30) -> Any:
    """The value of a JavaScript expression as soon as it is true; TimeoutException otherwise."""
    from selenium.webdriver.support.ui import WebDriverWait

    waiting = WebDriverWait(browser, seconds, poll_frequency=0.02)
    return waiting.until(lambda b: b.execute_script(f"return {script}"), message=script)


def complaints(browser: Any) -> list[str]:
    """What the console said since it was asked last, notices left out."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] != "INFO"]


@contextmanager
def sized(browser: Any, width: int, height: int = 900, *, dark: bool = False) -> Iterator[None]:
    """The browser with a window of this width, and with a dark or light look."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    look = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": look})
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def fits(browser: Any) -> bool:
    """Whether nothing sticks out to the right of the page."""
    script = "return [document.documentElement.scrollWidth, window.innerWidth]"
    content, window = browser.execute_script(script)
    return bool(content <= window)


def choose(browser: Any, box: str, text: str) -> None:
    """Pick the option of a drop-down whose text is `text`."""
    browser.find_element("id", box).click()
    option = f"""[...document.querySelectorAll('.dash-dropdown-option')]
        .find(e => e.textContent.trim() === {text!r})"""
    wait(browser, f"!!{option}")
    browser.execute_script(f"{option}.click()")


def save(browser: Any, selector: str, seconds: float = 20) -> Path:
    """The file that arrives when the button is clicked."""
    folder = Path(browser.downloads)
    before = set(folder.iterdir())
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        new = [p for p in folder.iterdir() if p not in before and p.suffix != ".crdownload"]
        if new and new[0].stat().st_size and not new[0].name.startswith("."):
            return new[0]
        time.sleep(0.02)
    raise AssertionError(f"no file arrived: {selector}")


def screenshot(browser: Any, path: Path) -> None:
    """Write the whole page as a PNG."""
    tall = int(np.ceil(browser.execute_script("return document.documentElement.scrollHeight")))
    width = browser.execute_script("return window.innerWidth")
    size = {"width": width, "height": tall, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    path.parent.mkdir(parents=True, exist_ok=True)
    browser.save_screenshot(str(path))
