"""A store of thousands of runs, and how soon the MLflow UI shows the first of them.

    python tests/benchmarks/mlflow_ui.py LAB --runs 2000 --screenshot runs.png

LAB is a folder with at least one scored run (`make demo` makes one). Its records are copied
under other ids into a lab of this script's own, logged, and looked at with headless Chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from birdlab.lab import Lab, open_lab
from birdlab.recorded import load_records
from birdlab.tracking.index import load_link, load_runs
from birdlab.tracking.runextras import Extras
from birdlab.tracking.sync import sync

ROWS = "return document.querySelectorAll('a[href*=\"/runs/\"]').length"


def fill(lab: Lab, source: Lab, n_runs: int) -> None:
    """Log one run of the source with its children, then copy it row by row in the database."""
    record = next(r for r in load_records(source) if r["scores"])
    lab.runs.mkdir(parents=True, exist_ok=True)
    (lab.stores / "cells").symlink_to(source.cells)
    (lab.runs / f"{record['spec_id']}.json").write_text(json.dumps(record))
    sync(lab, Extras())
    link = load_link(lab, record["spec_id"])
    database = sqlite3.connect(lab.stores / "mlflow.db")
    with database:
        for number in range(1, n_runs):
            parent, spec_id = f"{number:032x}", f"{number:012x}"
            copied = {**record, "spec_id": spec_id, "name": f"arm {number}"}
            (lab.runs / f"{spec_id}.json").write_text(json.dumps(copied))
            copy_run(database, link["parent"], parent, number)
            change = "UPDATE tags SET value = ? WHERE run_uuid = ? AND key = ?"
            database.execute(change, (f"arm {number}", parent, "mlflow.runName"))
            for place, child in enumerate(link["children"].values()):
                own = f"{place + 1:x}{number:031x}"
                copy_run(database, child, own, number)
                database.execute(change, (parent, own, "mlflow.parentRunId"))
    database.close()


def copy_run(database: sqlite3.Connection, run: str, new: str, number: int) -> None:
    """Copy everything that the store holds of a run under another id, `number` seconds later."""
    for table in ("runs", "tags", "params", "metrics", "latest_metrics"):
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        moved = {at: f"{at} + {1000 * number}" for at in ("start_time", "end_time")}
        values = {"run_uuid": "?", **moved}
        if table == "runs":
            values["name"] = f"name || ' {number}'"
        chosen = ", ".join(values.get(column, column) for column in columns)
        query = f"INSERT INTO {table} SELECT {chosen} FROM {table} WHERE run_uuid = ?"
        database.execute(query, (new, run))


def serve(lab: Lab) -> tuple[subprocess.Popen[bytes], int]:
    """The process of `birdlab ui` on the lab, and its port, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = ["-m", "birdlab.cli.app", "--lab", str(lab.root), "ui", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
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
            os.killpg(process.pid, signal.SIGTERM)  # its own server too
            process.wait()


if __name__ == "__main__":
    main()
