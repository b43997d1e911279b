"""Competition profiles: the metric, the windows and the limits a model is built for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from birdlab.errors import SpecError
from birdlab.spec.base import Name, Positive, Spec
from birdlab.spec.kinds import nearest

Metric = Literal["padded_cmap", "macro_auc", "cmap", "micro_f1", "macro_f1"]


class CompetitionSpec(Spec):
    """What a competition asks for.

    Rows of a submission are named `<file stem>_<end second>`.

    Source: the competition's pages.
    """

    name: Name
    """What the competition is called."""
    metric: Metric = "padded_cmap"
    """The metric of the leaderboard."""
    n_classes: Annotated[int, Field(ge=1)] | None = None
    """The number of scored classes, where the profile fixes it: a check, not a setting. Unit:
    classes."""
    window_s: Positive = 5.0
    """How long the windows are that are predicted."""
    cpu_minutes: Positive = 120.0
    """The time limit of a submission, on CPUs."""
    n_soundscapes: Annotated[int, Field(ge=1)] = 200
    """How many soundscapes the hidden test holds, for estimates of time. Unit: files."""
    soundscape_s: Positive = 600.0
    """How long one of them is."""
    submission: Literal["row_id_probabilities", "row_id_labels"] = "row_id_probabilities"
    """What a row of the submission holds: a probability per species, or the labels heard."""


PROFILES: dict[str, CompetitionSpec] = {
    profile.name: profile
    for profile in (
        CompetitionSpec(
            name="demo",
            metric="padded_cmap",
            cpu_minutes=5.0,
            n_soundscapes=24,
            soundscape_s=60.0,
        ),
        CompetitionSpec(
            name="birdclef-2020",
            metric="cmap",
            n_classes=960,
            cpu_minutes=540.0,
            n_soundscapes=153,
            soundscape_s=600.0,
        ),
        CompetitionSpec(
            name="birdclef-2021",
            metric="micro_f1",
            n_classes=397,
            cpu_minutes=540.0,
            n_soundscapes=80,
            soundscape_s=600.0,
            submission="row_id_labels",
        ),
        CompetitionSpec(
            name="birdclef-2022",
            metric="macro_f1",
            cpu_minutes=540.0,
            n_soundscapes=5500,
            soundscape_s=60.0,
            submission="row_id_labels",
        ),
        CompetitionSpec(name="birdclef-2023", metric="padded_cmap", n_classes=264),
        CompetitionSpec(
            name="birdclef-2024",
            metric="macro_auc",
            n_classes=182,
            n_soundscapes=1100,
            soundscape_s=240.0,
        ),
        CompetitionSpec(
            name="birdclef-2025",
            metric="macro_auc",
            n_classes=206,
            cpu_minutes=90.0,
            n_soundscapes=700,
            soundscape_s=60.0,
        ),
        CompetitionSpec(
            name="birdclef-2026",
            metric="macro_auc",
            cpu_minutes=90.0,
            n_soundscapes=700,
            soundscape_s=60.0,
        ),
    )
}


def load_competition(value: object) -> CompetitionSpec:
    """The profile of that name, or the custom profile that a mapping spells out."""
    if isinstance(value, CompetitionSpec):
        return value
    if isinstance(value, dict):
        return CompetitionSpec.model_validate(value)
    profile = PROFILES.get(str(value))
    if profile is None:
        raise SpecError(
            f"unknown competition {value!r}",
            expected=nearest(value, list(PROFILES)),
            fix="name one of them, or write `competition: {name: my-competition, metric: ...}`",
        )
    return profile
