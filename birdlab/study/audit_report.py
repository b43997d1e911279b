"""The audit of a table as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from birdlab.data.audit.audit import Audit
from birdlab.data.audit.files import LONG_S, SHORT_S
from birdlab.data.audit.sentences import percent
from birdlab.data.audit.support import CAP_RULE
from birdlab.study import audit_figures, audit_file_figures
from birdlab.study.audit_summary import content_sentence, fold_table, overlap_table, size_sentence
from birdlab.study.report import escape, figure_html, list_html, page_html, section_html, table_html

MOST_ROWS = 200
HEADS = {
    "primary_label": "species",
    "n_rows": "rows",
    "n_files": "files",
    "n_folds": "folds",
    "n_species": "species",
    "n_recordists": "recordists",
    "n_shared": "rows that agree",
    "source": "table",
    "by": "agree in",
    "other": "agrees with",
    "other_label": "species there",
    "largest": "largest recordist",
    "written": "written as",
    "expected": "species expected",
    "stated_s": "stated, s",
    "header_s": "in the file, s",
    "start_s": "from, s",
    "end_s": "to, s",
    "clipped_share": "clipped",
    "silent_share": "silent",
    "label": "label",
    "n": "times",
    "rows_before": "rows before",
    "rows_after": "rows after",
    "species_before": "species before",
    "species_after": "species after",
}
"""Columns of tables in words."""
SEVERITY_COLOUR = {"leak": "#D55E00", "warning": "#B07AA1", "note": "#888888"}


def audit_report_html(audit: Audit, name: str, about: Sequence[str] = ()) -> str:
    """The page of an audit: findings first, then what they rest on.

    `about` are sentences on the experiment. All names are text; the page needs no network.
    """
    first = audit.findings["finding"].iloc[0] if len(audit.findings) else ""
    parts = [
        f"<p class='answer'>{escape(first)}</p>",
        list_html([size_sentence(audit), *about]),
        section_html("Findings", _findings_html(audit.findings)),
        section_html("Leaks between training and validation", _leaks_html(audit)),
        section_html("Folds and classes", _support_html(audit)),
        section_html("Recordists", _recordists_html(audit)),
        section_html("Files", _files_html(audit)),
        section_html("Lengths", _lengths_html(audit)),
        section_html("Labels that are no class", _cut_table(audit.support.secondary)),
        section_html("Waterfall of the cleaning rules", _cut_table(audit.waterfall)),
    ]
    return page_html(f"Audit of {name}", parts)


def _findings_html(findings: pd.DataFrame) -> str:
    items = "".join(
        f"<li style='margin-bottom:.45rem'><strong style='color:{SEVERITY_COLOUR[f.severity]}'>"
        f"{escape(f.severity)}</strong> {escape(f.finding)}"
        + (f"<br><span class='soft'>→ {escape(f.fix)}</span>" if f.fix else "")
        + "</li>"
        for f in findings.itertuples()
    )
    return f"<ul style='list-style:none;padding-left:0'>{items}</ul>"


def _leaks_html(audit: Audit) -> str:
    leaks = audit.leaks
    if leaks.overlaps.empty:
        return "<p>Nothing is validated.</p>"
    plot = _figure(audit_figures.plot_overlaps(audit_figures.get_overlap_info(leaks)))
    against = leaks.against_base.assign(share=leaks.against_base["share"].map(percent))
    parts = [
        "<p class='soft'>Share of the validation rows of a fold that agree with a row of its "
        f"training set ({escape(content_sentence(audit))}).</p>",
        plot,
        table_html(overlap_table(audit)),
        _titled("Rows of extra and pretraining tables that agree with a validated row", against),
        _titled("Validation rows with the same recording in training", leaks.pairs),
        _titled("Halves of one recording in training and validation", leaks.halves),
        _titled("Recordist and species in more than one fold", leaks.groups),
    ]
    return "".join(parts)


def _support_html(audit: Audit) -> str:
    support = audit.support
    wide = support.classes.pivot_table(
        index="species", columns="fold", values=["n_train", "n_validation"], sort=False
    )
    parts = [table_html(fold_table(audit))] if len(support.folds) else []
    parts.append(_figure(audit_figures.plot_support(audit_figures.get_support_info(support))))
    if len(support.classes):
        wide = wide.sort_index(axis=1, level=1, sort_remaining=True).astype(int)
        words = {"n_train": "train", "n_validation": "validation"}
        wide.columns = pd.Index([f"{words[kind]} {fold}" for kind, fold in wide.columns])
        parts.append(
            "<p class='soft'>Rows of each class in each fold's training and validation.</p>"
        )
        parts.append(table_html(wide.reset_index()))
    caps = support.caps.assign(
        species=support.caps["species"].map(", ".join),
        expected=support.caps["expected"].map("{:.3g}".format),
        chance=support.caps["chance"].map("{:.1e}".format),
        largest=support.caps["largest"].map({True: "yes", False: "no"}),
    ).rename(columns={"n_species": "so many species", "largest": "largest number"})
    parts.append(_titled("Numbers of rows that too many species share", caps))
    parts.append(f"<p class='soft'>Looked for: {escape(CAP_RULE)}.</p>")
    return "".join(parts)


def _recordists_html(audit: Audit) -> str:
    support = audit.support
    if support.recordists.empty:
        return "<p>No row names its author.</p>"
    plot = _figure(audit_figures.plot_dominance(audit_figures.get_dominance_info(support)))
    top = support.recordists.assign(share=support.recordists["share"].map(percent))
    hit = support.dominance[support.dominance["dominated"]].drop(columns="dominated")
    hit = hit.sort_values(["share", "n_rows"], ascending=False)
    return "".join(
        [
            plot,
            _titled(
                "Species dominated by one recordist", hit.assign(share=hit["share"].map(percent))
            ),
            _titled("Recordists", top),
            _titled("Names written in several ways", support.spellings),
        ]
    )


def _files_html(audit: Audit) -> str:
    files = audit.files
    parts = [
        f"<p class='soft'>{files.n_files:,} files; looked at {files.n_headers:,}, samples "
        f"known of {files.n_signals:,}.</p>"
    ]
    if len(files.formats):
        parts.append(
            _figure(audit_file_figures.plot_formats(audit_file_figures.get_format_info(files)))
        )
    if len(files.loudness):
        parts.append(
            _figure(audit_file_figures.plot_loudness(audit_file_figures.get_loudness_info(files)))
        )
    flagged = files.loudness[files.loudness["verdict"] != ""]
    shares = {name: flagged[name].map(percent) for name in ("clipped_share", "silent_share")}
    parts += [
        _titled("Files that cannot be read", files.bad),
        _titled("Files that are not there", files.absent if files.n_headers else files.absent[:0]),
        _titled("Files that are clipped, silent or zero", flagged.assign(**shares)),
    ]
    return "".join(parts)


def _lengths_html(audit: Audit) -> str:
    files = audit.files
    summary = files.length_summary
    rounded = {
        name: summary[name].map("{:,.1f}".format)
        for name in summary.columns
        if name == "total_h" or str(name).startswith("q")
    }
    shares = {name: summary[name].map(percent) for name in ("short_share", "long_share")}
    shown = summary.assign(**rounded, **shares).rename(columns=_length_heads(summary))
    tables = [
        f"{role} {dataset}" for role, dataset in zip(shown["role"], shown["dataset"], strict=True)
    ]
    turned = shown.drop(columns=["role", "dataset"]).T.set_axis(tables, axis=1)
    turned = turned.rename_axis("of each table").reset_index()
    info = audit_file_figures.get_length_info(files)
    plot = _figure(audit_file_figures.plot_lengths(info)) if info.counts else ""
    off = files.off.assign(
        **{n: files.off[n].map("{:.2f}".format) for n in ("stated_s", "header_s")}
    )
    return plot + table_html(turned) + _titled("Stated durations that differ from the file", off)


def _length_heads(summary: pd.DataFrame) -> dict[str, str]:
    heads = {"n_rows": "rows", "n_unknown": "rows of unknown length", "total_h": "hours"}
    heads |= {"short_share": f"below {SHORT_S:g} s", "long_share": f"above {LONG_S:g} s"}
    quantiles = [str(name) for name in summary.columns if str(name).startswith("q")]
    ends = {"q0": "shortest, s", "q0.5": "median, s", "q1": "longest, s"}
    return heads | {q: ends.get(q, f"{100 * float(q[1:]):g} % below, s") for q in quantiles}


def _figure(figure: go.Figure) -> str:
    return f"<div style='margin-bottom:.9rem'>{figure_html(figure)}</div>"


def _titled(title: str, table: pd.DataFrame) -> str:
    """A small title and a table of at most MOST_ROWS rows; nothing for an empty one."""
    if table.empty:
        return ""
    return f"<h3 style='font-size:.95rem;margin:1rem 0 .3rem'>{escape(title)}</h3>" + _cut_table(
        table
    )


def _cut_table(table: pd.DataFrame) -> str:
    if table.empty:
        return "<p class='soft'>None.</p>"
    more = f"The first {MOST_ROWS} of {len(table):,}." if len(table) > MOST_ROWS else ""
    shown = table.head(MOST_ROWS).rename(columns=HEADS)
    return table_html(shown) + (f"<p class='soft'>{more}</p>" if more else "")
