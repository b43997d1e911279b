"""A page of soft labels: what is labelled, and windows to listen to for each species."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from birdlab.data.audio import Waveform
from birdlab.data.store import WaveStore
from birdlab.study.png import png_uri
from birdlab.study.pseudo_examples import Example, choose_examples
from birdlab.study.pseudo_labels import LabelSets
from birdlab.study.report import escape, list_html, page_html, section_html, table_html
from birdlab.study.sounds import embed_part
from birdlab.study.spectrogram import PLAIN, draw_spectrogram

STYLE = (
    "<style>.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(15rem,1fr));"
    "gap:.9rem}.card{background:var(--card);border:1px solid var(--line);border-radius:6px;"
    "padding:.5rem .7rem;min-width:0}.card h3{font-size:.9rem;margin:0}.card p{margin:.2rem 0}"
    ".card img{width:100%;height:7rem;image-rendering:auto;border-radius:3px}"
    ".card audio{width:100%;height:2.2rem}</style>"
)


def pseudo_report_html(
    labels: LabelSets,
    waves: WaveStore,
    *,
    title: str,
    sentences: Sequence[str],
    species: Sequence[str],
    n_examples: int,
) -> str:
    """The page: the sentences, the table of species, and `n_examples` of each kind for `species`.

    All names are text; the page needs no network. About 50 kB a window. Raises DataError for a
    soundscape that the store has not.
    """
    parts = [
        STYLE,
        list_html(sentences),
        section_html("Species", table_html(table_words(labels))),
        f"<p class='soft'>{escape(PLAIN)} Sounds are brought to one level. The probability is the "
        "mean over teachers.</p>",
    ]
    for code in species:
        cards = [_card(example, waves) for example in choose_examples(labels, code, n_examples)]
        inside = f"<div class='cards'>{''.join(cards)}</div>" if cards else "<p>No window.</p>"
        parts.append(section_html(code, inside))
    return page_html(title, parts)


def table_words(labels: LabelSets) -> pd.DataFrame:
    """The table of species as text, the most labelled first."""
    table = labels.table.sort_values("label_sum", ascending=False, kind="stable")
    known = table["known"]
    return pd.DataFrame(
        {
            "species": table["species"],
            "windows": [
                f"{n:.0f}" if k else "" for n, k in zip(table["windows"], known, strict=True)
            ],
            "label sum": [
                f"{s:.1f}" if k else "" for s, k in zip(table["label_sum"], known, strict=True)
            ],
            "highest": [
                f"{p:.2f}" if k else "" for p, k in zip(table["highest"], known, strict=True)
            ],
            "agree": ["" if a != a else f"{100 * a:.0f} %" for a in table["agree"]],
            "in tenths": [
                " ".join(map(str, t)) if k else "not known to the teacher"
                for t, k in zip(table["tenths"], known, strict=True)
            ],
        }
    )


def _card(example: Example, waves: WaveStore) -> str:
    """A window as a card: why it is shown, where it is, its spectrogram and sound, what it has."""
    start, stop = _samples_of(example, waves)
    samples = waves.read_int16(example.key, start, stop - start)
    wave = Waveform(samples, waves.scale(example.key), waves.sample_rate_hz)
    image = draw_spectrogram(wave)
    name = f"{example.file}, {example.start_s:g} to {example.end_s:g} s"
    said = f"probability {example.prob:.2f}"
    if example.spread:
        said += f", SD over teachers {example.spread:.2f}"
    also = ", ".join(f"{code} {p:.2f}" for code, p in example.others) or "nothing else"
    return (
        f"<div class='card'><h3>{escape(example.why)}</h3>"
        f"<img alt='{escape(f'spectrogram of {name}')}' src='{png_uri(np.flipud(image.levels))}'>"
        f"<audio controls preload='none' aria-label='{escape(name)}' "
        f"src='{embed_part(wave.to_float(), waves.sample_rate_hz)}'></audio>"
        f"<p class='soft'>{escape(name)}</p><p class='soft'>{escape(said)}</p>"
        f"<p class='soft'>beside it: {escape(also)}</p></div>"
    )


def _samples_of(example: Example, waves: WaveStore) -> tuple[int, int]:
    """Where a window lies in its file: the last one of a file may be longer than what is left."""
    length = waves.n_samples(example.key)
    start, stop = (round(s * waves.sample_rate_hz) for s in (example.start_s, example.end_s))
    return min(max(0, start), max(0, length - 1)), min(length, stop)
