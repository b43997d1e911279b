"""A page to listen to label suspects: spectrogram, sound, and what models heard instead."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from birdlab.errors import BirdlabError
from birdlab.study.png import png_uri
from birdlab.study.pseudo_report import STYLE
from birdlab.study.report import escape, list_html, page_html, section_html, table_html
from birdlab.study.sounds import Sounds, embed_sound
from birdlab.study.spectrogram import PLAIN, see_sound
from birdlab.study.suspects import Suspects


def suspects_html(
    suspects: Suspects, sounds: Sounds, datasets: Iterable[str], *, title: str, most: int = 20
) -> str:
    """The page: the sentences, the first `most` suspects as cards, the whole list as a table.

    The audio is looked for in the data sets by name; a card says so where it is not there. All
    names are text; the page needs no network. About 0.2 MB a card, at most 1 MB.
    """
    named = list(datasets)
    cards = [_card(row, sounds, named) for row in suspects.table.head(most).to_dict("records")]
    parts = [STYLE, list_html(suspects.sentences)]
    if cards:
        parts.append(f"<p class='soft'>{escape(PLAIN)} Longer sounds are cut at 20 s.</p>")
        parts.append(f"<div class='cards'>{''.join(cards)}</div>")
        parts.append(section_html("All", table_html(suspect_table(suspects))))
    return page_html(title, parts)


def suspect_table(suspects: Suspects) -> pd.DataFrame:
    """The list as text, the most suspicious first."""
    table = suspects.table
    return pd.DataFrame(
        {
            "recording": table["filename"],
            "fold": table["fold"],
            "label": table["primary_label"],
            "heard instead": table["heard_instead"],
            "by": [
                f"{a} of {b}" for a, b in zip(table["n_instead"], table["n_models"], strict=True)
            ],
            "wrong": [
                f"{a} of {b}" for a, b in zip(table["n_wrong"], table["n_models"], strict=True)
            ],
            "suspicion": table["suspicion"].map("{:.2f}".format),
            "prob. of label": table["p_given"].map("{:.3f}".format),
            "of heard": table["p_instead"].map("{:.3f}".format),
        }
    )


def _card(row: dict[str, object], sounds: Sounds, datasets: list[str]) -> str:
    """A recording: what it is called, what is heard, its spectrogram and sound."""
    said = (
        f"labelled {row['primary_label']} (probability {row['p_given']:.2f}), "
        f"{row['n_instead']} of {row['n_models']} models hear {row['heard_instead']} "
        f"({row['p_instead']:.2f}); suspicion {row['suspicion']:.2f}, fold {row['fold']}"
    )
    return (
        f"<div class='card'><h3>{escape(row['filename'])}</h3>"
        f"{_sound_html(str(row['filename']), sounds, datasets)}"
        f"<p class='soft'>{escape(said)}</p></div>"
    )


def _sound_html(name: str, sounds: Sounds, datasets: list[str]) -> str:
    """The spectrogram and the player of a recording, or why they are not there."""
    found = sounds.find(name, "recording", datasets)
    if found is None:
        return "<p class='soft'>No data set of this lab has its audio.</p>"
    try:
        found = sounds.require(found.dataset, "recording", name)
        image = see_sound(found.path)
        uri, _ = embed_sound(found.path)
    except BirdlabError as error:
        return f"<p class='soft'>{escape(f'Cannot be heard: {error.what}.')}</p>"
    credit = f"<p class='soft'>{escape(found.credit)}</p>" if found.credit else ""
    return (
        f"<img alt='{escape(f'spectrogram of {name}')}' src='{png_uri(np.flipud(image.levels))}'>"
        f"<audio controls preload='none' aria-label='{escape(name)}' src='{uri}'></audio>{credit}"
    )
