"""The dashboard with 2,000 runs, in a browser: opening a page and answering a filter."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pytest
from browsing import serving, wait
from conftest import MakeLab
from rows import Row, note

from birdlab.lab import Lab
from birdlab.study.ledger import append_rows
from dashboards.source import LabSource

N_ROWS = "document.querySelector('[aria-label=\"Table: runs\"] tbody')?.rows.length"
N_POINTS = "document.querySelectorAll('#cv-lb-scatter .point').length"
STUDIED = "!!document.querySelector('#cv-lb-study table')"

ASKED = {
    "read": ("records read when the command starts", 0),
    "first": ("first open of a cold browser", 3),
    "next": ("next open", 3),
    "filter": ("answer to a filter", 1),
}
"""What is timed, and the seconds it may take; 0: nothing was asked of it."""


def fill_lab(lab: Lab, n_runs: int) -> Lab:
    """The lab with `n_runs` records like its own one, each scored on the leaderboard."""
    (path,) = (p for p in lab.runs.glob("*.json") if not p.name.endswith(".mlflow.json"))
    record, rng = json.loads(path.read_text()), np.random.default_rng(0)
    path.unlink()
    rows: list[dict[str, Any]] = []
    for i in range(n_runs):
        run, truth = f"{i:012x}", rng.normal(0.7, 0.03)
        cells = [cell | {"padded_cmap": truth + rng.normal(0, 0.01)} for cell in record["cells"]]
        mean = float(np.mean([cell["padded_cmap"] for cell in cells]))
        scores = record["scores"] | {"cv/padded_cmap": mean}
        changed = {"spec_id": run, "name": f"run {i}", "cells": cells, "scores": scores}
        (lab.runs / f"{run}.json").write_text(json.dumps(record | changed, indent=1))
        lb = round(truth + rng.normal(0, 0.02), 3)
        rows.append({"run": run, "metric": "padded_cmap", "source": "add", "public": lb})
    append_rows(lab.ledger, rows)
    return lab


def time_page(browser: Any, lab: Lab, n_runs: int) -> dict[str, float]:
    """Seconds to the drawn page: of the first who opens it, of the next, and after a filter.

    "read" is what `birdlab dashboard` spends on the records before it serves; "studied" counts
    all statistics too, which follow the drawn runs.
    """
    source, began = LabSource(lab), time.perf_counter()
    source.tables()
    seconds = {"read": time.perf_counter() - began}
    with serving(source) as address:
        for name in ("first", "next"):
            began = time.perf_counter()
            browser.get(f"{address}/cv-lb")
            assert wait(browser, f"{N_POINTS} === {n_runs}", 60)
            seconds[name] = time.perf_counter() - began
            assert wait(browser, STUDIED, 60)
            seconds[f"{name}, studied"] = time.perf_counter() - began
        kept = sum(f"run {i}".startswith("run 1") for i in range(n_runs))
        box = browser.find_element("id", "cv-lb-runs")
        box.send_keys("run 1")
        began = time.perf_counter() + 0.5  # the box waits half a second for the next key
        assert wait(browser, f"{N_POINTS} === {kept} && {N_ROWS} === {min(kept, 100)}", 60)
        seconds["filter"] = time.perf_counter() - began
    return seconds


@pytest.mark.browser
def test_the_page_of_2000_runs(benchmark: Any, browser: Any, make_lab: MakeLab) -> None:
    """Peer: the same page of 20 runs."""
    few, many = (fill_lab(make_lab(trained=True), n) for n in (20, 2000))
    peer = time_page(browser, few, 20)
    ours = benchmark.pedantic(time_page, args=(browser, many, 2000), rounds=1)
    for name in ours:
        print(f"\n{name}: {ours[name]:.2f} s with 2000 runs, {peer[name]:.2f} s with 20")
    for name, (what, most) in ASKED.items():
        held = ours[name] < most if most else None
        note(
            benchmark,
            Row(
                "Tracking and pages",
                f"page CV-LB with 2,000 runs: {what}",
                f"{ours[name]:.2f} s",
                f"{peer[name]:.2f} s with 20 runs",
                asked=f"under {most} s" if most else "",
                held=held,
            ),
        )
    assert ours["next"] < 6 * peer["next"] and ours["filter"] < 12 * peer["filter"]
