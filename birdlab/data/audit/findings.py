"""Findings of an audit in sentences, most important first, each with what to do about it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator

import pandas as pd

from birdlab.data.audit.filefindings import (
    describe_lengths,
    find_lifeless,
    find_low_rates,
    find_unreadable,
    find_wrong_durations,
)
from birdlab.data.audit.files import Files
from birdlab.data.audit.overlaps import AUTHOR_SPECIES, CONTENT, RECORDING_ID, TRAINING, Leaks
from birdlab.data.audit.sentences import LEAK, NOTE, WARNING, Finding, percent, percents
from birdlab.data.audit.support import DOMINATED_ROWS, DOMINATED_SHARE, Support
from birdlab.words import count_words, list_some

SEVERITIES = (LEAK, WARNING, NOTE)
COLUMNS = ("severity", "finding", "fix")

_KEYS = {
    RECORDING_ID: ("recording id", "recording_id", "are the same recording (id or file)"),
    CONTENT: ("audio", "content", "are equal audio"),
    AUTHOR_SPECIES: ("recordist and species", "author, species", "share recordist and species"),
}


def describe_findings(
    leaks: Leaks, support: Support, files: Files, sample_rate_hz: int, *, skips_bad: bool
) -> pd.DataFrame:
    """severity, finding, fix of all findings: leaks, then warnings, then notes."""
    found = [
        *_halves(leaks),
        *_overlaps(leaks),
        *find_unreadable(files, skips_bad=skips_bad),
        *_caps(support),
        *_missing_species(support),
        *find_lifeless(files),
        *find_wrong_durations(files),
        *_recordists(support),
        *describe_lengths(files),
        *find_low_rates(files, sample_rate_hz),
        *_labels(support),
    ]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))  # stable
    return pd.DataFrame(found, columns=list(COLUMNS))


def _halves(leaks: Leaks) -> Iterator[Finding]:
    if len(leaks.halves):
        species = sorted(set(leaks.halves["primary_label"]))
        yield Finding(
            LEAK,
            f"{count_words(len(species), 'species', 'species')} validated on one half of a "
            f"recording whose other half is trained on: {list_some(species)}.",
            "these rows are scored apart; do not read their score as skill",
        )


def _overlaps(leaks: Leaks) -> Iterator[Finding]:
    for by in _KEYS:
        lines = leaks.overlaps[leaks.overlaps["by"] == by]
        within = lines[lines["role"] == "base"]
        within = within if len(within) else lines[lines["source"] == TRAINING]
        if within["n_shared"].sum():
            yield _overlap_inside(by, within, leaks)
        elif len(lines) and not lines["n_shared"].sum():
            known = ""
            if by == RECORDING_ID:
                known = (
                    f" ({leaks.n_with_id:,} of {count_words(leaks.n_rows, 'row')} have a known id)"
                )
            yield Finding(
                NOTE, f"No validation row shares {_KEYS[by][0]} with a training row{known}."
            )
        from_others = leaks.against_base[leaks.against_base["by"] == by]
        for line in from_others[from_others["n_shared"] > 0].to_dict("records"):
            yield _overlap_from(line, lines[lines["source"] == line["source"]])


def _overlap_inside(by: str, lines: pd.DataFrame, leaks: Leaks) -> Finding:
    low, high = lines["share"].min(), lines["share"].max()
    shown = lines[lines["share"] > 0].iloc[0]
    others = f" ({percents(low, high)} over the folds)" if low < high else ""
    text = (
        f"{percent(shown['share'])} of the validation rows of fold {shown['fold']} "
        f"{_KEYS[by][2]} with a training row of the base{others}."
    )
    if by == AUTHOR_SPECIES:
        return Finding(
            LEAK,
            text,
            "compare models also on data.folds: {kind: stratified_group}, which keeps a "
            "recordist within one fold",
        )
    pairs = leaks.pairs[(leaks.pairs["by"] == by) & leaks.pairs["source"].isin(lines["source"])]
    named = list_some((f"{p.recording} = {p.other}" for p in pairs.itertuples()), most=2)
    return Finding(
        LEAK,
        f"{text[:-1]}: {named}." if named else text,
        f"add {{dedupe: [{_KEYS[by][1]}]}} to data.clean",
    )


def _overlap_from(line: dict[Hashable, object], folds: pd.DataFrame) -> Finding:
    by, source = str(line["by"]), str(line["source"])
    share = folds.loc[folds["role"] == line["role"], "share"]
    kind = "pretraining table" if line["role"] == "pretrain" else "extra table"
    rule = f"by: [{_KEYS[by][1]}], against: base, tables: [{source}]"
    return Finding(
        LEAK,
        f"{line['n_shared']:,} of {line['n_rows']:,} rows of the {kind} {source} "
        f"{_KEYS[by][2]} with a validated row of the base: they touch "
        f"{percents(share.min(), share.max())} of a fold.",
        f"add {{dedupe: {{{rule}}}}} to data.clean",
    )


def _caps(support: Support) -> Iterator[Finding]:
    for cap in support.caps.to_dict("records"):
        why = "more than any other" if cap["largest"] else "a round number"
        yield Finding(
            WARNING,
            f"{count_words(cap['n_species'], 'species', 'species')} of {cap['dataset']} have "
            f"exactly {cap['n_rows']:,} rows, {why} ({list_some(cap['species'])}; "
            f"{cap['expected']:.2g} species expected): a download or an export was probably cut "
            "there.",
            "fetch the rest: birdlab data xenocanto reads every page",
        )


def _missing_species(support: Support) -> Iterator[Finding]:
    table = support.classes
    if not len(table):
        yield Finding(NOTE, "Nothing is validated: there are no folds.")
        return
    total = table.groupby("species", sort=False)[["n_train", "n_validation"]].max()
    never = list(total.index[(total == 0).all(axis=1)])
    if never:
        yield Finding(
            WARNING,
            f"{count_words(len(never), 'class', 'classes')} without any recording: "
            f"{list_some(never)}.",
            "add recordings, or expect nothing of them",
        )
    unseen = table[(table["n_train"] == 0) & ~table["species"].isin(never)]
    if len(unseen):
        per_fold = support.folds["missing_train"] - len(never)
        yield Finding(
            WARNING,
            f"{', '.join(map(str, per_fold))} species are validated without a training row "
            f"(folds {_fold_names(support)}): {list_some(sorted(set(unseen['species'])))}.",
            "data.folds.rare: train puts the rarest in every training fold",
        )
    if support.folds["missing_validation"].max() > len(never):
        yield Finding(
            NOTE,
            f"{', '.join(map(str, support.folds['missing_validation']))} classes are not validated "
            f"in folds {_fold_names(support)}; a padded score counts each as 1.",
        )


def _fold_names(support: Support) -> str:
    return ", ".join(map(str, support.folds["fold"]))


def _recordists(support: Support) -> Iterator[Finding]:
    if len(support.recordists):
        top = support.recordists.iloc[0]
        unknown = support.unknown_author_share
        yield Finding(
            NOTE,
            f"The largest of {count_words(len(support.recordists), 'recordist')}, {top['author']}, "
            f"made {percent(top['share'])} of the rows"
            + (f"; {percent(unknown)} have no author." if unknown else "."),
        )
    else:
        yield Finding(NOTE, "No row names its author: overlaps of recordists cannot be seen.")
    hit = support.dominance[support.dominance["dominated"]]
    if len(hit):
        hit = hit.sort_values(["share", "n_rows"], ascending=False)
        shown = (f"{s.species} ({percent(s.share)} {s.largest})" for s in hit.itertuples())
        yield Finding(
            WARNING,
            f"{count_words(len(hit), 'species', 'species')} of {DOMINATED_ROWS} rows or more have "
            f"more than {100 * DOMINATED_SHARE:g} % from one recordist: "
            f"{list_some(shown, most=3)}.",
            "a model may learn the recordist there; look at these classes with grouped folds",
        )
    if len(support.spellings):
        written = list_some(support.spellings["written"], most=2)
        yield Finding(
            NOTE,
            f"{count_words(len(support.spellings), 'recordist')} written in several ways: "
            f"{written}. Overlaps compare names as written; grouped folds ignore case and outer "
            "spaces.",
        )


def _labels(support: Support) -> Iterator[Finding]:
    if len(support.secondary):
        told = (f"{s.label} ({s.n})" for s in support.secondary.itertuples())
        yield Finding(
            NOTE,
            f"{count_words(len(support.secondary), 'secondary label')} of no class, in "
            f"{count_words(int(support.secondary['n'].sum()), 'place')}: {list_some(told)}.",
            "map them with `synonyms` in birdlab.toml where they are another name of a class",
        )
