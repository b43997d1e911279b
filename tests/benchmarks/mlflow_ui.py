"""A store of thousands of runs, and how soon the MLflow UI shows the first of them.

    python tests/benchmarks/mlflow_ui.py LAB --runs 2000 --screenshot runs.png

LAB is a folder with at least one scored run (`make demo` makes one). Its records are copied
under other ids into a lab of this script's own, logged, and looked at with headless Chromium.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from birdlab.lab import Lab, open_lab
from birdlab.recorded import load_records
from birdlab.storedrun import load_result
from birdlab.tracking import runcontent as content
from birdlab.tracking.client import connect
from birdlab.tracking.index import load_runs

ROWS = "return document.querySelectorAll('a[href*=\"/runs/\"]').length"


def fill(lab: Lab, source: Lab, n_runs: int) -> None:
    """Write `n_runs` records into the lab, and their parent runs into its MLflow."""
    from mlflow.entities import Metric, Param, RunTag

    record = next(r for r in load_records(source) if r["scores"])
    result, client = load_result(source, record["spec_id"]), connect(lab)
    experiment = client.create_experiment(record["project"])
    lab.runs.mkdir(parents=True, exist_ok=True)
    params, metrics = content.parent_params(result, record), content.parent_metrics(record)
    tags = content.parent_tags(result, record)
    for number in range(n_runs):
        spec_id, name = f"{number:012x}", f"arm {number}"
        copied = {**record, "spec_id": spec_id, "name": name}
        (lab.runs / f"{spec_id}.json").write_text(json.dumps(copied))
        own = {"spec_id": spec_id, "mlflow.runName": name}
        run = client.create_run(experiment, run_name=name, tags={**tags, **own})
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(k, v + number * 1e-6, 0, 0) for k, v in metrics.items()],
            params=[Param(k, v) for k, v in params.items()],
            tags=[RunTag("birdlab.logged", "benchmark")],
        )
        client.set_terminated(run.info.run_id, "FINISHED")


def serve(lab: Lab) -> tuple[subprocess.Popen[bytes], int]:
    """The process of `birdlab ui` on the lab, and its port, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = ["-m", "birdlab.cli.app", "--lab", str(lab.root), "ui", "--port", str(port)]
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process, port
        time.sleep(0.1)
    raise SystemExit("the UI did not start")


def seconds_to_rows(address: str, screenshot: Path | None) -> tuple[float, int]:
    """The time until the page at `address` links to runs, in a fresh browser, and how many."""
    driver = open_browser()
    try:
        began = time.perf_counter()
        driver.get(address)
        while not (shown := driver.execute_script(ROWS)):
            if time.perf_counter() - began > 60:
                raise SystemExit("no row appeared within a minute")
            time.sleep(0.02)
        took = time.perf_counter() - began
        if screenshot is not None:
            time.sleep(2)
            driver.save_screenshot(str(screenshot))
        return took, int(shown)
    finally:
        driver.quit()


def open_browser() -> Any:
    """Headless Chromium that asks nobody outside."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--window-size=1600,1000",
    ):
        options.add_argument(flag)
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def main() -> None:
    """Fill a store, then print how long the UI and the index of runs take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lab", type=Path)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--screenshot", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "birdlab.toml").touch()
        lab, source = open_lab(folder), open_lab(asked.lab)
        began = time.perf_counter()
        fill(lab, source, asked.runs)
        print(f"{asked.runs} runs written in {time.perf_counter() - began:.0f} s")
        began = time.perf_counter()
        n_read = len(load_runs(lab))
        print(f"{n_read} runs read from the index in {time.perf_counter() - began:.2f} s")
        process, port = serve(lab)
        address = f"http://127.0.0.1:{port}/#/experiments/1/runs"
        try:
            for number in range(asked.times):
                took, shown = seconds_to_rows(address, asked.screenshot)
                print(f"first rows after {took:.2f} s ({shown} links), try {number + 1}")
        finally:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
