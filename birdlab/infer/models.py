"""The folder of promoted models: `<model>/model.onnx`, `<model>/card.json`, `aliases.json`."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdlab.errors import PredictError
from birdlab.infer.jsontext import parse_json

MODEL_FILE, CARD_FILE, ALIASES_FILE = "model.onnx", "card.json", "aliases.json"
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def load_aliases(models: Path) -> dict[str, str]:
    """Alias → model name; empty when nothing was promoted. PredictError for a broken file."""
    path = models / ALIASES_FILE
    if not path.is_file():
        return {}
    try:
        aliases = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PredictError(
            "the aliases cannot be read",
            where=str(path),
            got=error,
            expected="the aliases.json that `birdlab promote` wrote",
        ) from None
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
    """A model of the folder: the runs it is made of, and `name/version` in the registry or "".

    folder: where its files lie; card: all that its `card.json` says.
    """

    name: str
    runs: tuple[str, ...]
    version: str
    folder: Path = field(default=Path(), compare=False)
    card: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def path(self) -> Path:
        """Its ONNX file, which may be gone."""
        return self.folder / MODEL_FILE


def list_models(models: Path) -> list[PromotedModel]:
    """All promoted models by name; PredictError for a card that cannot be read."""
    return [load_promoted(models, name) for name in _names(models, CARD_FILE)]


def load_promoted(models: Path, name: str) -> PromotedModel:
    """The promoted model of that very name; PredictError where its card cannot be read."""
    path = models / name / CARD_FILE
    try:
        card = parse_json(path.read_text(encoding="utf-8"))
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
    registered = f"{registered}/{version}".strip("/")
    return PromotedModel(name, runs, registered, path.parent, card)


def find_promoted(models: Path, model: str) -> PromotedModel:
    """The promoted model that `@alias`, its name, the start of it or `name/version` means.

    Raises PredictError that lists what there is.
    """
    return load_promoted(models, find_name(models, model, CARD_FILE))


def find_model(models: Path, model: str = "@champion") -> Path:
    """The ONNX file that `model` means: a path to one, or a promoted model as in find_promoted.

    Raises PredictError that lists what there is.
    """
    if model.endswith(".onnx"):
        return Path(model)
    return models / find_name(models, model, MODEL_FILE) / MODEL_FILE


def find_name(models: Path, model: str, file: str = CARD_FILE) -> str:
    """The name of the one promoted model with that file that `model` means, as in find_promoted."""
    aliases, names = load_aliases(models), _names(models, file)
    if model.startswith("@"):
        fitting = [name for name in names if name == aliases.get(model[1:])]
    elif "/" in model:
        fitting = [m.name for m in list_models(models) if m.version == model and m.name in names]
    else:
        starts = [name for name in names if model and name.startswith(model)]
        fitting = [model] if model in names else starts
    if len(fitting) == 1:
        return fitting[0]
    known = fitting or [*(f"@{alias}" for alias in aliases), *names]
    raise PredictError(
        f"{model!r} names {len(fitting)} promoted models"
        if fitting
        else f"{model!r} names no promoted model",
        where=str(models),
        expected=f"a path to an ONNX file, or one of {', '.join(known) or '(none yet)'}",
        fix="`birdlab models` lists all" if names else "birdlab promote RUN",
    )


def hash_model(path: Path) -> str:
    """The SHA-256 of an ONNX file, followed by the weights beside it if it has such."""
    digest = hashlib.sha256()
    for part in filter(Path.is_file, (path, weights_beside(path))):
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def weights_beside(path: Path) -> Path:
    """Where the weights of an ONNX file lie that is too large for one."""
    return path.with_name(f"{path.name}.data")


def _names(models: Path, file: str) -> list[str]:
    """The names of the models that have this file, sorted."""
    found = (path.parent.name for path in models.glob(f"*/{file}"))
    return sorted(name for name in found if _PLAIN.fullmatch(name))
