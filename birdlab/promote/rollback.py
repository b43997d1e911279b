"""Back to the model that was in service before."""

from __future__ import annotations

from birdlab.errors import PromotionError
from birdlab.infer.models import CARD_FILE, MODEL_FILE, load_aliases
from birdlab.lab import Lab
from birdlab.promote.aliases import Tell, move_alias
from birdlab.promote.history import AliasMove, models_before


def roll_back(
    lab: Lab, alias: str = "champion", *, why: str = "", tell: Tell = lambda _: None
) -> AliasMove:
    """Move an alias back to the model that it was at before, in the lab and in MLflow.

    Models whose files are gone are passed over, which is told. Where MLflow cannot be reached the
    lab goes ahead and MLflow follows. Raises PromotionError where nothing was there before.
    """
    current = load_aliases(lab.models).get(alias)
    if current is None:
        known = ", ".join(f"@{name}" for name in load_aliases(lab.models))
        raise PromotionError(
            f"no model is in service as @{alias}", expected=known or "birdlab promote RUN"
        )
    before = models_before(lab, alias, current)
    for name in before:
        folder = lab.models / name
        if (folder / MODEL_FILE).is_file() and (folder / CARD_FILE).is_file():
            return move_alias(
                lab, alias, name, why=why, kind="rollback", without_mlflow=True, tell=tell
            )
        tell(f"{name} is passed over: its files are gone.")
    raise PromotionError(
        f"there is no model that was @{alias} before {current}",
        got=f"{len(before)} in the history, none with its files" if before else None,
        fix=f"choose one: birdlab models alias NAME {alias}; `birdlab models` lists all",
    )
