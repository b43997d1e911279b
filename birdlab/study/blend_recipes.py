"""How submissions of several runs are blended: what the ledger and promoted models say of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from birdlab.errors import BirdlabError, DataError
from birdlab.evaluate.blends import Blend
from birdlab.infer.models import PromotedModel


@dataclass(frozen=True)
class Recipe:
    """How runs are blended: the way, and a share per run, which sum to 1.

    run: the id of the blend, made of all that decides its predictions; assumed: nothing says how
    it was blended, so it is taken as the mean of equal shares.
    """

    name: str
    members: tuple[str, ...]
    shares: tuple[float, ...]
    blend: Blend
    assumed: bool = field(default=False, compare=False)

    @property
    def run(self) -> str:
        """The id of the blend: equal for equal members, shares and way, in any order."""
        told = sorted(zip(self.members, (f"{share:.9f}" for share in self.shares), strict=True))
        text = json.dumps([str(self.blend), told])
        return f"blend-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def list_recipes(
    ledger: pd.DataFrame, models: Mapping[str, PromotedModel]
) -> tuple[list[Recipe], dict[Any, str], list[str]]:
    """The blends, those of the newest submissions first and each once; the blend of each row of
    the ledger; and what is left out."""
    found: dict[str, Recipe] = {}
    of_row: dict[Any, str] = {}
    left_out = []
    several = ledger[ledger["members"].map(len) > 1] if len(ledger) else ledger
    for place, row in several[::-1].iterrows():
        try:
            recipe = _read_row(row, models)
        except BirdlabError as error:
            left_out.append(word_blend_error(str(row["name"]), error))
            continue
        of_row[place] = recipe.run
        found.setdefault(recipe.run, recipe)
    for model in models.values():
        if len(model.runs) > 1:
            try:
                recipe = read_card(model)
            except BirdlabError as error:
                left_out.append(word_blend_error(model.name, error))
                continue
            found.setdefault(recipe.run, recipe)
    return list(found.values()), of_row, left_out


def _read_row(row: pd.Series, models: Mapping[str, PromotedModel]) -> Recipe:
    """How the submission of a row of the ledger was blended."""
    members, bundle = tuple(map(str, row["members"])), str(row["bundle"] or "")
    if not bundle:
        shares = (1 / len(members),) * len(members)
        return Recipe(str(row["name"]), members, shares, Blend(), assumed=True)
    if bundle not in models:
        raise DataError(
            "its promoted model is not in this lab, so the shares of its members are not known",
            got=bundle,
            fix="enter it again without --bundle to take equal shares",
        )
    recipe = read_card(models[bundle])
    if set(recipe.members) != set(members):
        raise DataError(
            "its promoted model is made of other runs",
            got=bundle,
            fix="enter it again with the bundle that was submitted, or without --bundle",
        )
    return replace(recipe, name=str(row["name"]))


def read_card(model: PromotedModel) -> Recipe:
    """How a promoted model blends its runs; DataError where its card does not say."""
    said, n = model.card.get("blending"), len(model.runs)
    try:
        if not isinstance(said, Mapping):
            raise TypeError("there is no blending in it")
        shares = [1.0] * n if said["shares"] is None else [float(w) for w in said["shares"]]
        if len(shares) != n or min(shares) < 0 or not 0 < sum(shares) < float("inf"):
            raise ValueError(f"shares {shares} of {n} runs")
        blend = Blend(said["kind"], float(said["power"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            "the card of a promoted model does not say how its runs are blended",
            where=model.name,
            got=str(error),
            fix="promote its runs again",
        ) from None
    return Recipe(model.name, model.runs, tuple(w / sum(shares) for w in shares), blend)


def word_blend_error(name: str, error: BirdlabError) -> str:
    """Why the blend of this name is left out, in a sentence."""
    got = f": {error.got}" if error.got is not None else ""
    fix = f" ({error.fix})" if error.fix else ""
    return f"{name}, a blend: {error.what}{got}{fix}."
