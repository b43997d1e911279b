"""Costs beside gains: hours of arms, prices, the Pareto set, what cache and race saved."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commandline import print_of
from conftest import MakeLab
from cost_simulations import World, judge, make_record
from hypothesis import given
from hypothesis import strategies as st

from birdlab.cellfiles import CARD
from birdlab.cli.summaries import summarise_costs
from birdlab.costs import ModelCosts
from birdlab.errors import ResolveError
from birdlab.lab import Lab
from birdlab.recorded import load_records
from birdlab.study.arm_costs import NAN, ArmCosts, CellCost, arm_costs, device_kind
from birdlab.study.bet_file import bets_path
from birdlab.study.cost_records import load_arm_costs, load_cell_costs
from birdlab.study.cost_report import build_value_document, pareto_infos, values_words
from birdlab.study.cost_values import value_table
from birdlab.study.document_html import document_html
from birdlab.study.lab_savings import load_savings
from birdlab.study.pareto import find_undominated, get_pareto_info, plot_pareto
from birdlab.study.ranking import Ranking, rank_arms
from birdlab.study.savings import call_sentence, sweep_savings
from birdlab.study.svg import draw_svg
from birdlab.study.sweep_records import load_sweep
from birdlab.study.value_words import cheapest_sentence
from birdlab.tracking.drivers import Driver

GPU = "NVIDIA H100"
HOUR = 3600.0
FOLDS = range(5)


def cell(hours: float, *inputs: str, device: str = GPU) -> CellCost:
    return CellCost(HOUR * hours, device, inputs)


CELLS = {
    "pre": cell(2.0),
    "teach": cell(4.0),
    "b0": cell(1.0),
    "b1": cell(1.0),
    "t0": cell(0.5, "pre"),
    "t1": cell(0.5, "pre"),
    "d0": cell(1.5, "t0", "teach"),
    "d1": cell(1.5, "t1", "teach"),
}
RUNS = {
    "base": make_record("base", ["b0", "b1"]),
    "tuned": make_record("tuned", ["t0", "t1"]),
    "taught": make_record("taught", ["d0", "d1"]),
}


def by_arm(costs: ArmCosts) -> dict[str, dict[str, Any]]:
    return {row["arm"]: row for row in costs.table.to_dict("records")}


def test_an_arm_pays_for_all_that_it_goes_back_to_once() -> None:
    found = by_arm(arm_costs(RUNS, CELLS, {}))
    assert [found[a]["train_hours"] for a in RUNS] == [2.0, 3.0, 10.0]
    assert [found[a]["own_hours"] for a in RUNS] == [2.0, 0.0, 7.0]
    assert [found[a]["shared_hours"] for a in RUNS] == [0.0, 3.0, 3.0]
    split = [found[a]["split_hours"] for a in RUNS]
    assert split == [2.0, 1.5, 8.5]
    assert sum(split) == sum(c.seconds for c in CELLS.values()) / HOUR
    assert [found[a]["model_hours"] for a in RUNS] == [1.0, 1.5, 5.0]


def test_models_of_an_arm_pay_equal_parts_of_what_they_share() -> None:
    models = arm_costs(RUNS, CELLS, {}).models
    assert models["hours"].tolist() == [1.0, 1.0, 1.5, 1.5, 5.0, 5.0]
    alone = {**CELLS, "t1": cell(0.7)}
    hours = arm_costs(RUNS, alone, {}).models["hours"].tolist()
    assert hours[2:4] == pytest.approx([2.5, 0.7])


def test_hours_of_two_kinds_of_device_are_never_added() -> None:
    mixed = {**CELLS, "pre": cell(2.0, device="x86_64")}
    costs = arm_costs(RUNS, mixed, {})
    tuned = by_arm(costs)["tuned"]
    assert tuned["kind"] == "GPU, CPU" and tuned["device"] == f"{GPU}, x86_64"
    assert (tuned["gpu_hours"], tuned["cpu_hours"]) == (1.0, 2.0)
    assert math.isnan(tuned["train_hours"]) and math.isnan(tuned["split_hours"])
    assert any("GPU and CPU: tuned, taught" in sentence for sentence in costs.sentences)
    assert [device_kind(d) for d in ("", "aarch64", "Intel64 Family 6", "Tesla T4")] == [
        *("", "CPU", "CPU", "GPU")
    ]


def test_a_cell_of_unknown_time_is_told_and_gives_no_price() -> None:
    lost = {k: v for k, v in CELLS.items() if k != "teach"} | {"b1": CellCost(NAN, GPU)}
    costs = arm_costs(RUNS, lost, {})
    assert [row["unknown"] for row in by_arm(costs).values()] == [1, 0, 1]
    assert any("not known for 2 cells of base, taught" in s for s in costs.sentences)
    values = value_table(rank_of({"tuned": 0.1}, n=2), costs)
    row = values.table.set_index("arm").loc["tuned"]
    assert math.isnan(row["extra_hours"]) and row["hours_words"] == ""
    assert arm_costs({}, {}, {}).sentences == ()


COMPETITION = {"window_s": 5.0, "n_soundscapes": 10, "soundscape_s": 60.0, "cpu_minutes": 5.0}


@pytest.mark.parametrize(
    ("evaluate", "ms", "windows"),
    [({}, 10.0, 120), ({"hop_s": 2.5}, 20.0, 230), ({"windows_per_pass": 5}, 10.0, 150)],
)
def test_cpu_time_counts_what_overlaps(evaluate: Any, ms: float, windows: int) -> None:
    spec = {"evaluate": evaluate, "competition": COMPETITION}
    runs = {"a": make_record("a", ["b0"], model_id="m") | {"spec": spec}}
    costs = {"m": ModelCosts(5, 1.5, 10.0, "a processor")}
    row = by_arm(arm_costs(runs, CELLS, costs))["a"]
    assert (row["cpu_ms"], row["size_mb"], row["processor"]) == (ms, 1.5, "a processor")
    assert row["cpu_minutes"] == pytest.approx(windows * 10.0 / 60_000)
    bare = runs["a"] | {"spec": None}
    assert math.isnan(by_arm(arm_costs({"a": bare}, CELLS, costs))["a"]["cpu_minutes"])


# ---------------------------------------------------------------- prices


def rank_of(gains: Mapping[str, float], *, noise: float = 0.002, n: int = 5) -> Ranking:
    """Arms with these differences to `base` over n folds."""
    return rank_arms(rank_cells(gains, noise=noise, n=n), base="base")


def rank_cells(gains: Mapping[str, float], *, noise: float, n: int = 5) -> pd.DataFrame:
    """Their scores."""
    rng = np.random.default_rng(3)
    rows = [
        (arm, fold, 0, 0.7 + 0.02 * fold + gain + noise * rng.standard_normal())
        for arm, gain in {"base": 0.0, **gains}.items()
        for fold in range(n)
    ]
    return pd.DataFrame(rows, columns=["arm", "fold", "seed", "score"])


def costs_of(
    hours: Mapping[str, float], cpu: Mapping[str, float], *, jitter: float = 0.01
) -> ArmCosts:
    """Arms of five cells that take so many hours each, and so many milliseconds a window."""
    cells, runs, models = {}, {}, {}
    for arm, took in hours.items():
        ids = [f"{arm}{fold}" for fold in FOLDS]
        cells |= {c: cell(took + jitter * (fold - 2)) for fold, c in enumerate(ids)}
        runs[arm] = make_record(arm, ids, model_id=arm)
        models[arm] = ModelCosts(1, 1.0, cpu[arm], "a processor")
    return arm_costs(runs, cells, models)


GAINS = {"big": 0.06, "cheap": 0.03, "bad": -0.04, "poor": -0.05, "dear": -0.03, "vague": 0.002}
HOURS = {"base": 1.0, "big": 3.0, "cheap": 1.0, "bad": 0.5, "poor": 1.0, "dear": 2.0, "vague": 2.0}
CPU = {"base": 10.0, "big": 20.0, "cheap": 8.0, "bad": 10.1, "poor": 10, "dear": 10, "vague": 30}


def test_only_decided_arms_have_a_price_and_free_ones_are_called_free() -> None:
    ranking = rank_of(GAINS)
    values = value_table(ranking, costs_of(HOURS, CPU))
    table = values.table.set_index("arm")
    verdicts = table["verdict"].to_dict()
    assert [verdicts[a] for a in ("big", "cheap", "bad")] == ["better", "better", "worse"]
    assert verdicts["vague"] not in ("better", "worse")
    big = table.loc["big"]
    assert big["extra_hours"] == pytest.approx(2.0)
    assert big["gain_per_hour"] == pytest.approx(big["delta"] / 2)
    assert big["gain_per_cpu_ms"] == pytest.approx(big["delta"] / 10)
    assert big["hours_words"].endswith(" an hour") and big["cpu_words"].endswith("a millisecond")
    assert table.loc["cheap", "hours_words"] == "free: better for as much"
    assert table.loc["cheap", "cpu_words"] == "free: better for 2 ms less"
    assert math.isnan(table.loc["cheap", "gain_per_hour"])
    bad = table.loc["bad"]
    assert bad["gain_per_hour"] > 0 and bad["hours_words"].startswith("loses ")
    assert bad["cpu_words"] == "worse, for as much", "a hundredth of a millisecond is no saving"
    assert table.loc["dear", "hours_words"] == "worse, for 60 min more"
    vague = table.loc["vague"]
    assert math.isnan(vague["gain_per_hour"]) and math.isnan(vague["gain_per_cpu_ms"])
    assert "for 60 min more" in vague["hours_words"] and "an hour" not in vague["hours_words"]
    said = " ".join(values.sentences)
    assert "cheap gains for no more of it: free" in said
    assert "Nothing that costs more gains more per GPU-hour of training a model than big" in said


def test_the_cheapest_better_arm_is_named() -> None:
    def cheapest(gains: Mapping[str, float], costs: ArmCosts) -> str:
        return cheapest_sentence(value_table(rank_of(gains), costs).table)

    said = cheapest(GAINS, costs_of(HOURS, CPU))
    assert said.startswith("The cheapest arm shown to be better is cheap: +0.0")
    assert said.endswith(" for as many hours a model, -2 CPU ms a window.")
    dearer = costs_of(HOURS | {"cheap": 5.0}, CPU)
    assert "better is big" in cheapest(GAINS, dearer)
    assert "for 2.0 h more a model, +10 CPU ms" in cheapest(GAINS, dearer)
    alone = cheapest({"big": 0.06}, costs_of({"base": 3.0, "big": 1.0}, CPU))
    assert alone.startswith("The one arm") and "for 2.0 h less a model" in alone
    assert cheapest({"poor": -0.05}, costs_of(HOURS, CPU)) == ""
    assert cheapest({"big": 0.06}, ArmCosts(dearer.table, dearer.models.iloc[:0], ())) == ""


def test_an_undecided_arm_shows_its_interval() -> None:
    values = value_table(rank_of({"big": 0.01}, noise=0.02), costs_of(HOURS, CPU))
    row = values.table.set_index("arm").loc["big"]
    assert row["verdict"] == "undecided"
    assert (
        row["hours_words"] == f"undecided: {row['low']:+.4f} to {row['high']:+.4f} for 2.0 h more"
    )
    assert values.sentences[0].startswith("Not enough evidence for a price: no arm is shown")
    assert values_words(values)["gain for hours"].tolist()[0] == row["hours_words"]
    none = value_table(rank_of({"poor": -0.05}), costs_of(HOURS, CPU))
    assert "None was seen to gain" in none.sentences[0]


def test_hours_that_scatter_more_than_they_differ_give_no_price() -> None:
    costs = costs_of({"base": 1.0, "big": 1.3}, CPU, jitter=0.0)
    priced = value_table(rank_of({"big": 0.06}), costs).table.set_index("arm").loc["big"]
    assert priced["gain_per_hour"] == pytest.approx(priced["delta"] / 0.3)
    models = costs.models.copy()
    models.loc[models["arm"] == "big", "hours"] += [-2.0, 2.0, -2.0, 2.0, 0.0]
    noisy = ArmCosts(costs.table, models, ())
    blurred = value_table(rank_of({"big": 0.06}), noisy).table.set_index("arm").loc["big"]
    assert blurred["extra_low"] < 0 < blurred["extra_high"]
    assert math.isnan(blurred["gain_per_hour"]) and blurred["hours_words"].startswith("free")


def test_hours_on_other_devices_are_not_compared() -> None:
    costs = costs_of({"base": 1.0, "big": 3.0}, CPU)
    nameless = ArmCosts(costs.table, costs.models.assign(device=""), ())
    bare = value_table(rank_of({"big": 0.06}), nameless).table.set_index("arm").loc["big"]
    assert math.isnan(bare["extra_hours"]), "devices that no card names need not be one"
    costs.models.loc[costs.models["arm"] == "big", "device"] = "Tesla T4"
    costs.table.loc[costs.table["arm"] == "big", "device"] = "Tesla T4"
    costs.table.loc[costs.table["arm"] == "big", "processor"] = "another"
    values = value_table(rank_of({"big": 0.06}), costs)
    row = values.table.set_index("arm").loc["big"]
    assert row[["extra_hours", "extra_cpu_ms", "hours_beside", "cpu_ms_beside"]].isna().all()
    assert not row["pareto_hours"] and not row["pareto_cpu"]
    assert any("Hours not compared with the base" in s and "big" in s for s in values.sentences)


# ---------------------------------------------------------------- the Pareto set

numbers = st.one_of(st.integers(0, 4).map(float), st.just(NAN))


@given(st.lists(st.tuples(numbers, numbers, numbers), max_size=12))
def test_the_frontier_is_what_nothing_beats(points: list[tuple[float, float, float]]) -> None:
    def beats(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
        return a[0] >= b[0] and a[1] <= b[1] and a[2] <= b[2] and a != b

    expected = [
        not any(math.isnan(v) for v in p) and not any(beats(other, p) for other in points)
        for p in points
    ]
    columns = list(zip(*points, strict=True)) or [(), (), ()]
    assert find_undominated(*columns).tolist() == expected


def test_the_figure_draws_undecided_arms_hollow_and_steps_through_the_frontier() -> None:
    table = pd.DataFrame(
        {
            "arm": ["base", "<b>", "dear", "none"],
            "mean": [0.7, 0.8, 0.75, 0.9],
            "verdict": ["base", "undecided", "better", "better"],
            "hours": [1.0, 2.0, 3.0, NAN],
        }
    )
    info = get_pareto_info(table, "hours", "hours")
    assert info.points["arm"].tolist() == ["base", "<b>", "dear"]
    assert info.points["frontier"].tolist() == [True, True, False]
    figure = plot_pareto(info)
    steps, *marks = figure.data
    assert (list(steps.x), list(steps.y)) == ([1, 2, 2, 2], [0.7, 0.7, 0.8, 0.8])
    symbols = {m.name: m.marker.symbol for m in marks}
    assert symbols["undecided"].endswith("-open") and not symbols["better"].endswith("-open")
    drawn = draw_svg(figure)
    assert ">&lt;b&gt;</text>" in drawn and ">dear</text>" not in drawn


# ---------------------------------------------------------------- what was saved


def test_savings_are_what_each_arm_would_have_trained_less_once() -> None:
    found = sweep_savings(RUNS, CELLS)
    (row,) = found.table.to_dict("records")
    assert row == {
        "device": "GPU",
        "needed_hours": 15.0,
        "trained_hours": 12.0,
        "cache_hours": 3.0,
        "race_hours": 0.0,
    }
    assert (found.n_shared, found.n_raced, found.unknown) == (3, 0, 0)
    assert found.sentences == (
        "Cache: 3 times an arm needed a cell that another arm needed too: 3.0 h on GPU saved since "
        "the sweep began.",
    )
    assert call_sentence({"b0"}, {"b0", "b1", "t0"}, CELLS) == (
        "This call found 2 cells in the cache: 90 min on GPU that it did not train."
    )
    assert call_sentence({"b0"}, {"b0"}, CELLS) == ""
    alone = sweep_savings({"base": RUNS["base"]}, CELLS)
    assert alone.sentences == ("Cache: the arms share no cell.",)


def test_a_race_saves_the_cells_that_it_left_out_at_the_mean_of_their_arm() -> None:
    runs = {name: json.loads(json.dumps(record)) for name, record in RUNS.items()}
    for name, seconds in (("base", 3600), ("tuned", 1800), ("taught", 5400)):
        for row in runs[name]["cells"]:
            row |= {"seconds": seconds, "device": GPU}
    runs["taught"]["cells"][1] |= {"seconds": 1800, "device": "x86_64"}
    found = sweep_savings(runs, CELLS, {"base": 2, "tuned": 6, "taught": 4})
    hours = found.table.set_index("device")["race_hours"]
    assert hours["GPU"] == pytest.approx(4 * 0.5 + 2 * 1.5 / 2)
    assert hours["CPU"] == pytest.approx(2 * 0.5 / 2)
    assert (found.n_raced, found.n_planned) == (6, 12)
    assert found.sentences[1] == (
        "Race: 6 of 12 cells were not trained, about 3.5 h on GPU, 30 min on CPU."
    )
    untimed = sweep_savings(RUNS, {}, {"base": 3})
    assert "their time is not known" in untimed.sentences[1] and untimed.unknown == 6


# ---------------------------------------------------------------- simulation, lab, commands


def test_prices_by_verdict_are_seldom_wrong_where_bare_ratios_are() -> None:
    found = judge(World(gain_sd=0.003), 5, seed=0)
    assert found["wrong"] == 0 and found["bare_wrong"] > 0
    assert 0 < found["front"] < 1


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """A lab with a run and, from its record, a sweep of it and one that starts from its cells."""
    lab = make_lab(trained=True)
    (record,) = load_records(lab)
    later = json.loads(json.dumps(record)) | {"spec_id": "f" * 12, "name": "later"}
    for place, row in enumerate(record["cells"]):
        source = lab.cells / row["cell_id"]
        card = json.loads((source / CARD).read_text()) | {"seconds": 3600.0, "device": GPU}
        (source / CARD).write_text(json.dumps(card))
        copy = lab.cells / (f"{place}" * 16)
        shutil.copytree(source, copy)
        told = card | {"cell_id": copy.name, "start": row["cell_id"], "seconds": 1800.0}
        (copy / CARD).write_text(json.dumps(told))
        later["cells"][place] |= {"cell_id": copy.name, "padded_cmap": row["padded_cmap"] + 0.1}
    arms = []
    for title, delta, one in (("base", {}, record), ("later", {"x": 1}, later)):
        one["sweeps"] = {"two": {"title": title, "delta": delta, "stopped_at": ""}}
        (lab.runs / f"{one['spec_id']}.json").write_text(json.dumps(one))
        arms.append({"title": title, "delta": delta, "spec_id": one["spec_id"], "point": {}})
    spec = {"name": "two", "base": "tiny.yaml", "grid": {"train.batch": [2, 4]}}
    sweep = {"name": "two", "updated_at": "2026-01-01", "spec": spec, "arms": arms}
    sweep |= {"stopped": [], "failed": [], "ranking": None, "sentences": []}
    (lab.stores / "sweeps").mkdir(exist_ok=True)
    (lab.stores / "sweeps" / "two.json").write_text(json.dumps(sweep))
    return lab


def test_the_command_tells_gains_hours_and_savings_of_a_sweep(lab: Lab, tmp_path: Path) -> None:
    page = tmp_path / "value.html"
    said = print_of(lab, "value", "two", "--html", str(page))
    assert "no verdict" in said and "Not enough evidence for a price" in said
    assert "2 times an arm needed a cell that another arm needed too: 2.0 h on GPU" in said
    assert "Cost and value" in page.read_text() and "<svg" in page.read_text()
    got = json.loads(print_of(lab, "value", "two", "--json"))
    assert [row["train_hours"] for row in got["costs"]] == [2.0, 3.0]
    assert got["saved"][0]["cache_hours"] == 2.0
    assert print_of(lab, "value", "two", "--csv").startswith("arm,mean,delta")
    listed = json.loads(print_of(lab, "runs", "--sort", "train_hours", "--json"))
    assert [row["train_hours"] for row in listed] == [2.0, 3.0]
    report = tmp_path / "r.md"
    print_of(lab, "report", "two", "-o", str(report))
    assert "## Cost and value" in report.read_text()
    with pytest.raises(ResolveError, match="two runs"):
        print_of(lab, "value", "later")
    for command in ("value", "report"):
        with pytest.raises(ResolveError, match="no sweep that ended") as caught:
            print_of(lab, command, "tow")
        assert "a sweep (two), or a run" in str(caught.value.expected)
    with (
        Driver(lab, "tow", "sweep", ["birdlab", "sweep", "tow.yaml"]),
        pytest.raises(ResolveError, match="no sweep that ended") as caught,
    ):
        print_of(lab, "value", "tow")
    assert "wait for its end" in str(caught.value.fix)
    runs = ("two:base", "two:later")
    weighed = json.loads(print_of(lab, "value", *runs, "--json"))
    beside = json.loads(print_of(lab, "compare", *runs, "--draws", "0", "--costs", "--json"))
    assert beside["value"] == weighed and weighed["costs"][1]["train_hours"] == 3.0
    printed = print_of(lab, "compare", *runs, "--draws", "0", "--costs")
    assert printed.endswith(print_of(lab, "value", *runs))
    assert "gain for hours" not in print_of(lab, "compare", *runs, "--draws", "0")


def test_a_sweep_ends_with_its_cheapest_better_arm(lab: Lab) -> None:
    assert (
        summarise_costs(load_sweep(lab, "two"), frozenset()).lstrip().startswith("Cache: 2 times")
    )
    for place, record in enumerate(load_records(lab)):
        cell, jitter = record["cells"][0], 0.001 * place
        folds = [
            cell | {"fold": fold, "padded_cmap": cell["padded_cmap"] + jitter * (-1) ** fold}
            for fold in range(4)
        ]
        told = json.dumps(record | {"cells": folds})
        (lab.runs / f"{record['spec_id']}.json").write_text(told)
    path = lab.stores / "sweeps" / "two.json"
    sweep = json.loads(path.read_text())
    sweep["spec"]["control"] = "base"
    path.write_text(json.dumps(sweep))
    said = summarise_costs(load_sweep(lab, "two"), frozenset())
    assert "The one arm shown to be better is later: +0.1000 for 8 min more a model" in said


def add_sweep(lab: Lab, name: str, gains: Mapping[str, float]) -> None:
    """A sweep of arms over 5 folds whose cells are gone, written as its records."""
    like = json.dumps(load_records(lab)[0])
    sweep = json.loads((lab.stores / "sweeps" / "two.json").read_text()) | {"name": name}
    sweep["spec"]["name"], sweep["arms"] = name, []
    scores = rank_cells(gains, noise=0.01)
    for place, (arm, own) in enumerate(scores.groupby("arm", sort=False)):
        record = json.loads(like) | {"spec_id": f"{name}-{place}", "name": arm, "sweeps": {}}
        cells = zip(own["fold"], own["score"], strict=True)
        record["cells"] = [
            record["cells"][0]
            | {"cell_id": f"{name}{place}{fold}", "fold": fold, "seed": 0, "padded_cmap": score}
            for fold, score in cells
        ]
        (lab.runs / f"{record['spec_id']}.json").write_text(json.dumps(record))
        delta = {} if arm == "base" else {"x": place}
        sweep["arms"].append(
            {"title": arm, "delta": delta, "spec_id": record["spec_id"], "point": {}}
        )
    sweep["spec"]["control"] = sweep["arms"][0]["title"]
    (lab.stores / "sweeps" / f"{name}.json").write_text(json.dumps(sweep))


def test_a_sweep_of_few_arms_is_weighed_by_the_lab_and_fits_a_terminal(lab: Lab) -> None:
    add_sweep(lab, "few", {"base": 0.0, "later": 0.01})
    assert all(
        row["expected"] is None
        for row in json.loads(print_of(lab, "value", "few", "--json"))["arms"]
    )
    add_sweep(lab, "many", GAINS)
    arms = json.loads(print_of(lab, "value", "few", "--json"))["arms"]
    later = {row["arm"]: row for row in arms}["later"]
    assert 0 < later["expected"] / later["delta"] < 1
    lines = print_of(lab, "value", "few").split("Not enough")[0].splitlines()
    assert max(map(len, lines)) <= 100 and sum(line.split()[:1] == ["arm"] for line in lines) == 3


def test_a_gone_cell_makes_hours_incomplete(lab: Lab) -> None:
    records = {r["name"]: r for r in load_records(lab)}
    gone = records["later"]["cells"][0]["cell_id"]
    (lab.cells / gone / CARD).unlink()
    cells = load_cell_costs(lab, records.values())
    assert not math.isnan(cells[gone].seconds), "its record tells its time"
    table = load_arm_costs(lab, records).table.set_index("arm")
    assert table.loc["later", "unknown"] == 1 and table.loc["tiny", "unknown"] == 0


def test_the_document_escapes_names() -> None:
    costs = costs_of({"base": 1.0, "<i>": 2.0}, {"base": 1.0, "<i>": 2.0})
    values = value_table(rank_of({"<i>": 0.06}), costs)
    assert set(pareto_infos(values)) == {"pareto-hours", "pareto-cpu"}
    html = document_html(build_value_document("<s>", values, costs, None, "padded cmAP"))
    assert "<i>" not in html and "<s>" not in html and "&lt;i&gt;" in html


def test_the_pages_show_costs_and_savings(lab: Lab) -> None:
    from dashboards import ablation, ideas, overview, sweeps
    from dashboards.source import LabSource

    for name, text in {"torn": "{", "odd": "[]", "<b>": '{"spec": {}, "arms": []}'}.items():
        (lab.stores / "sweeps" / f"{name}.json").write_text(text)
    source = LabSource(lab)
    assert list(source.unread_sweeps()) == ["<b>", "odd", "torn"] and list(source.sweeps()) == [
        "two"
    ]
    assert "Sweeps that cannot be read" in overview.build_static(source)
    assert "torn: a record of the lab cannot be read" in overview.build_static(source)
    assert "odd: a record of the lab cannot be read" in overview.build_static(source)
    assert "Left out: odd: a record" in ideas.build_static(source)
    assert "<b>" not in overview.build_static(source) + ideas.build_static(source)
    assert "two" in sweeps.build_static(source)
    for command in ("ideas", "bets"):
        printed = " ".join(print_of(lab, command).split())
        assert all(name in printed for name in ("torn", "odd", "<b>")), command
    bets_path(lab, "late").parent.mkdir()
    bets_path(lab, "late").write_text('{"bets": 3}')
    assert "Left out: late: the bets of a sweep cannot be read." in print_of(lab, "bets")
    page = ablation.build_static(source)
    assert "Cost and value" in page and "Not enough evidence for a price" in page
    shown = overview.build_static(source)
    assert "Hours saved by cache and race" in shown
    table = load_savings(lab, ["two"])
    assert table["cache_hours"].tolist() == [2.0] and load_savings(lab, []).empty
    assert list(load_savings(lab, ["torn", "two"]).attrs["left_out"]) == ["torn"]
