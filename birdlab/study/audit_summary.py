"""An audit in words and small tables, and in the lines of a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

import pandas as pd

from birdlab.data.audit.audit import Audit
from birdlab.data.audit.overlaps import CONTENT
from birdlab.data.audit.sentences import percent

MOST_FOLDS = 6
WIDTH = 100


def size_sentence(audit: Audit) -> str:
    """How many rows of which role, classes and folds were audited."""
    extra = f" and {audit.n_extra:,} extra" if audit.n_extra else ""
    stages = audit.files.length_summary
    pretrain = int(stages.loc[stages["role"] == "pretrain", "n_rows"].sum())
    more = f", {pretrain:,} pretraining rows" if pretrain else ""
    return (
        f"{audit.n_base:,} base{extra} rows{more}, {audit.n_classes} classes, "
        f"{len(audit.support.folds)} folds."
    )


def overlap_table(audit: Audit) -> pd.DataFrame:
    """A row per source and key, the share of each fold as text; of many folds the extremes."""
    lines = []
    for (source, role, by), part in audit.leaks.overlaps.groupby(
        ["source", "role", "by"], sort=False
    ):
        named = f"{role} {source}" if role in ("extra", "pretrain") else str(source)
        shares = dict(zip(part["fold"], part["share"], strict=True))
        if len(shares) > MOST_FOLDS:
            first = next(iter(shares))
            shown = {f"fold {first}": shares[first]}
            shown |= {"lowest": min(shares.values()), "highest": max(shares.values())}
        else:
            shown = {f"fold {fold}": share for fold, share in shares.items()}
        told = {name: percent(share) for name, share in shown.items()}
        lines.append({"training rows of": named, "agree in": by, **told})
    return pd.DataFrame(lines)


def fold_table(audit: Audit) -> pd.DataFrame:
    """A row per fold with its sizes and the classes it lacks."""
    names = {
        "fold": "fold",
        "n_train": "train rows",
        "n_validation": "val. rows",
        "n_apart": "apart",
        "species_train": "species in train",
        "species_validation": "in val.",
        "missing_train": "not in train",
        "missing_validation": "not in val.",
    }
    table = audit.support.folds
    if not table["n_apart"].any():
        del names["n_apart"]
    return table[list(names)].rename(columns=names)


def audit_lines(audit: Audit, name: str) -> list[str]:
    """The audit for a terminal of 100 columns: overlaps, folds, findings."""
    lines = [f"audit of {name}: {size_sentence(audit)}", ""]
    overlaps = overlap_table(audit)
    if len(overlaps):
        lines += ["validation rows that agree with a training row", *aligned(overlaps)]
        lines += [f"  ({content_sentence(audit)})", ""]
    if len(audit.support.folds):
        lines += ["folds", *aligned(fold_table(audit)), ""]
    lines.append("findings")
    for finding in audit.findings.itertuples():
        lines += _wrapped(f"  {finding.severity:<8}", finding.finding)
        if finding.fix:
            lines += _wrapped(f"  {'':<8}-> ", finding.fix)
    return lines


def aligned(table: pd.DataFrame) -> list[str]:
    """The lines of a table: text to the left, numbers and shares to the right."""
    texts = [[f"{v:,}" if isinstance(v, int) else str(v) for v in row] for row in _values(table)]
    heads = [str(column) for column in table.columns]
    right = [
        all(text[:1].isdigit() or text[:1] in "<-" for text in c) for c in zip(*texts, strict=True)
    ]
    widths = [max(map(len, c)) for c in zip(heads, *texts, strict=True)]
    return [
        "  "
        + "  ".join(
            text.rjust(w) if r else text.ljust(w)
            for text, w, r in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in (heads, *texts)
    ]


def _values(table: pd.DataFrame) -> Iterable[list[object]]:
    return (list(row) for row in table.astype(object).itertuples(index=False, name=None))


def _wrapped(lead: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_on_hyphens=False,
    )


def content_sentence(audit: Audit) -> str:
    """By what equal audio was told."""
    if audit.content:
        return f"{CONTENT}: {audit.content}"
    return f"{CONTENT}: not looked at"
