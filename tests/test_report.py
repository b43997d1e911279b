"""Reports of runs and sweeps: what they say, from the lab alone; every name in them is text."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from test_study_ranking import build_scores
from test_study_report import HOSTILE, _Page
from typer.testing import CliRunner

from birdlab.cli import app as cli
from birdlab.errors import DataError, LabError, ResolveError
from birdlab.lab import Lab
from birdlab.recorded import load_record
from birdlab.study.document import Document
from birdlab.study.document_html import document_html, figures_html
from birdlab.study.evidence_words import environment_table, evidence_sentences
from birdlab.study.markdown import document_markdown, escape_markdown
from birdlab.study.race_rounds import get_rounds
from birdlab.study.ranking import rank_arms
from birdlab.study.recipe_words import describe_part
from birdlab.study.run_report import RunReportInfo, build_run_document, describe_run
from birdlab.study.svg import draw_svg
from birdlab.study.svg_scales import build_scale, linear_ticks, log_ticks
from birdlab.study.sweep_figures import (
    plot_importance,
    plot_parallel,
    plot_response,
    plot_rounds,
)
from birdlab.study.sweep_report import SweepReportInfo, build_sweep_document
from birdlab.study.sweeping import get_parallel, get_responses, points_of

SVG = "{http://www.w3.org/2000/svg}"

# ---------------------------------------------------------------- figures as SVG


def build_figure() -> go.Figure:
    figure = go.Figure()
    figure.add_vrect(-1, 1, fillcolor="#888888", opacity=0.2)
    figure.add_vline(0)
    figure.add_scatter(
        x=[-2.0, 0.0, 2.0],
        y=["a", HOSTILE_LABEL, "c"],
        mode="markers",
        name="points",
        text=[HOSTILE_LABEL, "", "third"],
        marker={"symbol": ["circle", "x", "diamond"], "color": "#009E73", "size": 10},
        error_x={"type": "data", "symmetric": False, "array": [1, 0, 3], "arrayminus": [1, 0, 1]},
    )
    figure.add_scatter(x=[-2.0, None, 2.0], y=["a", "a", "c"], mode="lines", name="line")
    figure.update_layout(height=300, xaxis={"title": HOSTILE_LABEL}, yaxis={"title": "arms"})
    return figure


HOSTILE_LABEL = html.escape(HOSTILE)
"""As figures hold names: Plotly reads tags in texts."""


def words_of(svg: str) -> str:
    return " ".join("".join(node.itertext()) for node in ET.fromstring(svg).iter(f"{SVG}text"))


@pytest.mark.parametrize("width", [380, 760])
def test_a_drawn_figure_has_its_marks_where_the_values_are(width: int) -> None:
    root = ET.fromstring(draw_svg(build_figure(), width=width, title=HOSTILE))
    circle = root.find(f"{SVG}circle")
    assert circle is not None
    titles = [node.text for node in root.iter(f"{SVG}title")]
    assert titles == [f"{HOSTILE}: -2, a", f"0, {HOSTILE}", "third: 2, c"]
    bars = [n for n in root.iter(f"{SVG}line") if n.get("stroke-width") == "1.5"]
    assert len(bars) == 2, "no bar of no length"
    centre, unit = float(circle.get("cx", 0)), 0.0
    low, high = (float(bars[0].get(k, 0)) for k in ("x1", "x2"))
    assert centre == pytest.approx((low + high) / 2, abs=0.11)
    unit = (high - low) / 2
    ends = [float(bars[1].get(k, 0)) for k in ("x1", "x2")]
    assert ends == pytest.approx([centre + 3 * unit, centre + 7 * unit], abs=0.5)
    band = root.find(f"{SVG}rect")
    assert band is not None
    assert float(band.get("width", 0)) == pytest.approx(2 * unit, abs=0.2)
    assert float(band.get("x", 0)) == pytest.approx(centre + unit, abs=0.2)
    assert root.get("aria-label") == HOSTILE and "points" in words_of(draw_svg(build_figure()))
    inside = [float(n.get(k, 0)) for n in root.iter() for k in ("x", "x1", "x2", "cx") if n.get(k)]
    assert min(inside) >= 0 and max(inside) <= width


def test_bars_and_heat_maps_are_drawn_and_nothing_is_left_out_in_silence() -> None:
    bars = ET.fromstring(draw_svg(plot_importance({"lr": 0.75, HOSTILE: 0.25})))
    drawn = {rect[0].text: float(rect.get("width", 0)) for rect in bars.iter(f"{SVG}rect")}
    assert len(drawn) == 2
    assert min(drawn.values()) * 3 == pytest.approx(max(drawn.values()), abs=0.3)
    heat = go.Figure(
        go.Heatmap(x=["a", "b"], y=["c", "d"], z=[[1, 2], [3, None]], text=[["1"] * 2] * 2)
    )
    root = ET.fromstring(draw_svg(heat))
    cells = [float(rect.get("fill-opacity", 0)) for rect in root.iter(f"{SVG}rect")]
    assert cells == sorted(cells) and len(cells) == 3
    with pytest.raises(DataError, match="not drawn as SVG"):
        draw_svg(go.Figure(go.Pie(values=[1, 2])))


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6),
    st.booleans(),
)
def test_every_value_lies_inside_its_axis(values: list[float], log: bool) -> None:
    axis = go.Figure().update_xaxes(type="log" if log else "linear").layout.xaxis
    values = [abs(v) + 1e-3 for v in values] if log else values
    scale = build_scale(values, axis, 10, 110)
    places = [scale.at(v) for v in values]
    assert all(10 <= place <= 110 for place in places)
    assert sorted(places) == [scale.at(v) for v in sorted(values)]
    assert all(10 <= scale.pixel(at) <= 110 for at, _ in scale.ticks)


def test_ticks_are_round() -> None:
    assert linear_ticks(0.0, 1.0, 5) == (0.2, pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0]))
    assert linear_ticks(-0.031, 0.012, 4) == (0.02, pytest.approx([-0.02, 0.0]))
    assert log_ticks(-3, -1) == pytest.approx([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1])
    assert log_ticks(0, 5) == [1, 10, 100, 1000, 10_000, 100_000]
    axis = go.Figure().update_xaxes(type="linear").layout.xaxis
    assert [label for _, label in build_scale([0.0, 0.9], axis, 0, 1, n_ticks=4).ticks] == [
        "0.00",
        "0.25",
        "0.50",
        "0.75",
    ]
    assert build_scale([1.0, 1.0], axis, 0, 1).at(1.0) == 0.5
    assert build_scale([], axis, 0, 1).high > 1


# ---------------------------------------------------------------- responses, races


def build_sweep() -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """A grid of three rates with and without mixup, five folds and two seeds."""
    points: dict[str, dict[str, Any]] = {
        f"lr={lr:g}, {mix}": {"train.lr": lr, "mix": mix}
        for lr in (1e-4, 1e-3, 1e-2)
        for mix in ("on", "off")
    }
    effects = {arm: float(np.log10(p["train.lr"])) / 100 for arm, p in points.items()}
    return build_scores(effects, n_seeds=2), points


def test_a_response_is_a_line_per_other_setting() -> None:
    scores, points = build_sweep()
    (response,) = get_responses(scores, points)
    assert response.setting == "train.lr" and response.is_line and response.log_x
    assert set(response.table["line"]) == {"mix=on", "mix=off"} and len(response.cells) == 60
    row = response.table[response.table["arm"] == "lr=0.001, on"].iloc[0]
    folds = scores[scores["arm"] == "lr=0.001, on"].groupby("fold")["score"].mean()
    assert row[["mean", "low", "high"]].tolist() == pytest.approx(
        [folds.mean(), folds.min(), folds.max()]
    )
    figure = plot_response(response, metric="padded cmAP")
    assert figure.layout.xaxis.type == "log" and len(figure.data) == 3
    assert sum(len(trace.x) for trace in figure.data[1:]) == 6


def test_arms_that_differ_in_more_are_points_and_texts_are_no_response() -> None:
    rng = np.random.default_rng(0)
    points = {
        f"t{i}": {"lr": float(v), "p": float(w), "kind": "abc"[i % 3]}
        for i, (v, w) in enumerate(rng.random((20, 2)))
    }
    scores = build_scores(dict.fromkeys(points, 0.0))
    found = get_responses(scores, points)
    assert [r.setting for r in found] == ["lr", "p"] and not any(r.is_line for r in found)
    assert (
        len(found[0].table) == 20 and plot_response(found[0], metric="m").data[1].mode == "markers"
    )
    assert get_responses(scores, {arm: {"on": True, "x": 1} for arm in points}) == []


def test_one_factor_arms_get_what_they_leave_from_the_base() -> None:
    record = {
        "arms": [
            {"title": "base", "delta": {}},
            {"title": "lr=1", "delta": {"train.lr": 1.0}},
            {"title": "w=2", "delta": {"train.window_s": 2}, "point": {"train.window_s": 2}},
        ],
        "stopped": [{"title": "lr=9", "delta": {"train.lr": 9.0}, "at": "then"}, {"title": "old"}],
    }
    base = {"train": {"lr": 0.5, "window_s": 5}}
    points = points_of(record, base)
    assert points["base"] == {"train.lr": 0.5, "train.window_s": 5}
    assert points["lr=1"] == {"train.lr": 1.0, "train.window_s": 5} and "old" not in points
    assert points_of(record, None)["base"] == {}
    scores = build_scores({"base": 0.0, "lr=1": 0.0, "w=2": 0.0})
    lr, window = get_responses(scores, points)
    assert lr.table["arm"].tolist() == ["base", "lr=1"] and not lr.log_x
    assert window.table["x"].tolist() == [2, 5]


def test_parallel_coordinates_hold_every_arm_once() -> None:
    scores, points = build_sweep()
    info = get_parallel(scores, points)
    assert info is not None and [axis.name for axis in info.axes] == ["train.lr", "mix"]
    assert info.axes[0].log and info.axes[0].labels == ("0.0001", "0.001", "0.01")
    assert info.axes[1].labels == ("off", "on") or info.axes[1].labels == ("on", "off")
    assert info.scores.is_monotonic_increasing and len(info.places) == 6
    figure = plot_parallel(info, metric="padded cmAP")
    others, best = figure.data
    assert best.name == "the best 3" and sum(x is None for x in others.x + best.x) == 6
    assert min(y for y in best.y if y is not None) >= 0
    assert get_parallel(scores, {arm: {"lr": 1} for arm in points}) is None
    assert get_parallel(scores.head(0), points) is None


def test_rounds_show_who_ran_what() -> None:
    scores = build_scores({"base": 0.0, "a": 0.01, "bad": -0.1}, n_seeds=3)
    scores = scores[~((scores["arm"] == "bad") & (scores["seed"] > 0))]
    rounds = get_rounds(scores, {"bad": "after round 1"}, [0, 1, 2], ["base", "a", "bad"])
    states = rounds.table.groupby("arm")["state"].agg(list)
    assert states["bad"] == ["stopped", "saved", "saved"] and states["a"] == ["run"] * 3
    figure = plot_rounds(rounds)
    assert {t.name: len(t.x) for t in figure.data} == {
        "run": 6,
        "run, then stopped": 1,
        "not run": 2,
    }
    assert "stopped after round 1" in figure.data[1].text[0]


# ---------------------------------------------------------------- documents


def build_run_document_of(name: str = HOSTILE) -> Document:
    info = RunReportInfo(
        name=name,
        run="0123456789ab",
        delta=name,
        metric="padded cmAP",
        scores={"cv/padded_cmap": 0.81234567, "cv/floor": 0.44},
        folds=pd.DataFrame({"fold": [0, 1], "padded_cmap": [0.8, np.nan]}),
        classes=pd.DataFrame({"class": [name, "b"], "support": [3, 7], "ap": [0.5, 0.9]}),
        curves=pd.DataFrame(
            {"fold": 0, "seed": 0, "step": [1, 2], "key": name, "value": [0.4, 0.2]}
        ),
        notes=(name,),
        recipe={"network": name},
        evidence=("1 fold, 2 seeds.",),
        environment=pd.DataFrame({"item": ["code"], "value": [name]}),
        commands=(f"birdlab rerun {name}",),
    )
    return build_run_document(info)


def build_sweep_document_of(arm: str = HOSTILE) -> Document:
    scores = build_scores({"base": 0.0, arm: 0.03, "c": 0.0})
    points = {arm: {arm: 1.0}, "c": {arm: 20.0}, "base": {arm: 3.0}}
    info = SweepReportInfo(
        name=arm,
        question=arm,
        metric="padded cmAP",
        ranking=rank_arms(scores, base="base"),
        scores=scores,
        expect=arm,
        recipe={"network": arm},
        arms=pd.DataFrame({"arm": [arm], "changes": [arm]}),
        responses=get_responses(scores, points),
        race=(f"{arm}: stopped after round 1 of 3.",),
        rounds=get_rounds(scores, {arm: arm}, [0, 1, 2], ["base", arm, "c"]),
        importance={arm: 0.6, "c": 0.4},
        search=arm,
        failed=(arm,),
        commands=(arm,),
    )
    return build_sweep_document(info)


BUILDERS = [build_run_document_of, build_sweep_document_of]


@pytest.mark.parametrize("build", BUILDERS)
def test_reports_are_self_contained_and_names_are_text(build: Any) -> None:
    text = document_html(build())
    hostile, plain = _Page(text), _Page(document_html(build("plain")))
    drawn = {"svg", "title", "text", "line"}  # ticks depend on the length of names
    assert [t for t in hostile.tags if t not in drawn] == [t for t in plain.tags if t not in drawn]
    assert not {"img", "script"} & set(hostile.tags) and HOSTILE in hostile.words
    assert hostile.sources == ["data:,"], "nothing is fetched"
    assert len(text) < 100_000, "no script inside"
    assert "nan" not in plain.words.lower().split()


@pytest.mark.parametrize("build", BUILDERS)
def test_markdown_reads_as_what_was_written(build: Any) -> None:
    text = document_markdown(build(), PurePosixPath("a b_files"))
    page = _Page(MarkdownIt("commonmark").enable("table").render(text))
    assert not {"script", "a"} & set(page.tags)
    assert page.words.count(HOSTILE) >= 8
    images = re.findall(r"\]\((.*?)\)", text)
    assert images == [f"a%20b_files/{d.name}.svg" for d in build().drawings]
    assert page.tags.count("img") == len(images) > 1
    assert page.tags.count("table") == len(build().tables)


@given(st.text(st.characters(exclude_categories=["C"]), max_size=40))
@example("# a")
@example("1. b")
@example("+ *c* _d_ `e` [f](g) ![h](i) <j> &amp; | ~~k~~ \\ $l$ https://m.n www.o.p")
def test_any_text_survives_markdown(text: str) -> None:
    page = _Page(MarkdownIt("gfm-like", {"linkify": False}).render(f"x\n\n{escape_markdown(text)}"))
    assert set(page.tags) <= {"p"}
    assert "".join(page.words.split())[1:] == "".join(text.split())


def test_figures_to_hover_over_stand_on_one_page_and_are_the_same_each_time() -> None:
    text = figures_html(build_sweep_document_of())
    assert text == figures_html(build_sweep_document_of())
    assert len(re.findall(r"plotly\.js v\d", text)) == 1 and HOSTILE not in text
    assert text.count('class="plotly-graph-div"') == len(build_sweep_document_of().drawings) == 4


def test_the_sweep_report_says_what_was_asked_found_and_missed() -> None:
    document = build_sweep_document_of("lr=1")
    words = _Page(document_html(document)).words
    for part in ("lr=1: +0.0", "better", "undecided", "A true difference of", "stopped after"):
        assert part in words
    assert [section.title for section in document.sections] == [
        "The bet",
        "Verdicts",
        "Figures",
        "Race",
        "Search",
        "What failed",
        "The base",
        "The arms",
        "How to repeat it",
    ]
    alone = build_sweep_document(
        SweepReportInfo("one", "?", "m", None, build_scores({"a": 0.0}), failed=("b: broke",))
    )
    assert "Fewer than two arms" in alone.answer
    assert [section.title for section in alone.sections] == ["What failed"]


def test_evidence_and_environment_come_from_the_records() -> None:
    run = {
        "evaluation": {
            "folds": [0, 1],
            "seeds": [0],
            "n_rows": 60,
            "n_classes": 4,
            "rows_hash": "r",
            "classes_hash": "c",
        },
        "scores": {"cv/floor": 0.44},
        "cells": [{"cell_id": "a", "seconds": 40.0, "device": "A100"}],
        "data": [{"name": "d", "role": "base", "n_rows": 60, "digest": "ff"}],
        "environment": {"git_commit": "abc", "git_dirty": "True", "python": "3.11.7"},
        "created_at": "2026-01-02T00:00:00",
    }
    assert evidence_sentences([run]) == (
        "2 folds, 1 seed, 60 recordings, 4 classes.",
        "A constant predictor scores 0.4400.",
        "1 cell, 40 s of training.",
    )
    other = run | {
        "evaluation": run["evaluation"] | {"folds": [0, 1, 2], "rows_hash": "s"},  # type: ignore[operator]
        "cells": [{"cell_id": "b", "seconds": None, "device": "A100"}],
    }
    said = " ".join(evidence_sentences([run, other], [run]))
    assert "Each arm: 2 to 3 folds" in said and "different recordings" in said
    assert "2 cells, 40 s" in said and evidence_sentences([]) == ()
    table = environment_table([run, other])
    assert table["value"].tolist() == [
        "d, 60 rows, digest ff",
        "r",
        "s",
        "c",
        "A100",
        "git commit abc with changes that were not committed",
        "3.11.7",
        "2026-01-02",
    ]


def test_a_run_of_another_origin_has_a_report() -> None:
    record = {
        "spec_id": "0123456789ab",
        "name": "exp1",
        "delta": {},
        "spec": None,
        "scores": {"cv/macro_auc": 0.9, "cv/floor": None},
        "cells": [],
        "evaluation": {
            "folds": [0, 1],
            "seeds": [0],
            "n_rows": 0,
            "n_classes": 0,
            "rows_hash": "r",
            "classes_hash": "c",
        },
        "created_at": "2026-01-02",
    }
    document = build_run_document(describe_run(record, pd.DataFrame(), pd.DataFrame()))
    assert document.answer == "cv/macro_auc 0.9000."
    titles = [section.title for section in document.sections]
    assert titles == ["Scores", "How much evidence", "Where it ran, and on what"]
    assert "2 folds, 1 seed." in document_html(document)


def test_a_part_of_a_recipe_is_a_line() -> None:
    part = {"kind": "focal", "gamma": 2.0, "alpha": None, "of": ["a", "b"], "deep": {"kind": "x"}}
    assert describe_part(part) == "focal (gamma 2, of [a, b], deep x)"
    assert describe_part({"clip": 0.75}) == "clip 0.75" and describe_part("plain") == "plain"


# ---------------------------------------------------------------- from a lab


SWEEP = """\
notes: Which rate?
expect: none
base: tiny.yaml
grid: {train.optimizer.lr: [3e-3, 1e-2]}  # the first one is trained already
cells: {folds: all, seeds: [0]}
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Lab:
    """A lab in which a tiny sweep ran, with MLflow; only read it."""
    import shutil

    from birdlab.lab import open_lab

    root = tmp_path_factory.mktemp("swept") / "lab"
    shutil.copytree(request.getfixturevalue("trained_lab"), root)
    shutil.copy(request.getfixturevalue("mlflow_database"), root / "mlruns" / "mlflow.db")
    (root / "rates.yaml").write_text(SWEEP)
    done = CliRunner().invoke(cli_app(), ["--lab", str(root), "sweep", str(root / "rates.yaml")])
    assert done.exit_code == 0, done.output
    return open_lab(root)


def cli_app() -> Any:
    if not cli.app.registered_commands:
        cli._register()
    return cli.app


def write(lab: Lab, *arguments: object) -> str:
    done = CliRunner().invoke(cli_app(), ["--lab", str(lab.root), "report", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_the_report_of_a_sweep_is_made_from_its_records(swept: Lab, tmp_path: Path) -> None:
    page, text = tmp_path / "deep" / "r.html", tmp_path / "r.md"
    assert write(swept, "rates", "-o", page).split() == ["wrote", str(page)]
    words = _Page(page.read_text(encoding="utf-8")).words
    for part in ("Which rate?", "no verdict under 3 folds", "mobilenetv3_small_050", "torch"):
        assert part in words
    assert "birdlab --lab" not in words and "2 folds, 1 seed, 24 recordings, 4 classes" in words
    said = write(swept, "rates", "-o", text).split()[1::2]
    assert said == [
        str(tmp_path / "r_files" / f"{name}.svg")
        for name in ("forest", "response-train-optimizer-lr", "pareto-hours", "pareto-cpu")
    ] + [str(text)]
    assert all(ET.parse(path) for path in said[:-1])
    for arm in json.loads((swept.stores / "sweeps" / "rates.json").read_text())["arms"]:
        score = load_record(swept, arm["spec_id"])["scores"]["cv/padded_cmap"]
        assert f" {score:.4f} | {arm['spec_id']} |" in text.read_text(encoding="utf-8")


def test_the_report_of_a_run_and_what_cannot_be_written(swept: Lab, tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    write(swept, "rates:best", "-o", page)
    words = _Page(page.read_text(encoding="utf-8")).words
    best = json.loads((swept.stores / "sweeps" / "rates.json").read_text())["arms"][0]
    assert f"birdlab rerun {best['spec_id']}" in words and "Average precision" in words
    with pytest.raises(LabError, match="HTML or as Markdown"):
        write(swept, "rates", "-o", tmp_path / "r.pdf")
    with pytest.raises(ResolveError, match="names no run"):
        write(swept, "nothing", "-o", page)
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot be written"):
        write(swept, "rates", "-o", tmp_path / "file" / "r.md")


def test_mlflow_has_the_figures_and_tables_of_a_sweep_and_small_reports(
    swept: Lab, tmp_path: Path
) -> None:
    from birdlab.tracking.client import connect
    from birdlab.tracking.index import load_link
    from birdlab.tracking.summaries import load_summary_link

    client = connect(swept)
    run = load_summary_link(swept, "rates")["parent"]
    names = {f.path for f in client.list_artifacts(run)}
    assert {
        "report.html",
        "report.md",
        "figures.html",
        "figures",
        "ranking.csv",
        "scores.csv",
        "arms.csv",
    } <= names
    drawn = sorted(f.path for f in client.list_artifacts(run, "figures"))
    expected = ("forest", "pareto-cpu", "pareto-hours", "response-train-optimizer-lr")
    assert drawn == [f"figures/{name}.svg" for name in expected]
    text = Path(client.download_artifacts(run, "report.md", str(tmp_path))).read_text()
    assert sorted(re.findall(r"\]\((.*?)\)", text)) == drawn
    arm = json.loads((swept.stores / "sweeps" / "rates.json").read_text())["arms"][0]
    parent = load_link(swept, arm["spec_id"])["parent"]
    page = Path(client.download_artifacts(parent, "report.html", str(tmp_path / "..")))
    assert page.stat().st_size < 100_000
