"""Reports as one HTML file each: they open without a network, and every name in them is text."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import plotly.offline

from birdlab.study.ranking import Ranking, p_text

LONG_TEXT = 30
PAGE_CSS = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
POLICY = (
    "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "media-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'\">"
)
"""A page loads nothing and sends nothing, whatever a name in it may hold."""
BESIDE_POLICY = POLICY.replace("media-src data:", "media-src 'self' data:")
"""That of a page which plays sound files that lie beside it."""
PAGE_JS = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
"""What the buttons of a page do that save its tables and figures."""


def ranking_words(ranking: Ranking) -> pd.DataFrame:
    """The ranking as a table to show: numbers rounded, the verdict where a narrow page has room."""
    table = ranking.table
    judged = table["p"].notna()
    interval = [
        f"{low:+.4f} to {high:+.4f}" if ok else ""
        for low, high, ok in zip(table["low"], table["high"], judged, strict=True)
    ]
    words = pd.DataFrame(
        {
            "arm": table["arm"],
            "mean": table["mean"].map("{:.4f}".format),
            "difference": [
                "" if math.isnan(delta) or verdict == "base" else f"{delta:+.4f}"
                for delta, verdict in zip(table["delta"], table["verdict"], strict=True)
            ],
            "95 % interval": interval,
            "verdict": table["verdict"],
            "p": [p_text(p) if ok else "" for p, ok in zip(table["p"], judged, strict=True)],
            "noise": table["noise_share"],
            "sd over folds": ["" if math.isnan(sd) else f"{sd:.4f}" for sd in table["sd"]],
            "folds": table["n_folds"],
            "seeds": table["n_seeds"],
        }
    )
    if table["expected"].notna().any():
        words.insert(5, "expected gain", expected_gains(table))
    return words


def expected_gains(table: pd.DataFrame) -> list[str]:
    """What each arm of a Ranking.table is worth, with its interval; empty where nobody knows."""
    rows = zip(table["expected"], _intervals(table, "expected_low", "expected_high"), strict=True)
    return ["" if math.isnan(gain) else f"{gain:+.4f} ({interval})" for gain, interval in rows]


def other_intervals(ranking: Ranking) -> pd.DataFrame:
    """What else is known of each difference, as text: narrower, alone, on new data, in noise."""
    table = ranking.table[ranking.table["verdict"] != "base"]
    shown = {
        "arm": table["arm"],
        "90 %": _intervals(table, "low90", "high90"),
        "by its own variance": _intervals(table, "own_low", "own_high"),
        "its p": ["" if math.isnan(p) else p_text(p) for p in table["own_p"]],
        "on new data": _intervals(table, "nb_low", "nb_high"),
        "to be decided": table["more_seeds"],
    }
    if ranking.noise is not None:
        shown["times the noise"] = table["noise_multiples"].map("{:+.1f}".format)
    return pd.DataFrame(shown)


def _intervals(table: pd.DataFrame, low: str, high: str) -> list[str]:
    """Intervals in words, empty where there is none."""
    return [
        "" if math.isnan(a) else f"{a:+.4f} to {b:+.4f}"
        for a, b in zip(table[low], table[high], strict=True)
    ]


def page_html(title: str, parts: Sequence[str], *, policy: str = POLICY) -> str:
    """A whole page around parts of HTML, with its style and plotly.js inside; the title is text."""
    script = plotly.offline.get_plotlyjs() if any("plotly-graph-div" in p for p in parts) else ""
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"{policy}<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<link rel='icon' href='data:,'><title>{escape(title)}</title><style>{PAGE_CSS}</style>"
        + (f"<script>{script}</script>" if script else "")
        + f"</head><body><main><h1>{escape(title)}</h1>{''.join(parts)}</main></body></html>"
    )


def figure_html(figure: go.Figure, name: str | None = None) -> str:
    """A figure as HTML that needs the plotly.js of its page; its id is `name`, else random."""
    config = {"displayModeBar": False, "responsive": True}
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=config, div_id=name))


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


def section_html(title: str, inside: str, name: str = "") -> str:
    """A section of a page under its title, which is text; `name` is its class."""
    mark = f" class='{name}'" if name else ""
    return f"<section{mark}><h2>{escape(title)}</h2>{inside}</section>"


def escape(value: object) -> str:
    """The value as HTML text."""
    return html.escape(str(value))
