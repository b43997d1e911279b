"""The folder of promoted models: `<model>/model.onnx`, `<model>/card.json`, `aliases.json`."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from birdlab.errors import PredictError

MODEL_FILE, CARD_FILE, ALIASES_FILE = "model.onnx", "card.json", "aliases.json"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def load_aliases(models: Path) -> dict[str, str]:
    """Alias → model name; empty when nothing was promoted. PredictError for a broken file."""
    path = models / ALIASES_FILE
    if not path.is_file():
        return {}
    try:
        aliases = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PredictError("the aliases cannot be read", where=str(path), got=error) from None
    if not isinstance(aliases, dict) or not all(
        isinstance(model, str) and _PLAIN.fullmatch(model) for model in aliases.values()
    ):
        raise PredictError(
            "the aliases are not names of models",
            where=str(path),
            got=aliases,
            fix="promote the run again",
        )
    return aliases


@dataclass(frozen=True)
class PromotedModel:
    """A model of the folder: the runs it is made of, and `name/version` in the registry or ""."""

    name: str
    runs: tuple[str, ...]
    version: str


def list_models(models: Path) -> list[PromotedModel]:
    """All promoted models by name; PredictError for a card that cannot be read."""
    found = []
    for path in sorted(models.glob(f"*/{CARD_FILE}")):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            uri, version = card.get("registered") or ("", "")
            registered = uri.removeprefix("models:/").partition("@")[0]
            runs = tuple(str(run) for run in card["spec_ids"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PredictError(
                "the card of a promoted model cannot be read",
                where=str(path),
                got=repr(error),
                fix="promote its runs again, or move its folder away",
            ) from None
        found.append(PromotedModel(path.parent.name, runs, f"{registered}/{version}".strip("/")))
    return found


def find_promoted(models: Path, model: str) -> PromotedModel:
    """The promoted model that `@alias`, its id, the start of it or `name/version` means.

    Raises PredictError that lists what there is.
    """
    known = list_models(models)
    wanted = load_aliases(models).get(model[1:], "") if model.startswith("@") else model
    fitting = [m for m in known if wanted and (m.name.startswith(wanted) or m.version == wanted)]
    if len(fitting) != 1:
        names = ", ".join(m.name for m in fitting or known)
        raise PredictError(
            f"{model!r} names {len(fitting) or 'no'} promoted model{'s' * (len(fitting) != 1)}",
            where=str(models),
            expected=f"one of {names}" if names else "a promoted model; there is none",
            fix="birdlab promote RUN",
        )
    return fitting[0]


def find_model(models: Path, model: str = "@champion") -> Path:
    """The ONNX file that `model` means: a path, the name of a promoted model, or `@alias`.

    Raises PredictError that lists what there is.
    """
    if model.endswith(".onnx"):
        return Path(model)
    aliases = load_aliases(models)
    name = aliases.get(model[1:]) if model.startswith("@") else model
    path = models / name / MODEL_FILE if name and _PLAIN.fullmatch(name) else None
    if path is None or not path.is_file():
        known = [f"@{alias}" for alias in aliases]
        known += sorted(p.parent.name for p in models.glob(f"*/{MODEL_FILE}"))
        raise PredictError(
            f"there is no promoted model {model!r}",
            where=str(models),
            expected=f"a path to an ONNX file, or one of {', '.join(known) or '(none yet)'}",
            fix="birdlab promote RUN",
        )
    return path
