"""The data of an experiment: data sets by name, cleaning rules in order, folds."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import model_validator

from birdlab.spec.base import Name, Spec, Tuple
from birdlab.spec.cleaning import CleanSpec
from birdlab.spec.folds import Stratified
from birdlab.spec.kinds import KindOf
from birdlab.spec.named import NamedList

Leak = Literal["recording_id", "content", "author_species"]
"""What two tables can share: a recording's id, its waveform, a recordist's birds of a species."""


class DataSpec(Spec):
    """Which recordings are used: data sets by name, cleaning rules in order, folds."""

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"soundscapes", "accept_leaks"})

    base: Name
    """The data set that is split into folds and validated on."""
    extra: Tuple[Name] = ()
    """Data sets that join every training fold whole. Source: first place of BirdCLEF 2023."""
    clean: Annotated[tuple[CleanSpec, ...], NamedList("clean")] = ()
    """Cleaning rules, in the order in which they act."""
    folds: Annotated[Spec, KindOf("folds", "stratified")] = Stratified()
    """How the base table is split."""
    on_bad_file: Literal["fail", "skip"] = "fail"
    """What is done with a file that cannot be decoded: `fail` names them all and stops, `skip`
    leaves them out."""
    soundscapes: Tuple[Name] = ()
    """The data sets whose labelled soundscapes `birdlab lb score` uses instead of the base's own.
    """
    accept_leaks: Tuple[Leak | Literal["teacher"]] = ()
    """What a pretraining table may share with validation rows; `teacher` lets models teach that
    were trained on validation rows themselves."""

    @model_validator(mode="after")
    def _each_once(self) -> DataSpec:
        names = [self.base, *self.extra]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the data set {', '.join(twice)} is named twice in base and extra")
        return self
