"""Findings about the files of a table."""

from __future__ import annotations

from collections.abc import Iterator

from birdlab.data.audit.files import (
    CLIPPED_SHARE,
    LONG_S,
    OFF_S,
    OFF_SHARE,
    SHORT_S,
    SILENT_SHARE,
    Files,
)
from birdlab.data.audit.sentences import NOTE, WARNING, Finding, percent
from birdlab.words import count_words, list_some


def find_unreadable(files: Files, *, skips_bad: bool) -> Iterator[Finding]:
    """What could not be read, is not there, or was not looked at.

    skips_bad: `data.on_bad_file: skip` is set already.
    """
    if len(files.bad):
        reasons = files.bad["reason"].value_counts()
        told = "; ".join(f"{reason} ({n})" for reason, n in list(reasons.items())[:4])
        yield Finding(
            WARNING,
            f"{count_words(len(files.bad), 'file')} cannot be read: {told}.",
            "replace them; until then data.on_bad_file: skip leaves them out"
            if skips_bad
            else "replace them, or set data.on_bad_file: skip",
        )
    if 0 < len(files.absent) < files.n_files:
        yield Finding(
            WARNING,
            f"{len(files.absent):,} of {count_words(files.n_files, 'file')} are not there: "
            f"{list_some(files.absent['dataset'] + '/' + files.absent['recording'], most=3)}.",
            "fetch them, or exclude them",
        )
    elif len(files.absent):
        yield Finding(NOTE, "The audio is not there: no file was looked at.")
    elif not files.n_headers:
        yield Finding(NOTE, "No file was looked at.", "birdlab data audit --audio")
    n_unheard = files.n_headers - files.n_signals - len(files.bad)
    if n_unheard > 0:
        yield Finding(
            NOTE,
            "Clipping, silence and equal samples are not known of "
            f"{count_words(n_unheard, 'file')}: not in the waveform store.",
            "birdlab data build SPEC",
        )


def find_lifeless(files: Files) -> Iterator[Finding]:
    """Files that are zero, silent or clipped."""
    verdicts = files.loudness["verdict"]
    for verdict, severity, words in (
        ("all zero", WARNING, "Nothing but zeros"),
        ("silent", WARNING, f"Silent for more than {100 * SILENT_SHARE:g} % of the length"),
        ("clipped", NOTE, f"Clipped in more than {100 * CLIPPED_SHARE:g} % of the samples"),
    ):
        hit = files.loudness[verdicts == verdict]
        if len(hit):
            names = hit["dataset"] + "/" + hit["recording"]
            fix = "exclude them, or trim" if severity == WARNING else ""
            yield Finding(
                severity, f"{words}: {count_words(len(hit), 'file')} ({list_some(names)}).", fix
            )


def find_wrong_durations(files: Files) -> Iterator[Finding]:
    """Stated durations that are not those of the files."""
    if len(files.off):
        worst = files.off.loc[(files.off["stated_s"] - files.off["header_s"]).abs().idxmax()]
        yield Finding(
            WARNING,
            f"The stated duration differs from the file by more than {OFF_S:g} s and "
            f"{100 * OFF_SHARE:g} % in {count_words(len(files.off), 'row')}; the worst says "
            f"{worst['stated_s']:.1f} s where the file has {worst['header_s']:.1f} s "
            f"({worst['recording']}).",
            "rules on duration read the table first: correct it, or drop the column",
        )


def describe_lengths(files: Files) -> Iterator[Finding]:
    """Hours, median and extremes of each table."""
    for line in files.length_summary.to_dict("records"):
        if line["n_unknown"] == line["n_rows"]:
            yield Finding(NOTE, f"The durations of {line['dataset']} are not known.")
            continue
        yield Finding(
            NOTE,
            f"{line['dataset']} ({line['role']}): {line['total_h']:.1f} h, median "
            f"{line['q0.5']:.1f} s, longest {line['q1']:.1f} s; {percent(line['short_share'])} "
            f"shorter than {SHORT_S:g} s, {percent(line['long_share'])} longer than {LONG_S:g} s.",
        )


def find_low_rates(files: Files, sample_rate_hz: int) -> Iterator[Finding]:
    """Files made at less than the work rate."""
    low = files.formats[files.formats["sample_rate_hz"] < sample_rate_hz]
    if len(low):
        rates = ", ".join(f"{int(rate):,} Hz" for rate in sorted(set(low["sample_rate_hz"])))
        yield Finding(
            NOTE,
            f"{count_words(int(low['n_files'].sum()), 'file')} made at less than "
            f"{sample_rate_hz:,} Hz ({rates}): they hold nothing above half their rate.",
            "{sample_rate: N} in data.clean drops those below N Hz",
        )
