"""The pictures of the docs: pages of the dashboard over the demo's lab, as Chromium shows them.

birdlab sweep experiments/one_factor.yaml, experiments/lr_optuna.yaml, birdlab lb score of their
runs, then: python tests/screenshots.py [LAB]. Writes docs/images/.

python tests/screenshots.py LAB --tutorial takes the page of CV and leaderboard of the lab of
docs/tutorials/cv_lb.md instead.
python tests/screenshots.py PAGE.html takes the first recording of a page of birdlab why.
python tests/screenshots.py LAB NAME/VERSION takes MLflow's page of a promoted model instead.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.mlflow_ui import open_browser, serve
from browsing import serving, sized, start_browser, wait

from birdlab.lab import Lab, open_lab
from dashboards.source import LabSource

IMAGES = Path(__file__).parents[1] / "docs" / "images"
WIDTH = 1000
BEST_OF_LR = "a08f24520686"
PAGES = {
    "ablation": ("/ablation?sweep=one_factor", 760),
    "cv_lb": ("/cv-lb", 1250),
    "listen": (f"/listen?run={BEST_OF_LR}&kind=soundscape", 930),
}
"""What is taken, and how much of it from the top, in pixels."""
TUTORIAL = {"cv_lb_tutorial": ("/cv-lb", 1250)}
DRAWN = "document.querySelectorAll('.js-plotly-plot .main-svg').length > 0"
ANSWERED = "(document.querySelector('.answer') || {}).textContent"
QUIET = "!document.querySelector('[data-dash-is-loading=true]')"


def take_pictures(
    browser: Any, address: str, pages: dict[str, tuple[str, int]] = PAGES
) -> list[Path]:
    """The files written: the top of each page, in its light look."""
    written = []
    IMAGES.mkdir(exist_ok=True)
    for name, (place, height) in pages.items():
        with sized(browser, WIDTH, height):
            browser.get(address + place)
            wait(browser, f"{ANSWERED} && {DRAWN} && {QUIET}")
            path = IMAGES / f"{name}.png"
            browser.save_screenshot(str(path))
            written.append(path)
    return written


def take_why(page: Path) -> Path:
    """The file written: the first recording of a page of `birdlab why`, its sound at 2 s."""
    with tempfile.TemporaryDirectory() as folder:
        browser = start_browser(Path(folder))
        try:
            with sized(browser, WIDTH, 560):
                browser.get(page.resolve().as_uri())
                browser.execute_script(
                    "const first = document.querySelector('section.recording');"
                    "window.scrollTo(0, first.getBoundingClientRect().top);"
                    "const sound = first.querySelector('audio');"
                    "sound.preload = 'auto'; sound.load(); sound.currentTime = 2;"
                )
                wait(browser, "document.querySelector('.head').style.left")
                path = IMAGES / "why.png"
                browser.save_screenshot(str(path))
                return path
        finally:
            browser.quit()


def take_registry(lab: Lab, model: str) -> Path:
    """The file written: MLflow's page of `name/version`, without the panel of its assistant."""
    name, version = model.rsplit("/", 1)
    process, port = serve(lab)
    browser = open_browser()
    try:
        browser.set_window_size(WIDTH, 1100)
        browser.get(f"http://127.0.0.1:{port}/#/models/{name}/versions/{version}")
        wait(browser, f"document.body.innerText.includes('Version {version}')")
        close = "document.querySelector('button[aria-label=Close]')"
        wait(browser, close)
        browser.execute_script(f"{close}.click()")
        wait(browser, f"!{close} && document.body.innerText.includes('birdlab.sha256')")
        path = IMAGES / "registry.png"
        browser.save_screenshot(str(path))
        return path
    finally:
        browser.quit()
        os.killpg(process.pid, signal.SIGTERM)


if __name__ == "__main__":
    tutorial = "--tutorial" in sys.argv
    if len(sys.argv) > 2 and not tutorial:
        print(take_registry(open_lab(Path(sys.argv[1])), sys.argv[2]))
        sys.exit()
    if sys.argv[1:] and sys.argv[1].endswith(".html"):
        print(take_why(Path(sys.argv[1])))
        sys.exit()
    lab = open_lab(Path(sys.argv[1])) if len(sys.argv) > 1 else open_lab()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        browser = start_browser(Path(folder))
        try:
            with serving(LabSource(lab)) as address:
                for path in take_pictures(browser, address, TUTORIAL if tutorial else PAGES):
                    print(path)
        finally:
            browser.quit()
