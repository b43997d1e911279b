"""Reports as one HTML file each: they open without a network, and every name in them is text."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import plotly.offline

from birdlab.study import figures, run_figures
from birdlab.study.ranking import Ranking, p_text

LONG_TEXT = 30
PAGE_CSS = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
PAGE_JS = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
"""What the buttons of a page do that save its tables and figures."""


@dataclass(frozen=True)
class RunReportInfo:
    """One run as its report shows it.

    `scores`: name → value in the order to show. `folds`: a row per fold (or cell) with the
    columns to show. `classes`: class, support, ap and what else is known per class. `curves`:
    fold, seed, step, key, value. Empty tables are left out of the page. `chosen`: a sentence on
    scores whose weights were picked by them.
    """

    name: str
    run: str
    delta: str
    metric: str
    scores: dict[str, float]
    floor: float
    n_rows: int
    n_classes: int
    n_folds: int
    n_seeds: int
    folds: pd.DataFrame
    classes: pd.DataFrame
    curves: pd.DataFrame
    notes: tuple[str, ...] = ()
    chosen: str = ""


@dataclass(frozen=True)
class SweepReportInfo:
    """One sweep as its report shows it.

    `scores`: arm, fold, seed, score. `values`: the number each arm sets `setting` to, for the
    response curve; empty where arms differ in something else. `chosen`: sentences on scores
    whose weights were picked by them. `race`: sentences on the rule that stopped arms, on what it
    saved, and on which arms it stopped.
    """

    name: str
    question: str
    metric: str
    ranking: Ranking
    scores: pd.DataFrame
    expect: str = ""
    setting: str = ""
    values: dict[str, float] = field(default_factory=dict)
    smallest_effect: float = 0.005
    chosen: tuple[str, ...] = ()
    race: tuple[str, ...] = ()


def run_report_html(info: RunReportInfo) -> str:
    """The page of one run: scores with floor and evidence, folds, classes, training curves."""
    evidence = (
        f"{info.metric} over {_count(info.n_folds, 'fold')} and {_count(info.n_seeds, 'seed')}, "
        f"{_count(info.n_rows, 'recording')}, {info.n_classes} classes. "
        f"A constant predictor scores {info.floor:.4f}. {info.chosen}"
    ).strip()
    scores = pd.DataFrame({"score": list(info.scores), "value": list(info.scores.values())})
    parts = [
        f"<p class='answer'>{escape(evidence)}</p>",
        f"<p class='soft'>run {escape(', '.join(filter(None, (info.run, info.delta))))}</p>",
        _section("Scores", table_html(scores)),
        list_html(info.notes),
    ]
    if len(info.folds):
        parts.append(_section("Folds", table_html(info.folds)))
    if len(info.classes):
        classes = run_figures.get_class_info(info.classes, score_label="average precision")
        shown = info.classes.sort_values("ap")
        plot = figure_html(run_figures.plot_class_scores(classes))
        parts.append(_section("Classes", plot + table_html(shown)))
    if len(info.curves):
        drawn = [
            run_figures.plot_curves(curve) for curve in run_figures.get_curves_info(info.curves)
        ]
        parts.append(_section("Training", "".join(figure_html(figure) for figure in drawn)))
    return page_html(info.name, parts)


def sweep_report_html(info: SweepReportInfo) -> str:
    """The page of one sweep: its question, the verdicts, the forest plot, the response curve."""
    ranking = info.ranking
    forest = figures.get_ranking_info(ranking, smallest_effect=info.smallest_effect)
    expected = f"<p>Expected: {escape(info.expect)}</p>" if info.expect else ""
    first = ranking.sentences[0] if ranking.sentences else ""
    parts = [
        f"<p>{escape(info.question)}</p>{expected}<p class='answer'>{escape(first)}</p>",
        _section("Ranking", table_html(ranking_words(ranking))),
        figure_html(figures.plot_ranking(forest)),
    ]
    if info.values:
        response = figures.get_response_info(
            info.scores, info.values, setting=info.setting, metric=info.metric
        )
        plot = figure_html(figures.plot_response(response))
        parts.append(_section("Response", plot))
    parts.append(_section("In words", list_html((*ranking.sentences, *info.chosen))))
    if info.race:
        parts.append(_section("Race", list_html(info.race)))
    return page_html(info.name, parts)


def ranking_words(ranking: Ranking) -> pd.DataFrame:
    """The ranking as a table to show: numbers rounded, intervals in one column."""
    table = ranking.table
    judged = table["p"].notna()
    interval = [
        f"{low:+.4f} to {high:+.4f}" if ok else ""
        for low, high, ok in zip(table["low"], table["high"], judged, strict=True)
    ]
    return pd.DataFrame(
        {
            "arm": table["arm"],
            "mean": table["mean"].map("{:.4f}".format),
            "sd over folds": ["" if math.isnan(sd) else f"{sd:.4f}" for sd in table["sd"]],
            "folds": table["n_folds"],
            "seeds": table["n_seeds"],
            "difference": [
                "" if math.isnan(delta) or verdict == "base" else f"{delta:+.4f}"
                for delta, verdict in zip(table["delta"], table["verdict"], strict=True)
            ],
            "95 % interval": interval,
            "p": [p_text(p) if ok else "" for p, ok in zip(table["p"], judged, strict=True)],
            "verdict": table["verdict"],
            "noise": table["noise_share"],
        }
    )


def page_html(title: str, parts: Sequence[str]) -> str:
    """A whole page around parts of HTML, with its style and plotly.js inside; the title is text."""
    script = plotly.offline.get_plotlyjs() if any("plotly-graph-div" in p for p in parts) else ""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<link rel='icon' href='data:,'><title>{escape(title)}</title><style>{PAGE_CSS}</style>"
        + (f"<script>{script}</script>" if script else "")
        + f"</head><body><main><h1>{escape(title)}</h1>{''.join(parts)}</main></body></html>"
    )


def figure_html(figure: go.Figure) -> str:
    """A figure as HTML that needs the plotly.js of its page."""
    config = {"displayModeBar": False, "responsive": True}
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=config))


def table_html(table: pd.DataFrame) -> str:
    """A table as HTML: every cell is text, floats have four digits, NaN is empty."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    rows = (
        "<tr>" + "".join(_cell_html(cell_text(value)) for value in row) + "</tr>"
        for row in table.itertuples(index=False)
    )
    return (
        f"<div class='scroll' tabindex='0'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def list_html(sentences: Sequence[str]) -> str:
    """Sentences as a list; nothing for none."""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul class='soft'>{items}</ul>" if items else ""


def cell_text(value: object) -> str:
    """A table cell as shown: floats with four digits, NaN and None empty."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def is_long(text: str) -> bool:
    """Whether a cell wraps instead of widening its column."""
    return len(text) > LONG_TEXT


def _cell_html(text: str) -> str:
    return f"<td class='long'>{escape(text)}</td>" if is_long(text) else f"<td>{escape(text)}</td>"


def _section(title: str, inside: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inside}</section>"


def escape(value: object) -> str:
    """The value as HTML text."""
    return html.escape(str(value))


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
