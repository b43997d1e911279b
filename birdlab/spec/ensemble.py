"""An ensemble as data: which runs, how they are blended, with which weights, in which variants."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from birdlab.spec.base import Name, Spec, Tuple
from birdlab.spec.problems import validate
from birdlab.spec.yamlfile import load_yaml

BLEND = re.compile(r"mean|geometric|rank|power(:[0-9]{1,3}(\.[0-9]{1,6})?)?")
"""`power:2` is the power mean of exponent 2, and so is `power`."""


def _check_blend(text: str) -> str:
    if not BLEND.fullmatch(text) or float(text.partition(":")[2] or 1) == 0:
        raise ValueError(f"got {text!r}; write mean, geometric, rank, or power:2")
    return text


BlendText = Annotated[str, AfterValidator(_check_blend)]
Share = Annotated[float, Field(ge=0.0, strict=False)]


class EnsembleSpec(Spec):
    """What `birdlab promote FILE` makes one model of."""

    name: Name
    """What the model is called; the name of the file unless said."""
    members: Annotated[Tuple[str], Field(min_length=1, max_length=50)]
    """The runs, as every command takes them: RUN."""
    blend: BlendText = "mean"
    """How probabilities are blended: mean, geometric, rank, or power:2, the power mean of exponent
    2. Source: first place of BirdCLEF 2023 for power:2."""
    shares: Literal["equal", "fitted"] | Tuple[Share] = "equal"
    """One number per member, which need not sum to 1, or how they are found. Unit: weight."""
    weights: Literal["full", "folds", "averaged"] = "full"
    """Which models speak for a run: one trained on all data, those of the folds, or one averaged
    checkpoint. Source: first place of BirdCLEF 2023 for `full`."""
    variants: Tuple[Name] = ()
    """Forms of the model that are made beside the plain one, such as `int8`."""
    alias: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")] = "champion"
    """The alias that the promoted version gets in the registry."""
    notes: str = ""
    """Words beside the model."""

    @model_validator(mode="after")
    def _shares_fit(self) -> EnsembleSpec:
        if len(set(self.members)) < len(self.members):
            raise ValueError("a run is named twice among the members")
        if isinstance(self.shares, str):
            return self
        if len(self.shares) != len(self.members):
            raise ValueError(
                f"shares: {len(self.shares)} numbers for {len(self.members)} members; write one "
                "each, or equal, or fitted"
            )
        if sum(self.shares) <= 0:
            raise ValueError("shares: at least one is above 0")
        return self


def load_ensemble(path: str | Path) -> EnsembleSpec:
    """The ensemble in a YAML file, named after it unless it says otherwise.

    Raises SpecError that lists everything wrong, each with file, line and field.
    """
    document = load_yaml(Path(path))
    raw = {"name": Path(path).stem, **document.data}
    return validate(EnsembleSpec, raw, document)
