"""Figures say what the tables say; reports are whole pages in which every name is text."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from test_study_ranking import build_scores
from test_study_tables import build_synthetic

from birdlab.spreadsheets import csv_text
from birdlab.study import figures, run_figures
from birdlab.study.ablation_view import build_ablation_view
from birdlab.study.ranking import rank_arms
from birdlab.study.report import table_html
from birdlab.study.tables import StudyTables

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


class _Page(HTMLParser):
    """The tags of a page, and what stands in it outside scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["script"]:
            self.words += data


def test_forest_draws_each_arm_once_with_its_interval() -> None:
    ranking = rank_arms(build_scores({"base": 0.0, HOSTILE: 0.03, "worse": -0.03}), base="base")
    info = figures.get_ranking_info(ranking)
    assert info.arms == ["worse", "base", HOSTILE] and info.verdicts == ["worse", "base", "better"]
    figure = figures.plot_ranking(info)
    drawn = {trace.name: trace for trace in figure.data}
    assert set(drawn) == {"better", "worse", "base"}
    row = ranking.table.iloc[0]
    assert drawn["better"].x[0] + drawn["better"].error_x.array[0] == pytest.approx(row.high)
    assert "<" not in drawn["better"].text[0] and "<script" not in drawn["better"].y[0]
    twins = [f"{'x' * 40}{i}" * 2 for i in range(3)]
    again = rank_arms(build_scores({"base": 0.0, **dict.fromkeys(twins, 0.0)}), base="base")
    labels = figures.plot_ranking(figures.get_ranking_info(again)).layout.yaxis.categoryarray
    assert len(set(labels)) == 4


def test_curves_and_classes() -> None:
    curves = pd.DataFrame(
        {"fold": [0, 0, 1], "seed": 0, "step": [2, 1, 1], "key": "loss", "value": [0.2, 0.4, 0.3]}
    )
    (info,) = run_figures.get_curves_info(curves)
    assert info.lines == {
        "fold 0, seed 0": ([1.0, 2.0], [0.4, 0.2]),
        "fold 1, seed 0": ([1.0], [0.3]),
    }
    assert len(run_figures.plot_curves(info).data) == 2
    classes = pd.DataFrame(
        {"class": ["a", "b", "c"], "support": [0, 3, 4], "ap": [1.0, 0.5, np.nan]}
    )
    found = run_figures.get_class_info(classes, score_label="AP")
    assert found.names == ["a", "b"] and run_figures.plot_class_scores(found).data[0].x[0] == 0.5


def test_table_cells_are_rounded_and_escaped() -> None:
    text = table_html(
        pd.DataFrame({"<b>": [0.123456, np.nan], "n": [1, 2], "long": ["x" * 40, None]})
    )
    assert "<th>&lt;b&gt;</th>" in text and "<td>0.1235</td>" in text and "<td></td>" in text
    assert "<td>1</td>" in text and f"<td class='long'>{'x' * 40}</td>" in text


def test_an_empty_ablation_view_says_what_to_do() -> None:
    tables = build_synthetic(3)
    nothing = StudyTables(tables.runs.iloc[:0], tables.cells.iloc[:0], tables.ledger.iloc[:0])
    assert "birdlab sweep" in build_ablation_view(nothing).answer


def test_the_ablation_view_ranks_against_the_run_without_delta() -> None:
    tables = build_synthetic(24)
    view = build_ablation_view(tables, "lr")
    assert view.ranking is not None and view.ranking.base == "base"
    assert len(view.ranking.table) == 5 and view.options["metric"] == [
        "padded_cmap",
        "macro_auc",
    ]
    first_fold = tables.cells["run"].eq(tables.runs["run"][2]) & tables.cells["fold"].eq(0)
    tables.cells.loc[first_fold, "n_rows"] = 59
    odd = build_ablation_view(tables, "lr")
    assert "1 cell scored on other rows" in odd.sentences[-1]
    tables.runs.loc[0, "delta"] = "train.optimizer.lr=1"
    assert "all pairs are allowed for" in " ".join(build_ablation_view(tables, "lr").sentences)


def test_csv_is_no_formula() -> None:
    table = pd.DataFrame({"name": ["=1+1", "@x", "fine"], "lb": [-0.5, 0.1, 0.2]})
    assert csv_text(table).splitlines()[1:] == ["'=1+1,-0.5", "'@x,0.1", "fine,0.2"]
