"""The estimators of an experiment: the ways its cross-validation is summed up in one number.

They are declared here, before any leaderboard score is known, and nothing in them can name a
score, a list of species or weights: what is chosen because it follows the leaderboard follows it
in pure noise too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from birdlab.spec.base import Name, Positive, Spec
from birdlab.spec.kinds import register

Pad = Annotated[int, Field(ge=1, le=1000)]
Metric = Literal["padded_cmap", "macro_auc"]
N_PAD = 5
"""The rows of ones of the BirdCLEF metric of 2023."""
N_KM = 50.0
"""How far away from all training recordings a site counts as new unless said."""


class EstimatorSpec(Spec):
    """One number for a run, its score `cv/<name>`; each subclass is one kind.

    Without a name of its own it is called after what it counts: `padded_cmap: {pad: 3}` becomes
    `padded_cmap_pad3`. `main_field` is what a plain value means.

    Source: birdlab.
    """

    name: Name
    """What the score is called, below `cv/`."""
    kind: str
    """Which estimator it is; its name unless said."""
    main_field: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _name_itself(cls, raw: Any) -> Any:
        if not isinstance(raw, Mapping):
            return raw
        kind = cls.model_fields["kind"].default
        if raw.get("name", kind) != kind:
            return raw
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {**raw, "name": cls.title({**defaults, **raw})}

    @classmethod
    def title(cls, fields: Mapping[str, Any]) -> str:
        """What an estimator with these fields is called; an extension may say more."""
        return str(fields["kind"])


def _measure(fields: Mapping[str, Any]) -> tuple[str, str]:
    """The metric of an estimator and its padding as the end of a name, "" for the usual one."""
    metric, pad = fields.get("metric", "padded_cmap"), fields["pad"]
    return metric, f"_pad{pad}" if metric == "padded_cmap" and pad != N_PAD else ""


@register("estimator")
class PaddedCmap(EstimatorSpec):
    """Padded cmAP with `pad` rows of ones, the mean over folds.

    Source: BirdCLEF 2023 evaluation page, with 5 rows of ones.
    """

    kind: Literal["padded_cmap"] = "padded_cmap"
    pad: Pad = N_PAD
    """How many rows of ones are added. Unit: rows."""
    main_field: ClassVar[str | None] = "pad"

    @classmethod
    def title(cls, fields: Mapping[str, Any]) -> str:
        return "".join(_measure(fields))


@register("estimator")
class MacroAuc(EstimatorSpec):
    """ROC-AUC averaged over the classes that have both kinds of rows, the mean over folds.

    Source: the metric of BirdCLEF 2024 to 2026; Mann-Whitney U divided by the number of pairs.
    """

    kind: Literal["macro_auc"] = "macro_auc"


@register("estimator")
class CmapMin5(EstimatorSpec):
    """Unpadded average precision over the classes with 5 positives or more, the mean over folds.

    Source: scikit-learn's average_precision_score.
    """

    kind: Literal["cmap_min5"] = "cmap_min5"


class MeasureSpec(EstimatorSpec):
    """An estimator that takes one of several metrics; `pad` belongs to the padded cmAP."""

    metric: Metric = "padded_cmap"
    """The metric that is taken."""
    pad: Pad = N_PAD
    """How many rows of ones are added for padded_cmap. Unit: rows."""
    main_field: ClassVar[str | None] = "metric"
    called: ClassVar[str]

    @classmethod
    def title(cls, fields: Mapping[str, Any]) -> str:
        metric, pad = _measure(fields)
        return f"{metric}_{cls.called}{pad}"


@register("estimator")
class Pooled(MeasureSpec):
    """All folds as one table. Models of several folds rank rows together, so their levels count."""

    kind: Literal["pooled"] = "pooled"
    called: ClassVar[str] = "pooled"


@register("estimator")
class OneFold(MeasureSpec):
    """The score of one fold alone: what can be had for a fraction of the work."""

    kind: Literal["one_fold"] = "one_fold"
    fold: Annotated[int, Field(ge=0)] = 0
    """Which fold. Unit: fold."""
    main_field: ClassVar[str | None] = "fold"

    @classmethod
    def title(cls, fields: Mapping[str, Any]) -> str:
        metric, pad = _measure(fields)
        return f"{metric}_fold{fields['fold']}{pad}"


@register("estimator")
class MeanMinusSd(MeasureSpec):
    """The mean over folds minus `sds` times their standard deviation: a cautious mean."""

    kind: Literal["mean_minus_sd"] = "mean_minus_sd"
    sds: Positive = 1.0
    """How many standard deviations. Unit: standard deviations."""

    @classmethod
    def title(cls, fields: Mapping[str, Any]) -> str:
        metric, pad = _measure(fields)
        return f"{metric}_minus_{fields['sds']}sd{pad}".replace(".0sd", "sd")


@register("estimator")
class NewRecordists(MeasureSpec):
    """The recordings of people of whom a fold's models heard nothing in training, fold by fold.

    A row without an author stands for a recordist of its own.
    """

    kind: Literal["new_recordists"] = "new_recordists"
    called: ClassVar[str] = "new_recordists"


@register("estimator")
class NewSites(MeasureSpec):
    """The recordings from further than `km` from all that a fold's models trained on, fold by fold.

    A row without coordinates is left out: where it was made is not known.
    """

    kind: Literal["new_sites"] = "new_sites"
    km: Positive = N_KM
    """How far a site is from all that was trained on, at least. Unit: km."""
    called: ClassVar[str] = "new_sites"

    @classmethod
    def title(cls, fields: Mapping[str, Any]) -> str:
        km = float(fields["km"])
        return super().title(fields) + ("" if km == N_KM else f"_{km:g}km")


@register("estimator")
class SyntheticWindows(MeasureSpec):
    """The windows of the soundscapes that `evaluate.synthetic` mixes, the mean over folds."""

    kind: Literal["synthetic_windows"] = "synthetic_windows"

    @classmethod
    def title(cls, fields: Mapping[str, Any]) -> str:
        return "synthetic_" + "".join(_measure(fields))


@register("estimator")
class SoundscapeWindows(MeasureSpec):
    """The windows of the soundscapes that `evaluate.soundscapes` names, the mean over folds."""

    kind: Literal["soundscape_windows"] = "soundscape_windows"

    @classmethod
    def title(cls, fields: Mapping[str, Any]) -> str:
        return "soundscapes_" + "".join(_measure(fields))


STANDARD: tuple[EstimatorSpec, ...] = (
    PaddedCmap(name="padded_cmap", pad=1),
    PaddedCmap(name="padded_cmap", pad=20),
    Pooled(name="pooled", pad=1),
    Pooled(name="pooled", metric="macro_auc"),
    OneFold(name="one_fold"),
    MeanMinusSd(name="mean_minus_sd"),
    NewRecordists(name="new_recordists"),
    NewSites(name="new_sites"),
)
"""What every run gets unless its spec declares others, beside ALWAYS."""

ALWAYS: dict[str, EstimatorSpec] = {
    estimator.name: estimator
    for estimator in (
        PaddedCmap(name="padded_cmap"),
        MacroAuc(name="macro_auc"),
        Pooled(name="pooled"),
        SoundscapeWindows(name="soundscape_windows"),
        SoundscapeWindows(name="soundscape_windows", metric="macro_auc"),
        SyntheticWindows(name="synthetic_windows"),
        SyntheticWindows(name="synthetic_windows", metric="macro_auc"),
    )
}
"""The estimators that every run has: their names mean nothing else."""

TAKEN = frozenset(
    (
        *("run", "name", "fold", "seed", "cell_id", "eval_id", "device", "seconds", "chosen"),
        *("metric", "n_rows", "n_classes", "floor", "top1", "loss", "lr"),
        *("cmap_gt5", "padded_cmap_5"),
    )
)
"""Names that mean something else, in tables or elsewhere in the field."""


def find_clash(estimators: Iterable[EstimatorSpec]) -> str:
    """Why the name of one of the estimators cannot be its score's, in words; "" where all can."""
    for estimator in estimators:
        name = estimator.name
        own = type(estimator).title(dict(estimator))
        always = name in ALWAYS and ALWAYS[name] != estimator
        elsewhere = name in TAKEN or name.endswith(("_sd", "_apart"))
        meant = name == "cmap_min5" or name.startswith(("soundscapes_", "synthetic_"))
        if always or elsewhere or (meant and name != own):
            return f"{name!r} is the name of another score: call the estimator otherwise"
    return ""
