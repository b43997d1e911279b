"""What stands behind `birdlab report`, and behind the reports that go into MLflow: one road."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from birdlab.cli.files import write_file
from birdlab.errors import LabError
from birdlab.recorded import is_foreign, load_json

if TYPE_CHECKING:
    from birdlab.lab import Lab
    from birdlab.runresult import RunResult
    from birdlab.study.document import Document
    from birdlab.study.stored_sweep import StoredSweep

SUFFIXES = (".html", ".md")


def sweep_document(sweep: StoredSweep) -> Document:
    """The report of a recorded sweep."""
    from birdlab.study.sweep_report import build_sweep_document, describe_sweep

    return build_sweep_document(describe_sweep(sweep))


def run_document(lab: Lab, record: Mapping[str, Any]) -> Document:
    """The report of a recorded run, also of one from another origin."""
    from birdlab.runtables import load_curves, load_table, tables_folder
    from birdlab.study.run_report import build_run_document, describe_run

    classes = load_table(tables_folder(lab, record["spec_id"]), "classes")
    cells = [cell["cell_id"] for cell in record["cells"] if not is_foreign(record)]
    return build_run_document(describe_run(record, classes, load_curves(lab, cells)))


def result_document(result: RunResult) -> Document:
    """The report of a run that was just scored, or read back."""
    from birdlab.study.run_report import build_run_document, describe_run

    return build_run_document(describe_run(load_json(result.record), result.classes, result.curves))


def summary_files(document: Document) -> dict[str, str]:
    """The files that show a sweep in MLflow: the report in both forms, each figure and table.

    `figures.html` holds all figures to zoom and to hover over.
    """
    from birdlab.spreadsheets import csv_text
    from birdlab.study.document_html import document_html, figures_html
    from birdlab.study.markdown import document_markdown
    from birdlab.study.svg import draw_svg

    figures = {
        f"figures/{d.name}.svg": draw_svg(d.figure, title=d.caption) for d in document.drawings
    }
    tables = {f"{t.name}.csv": csv_text(t.table) for t in document.tables}
    return {
        "report.html": document_html(document),
        "report.md": document_markdown(document, PurePosixPath("figures")),
        **({"figures.html": figures_html(document)} if figures else {}),
        **figures,
        **tables,
    }


def check_ending(path: Path) -> None:
    """Raise LabError for a file name that says no form of a report."""
    if path.suffix.lower() not in SUFFIXES:
        raise LabError(
            "a report is written as HTML or as Markdown",
            got=str(path),
            expected=f"a file that ends with {' or '.join(SUFFIXES)}",
        )


def write_report(document: Document, path: Path) -> list[Path]:
    """The files written for a report: `.html` is one, `.md` has its figures beside it.

    Raises LabError for another ending, and where they cannot be written.
    """
    from birdlab.study.document_html import document_html
    from birdlab.study.markdown import document_markdown
    from birdlab.study.svg import draw_svg

    check_ending(path)
    if path.suffix.lower() == ".html":
        texts = {path: document_html(document)}
    else:
        folder = path.with_name(f"{path.stem}_files")
        drawn = document.drawings
        texts = {folder / f"{d.name}.svg": draw_svg(d.figure, title=d.caption) for d in drawn}
        texts[path] = document_markdown(document, PurePosixPath(folder.name))
    for file, text in texts.items():
        write_file(file, text)
    return list(texts)
