"""Steps as they are written down, made into what `postprocess.apply_steps` takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from birdlab.errors import SpecError
from birdlab.evaluate.postprocess import add_kind, check_overlap
from birdlab.evaluate.poststeps import Floats, Windows
from birdlab.spec.base import canonical
from birdlab.spec.kinds import function_of, kind_of, kinds
from birdlab.spec.postprocess import PostStep, parse_chain, read_chain

FAMILY = "postprocess"


def load_steps(path: Path) -> tuple[PostStep, ...]:
    """The steps in a YAML or JSON file; SpecError as `read_chain`, and for a kind with no function.

    Kinds of extensions that are loaded can be applied in this process from then on.
    """
    return _known(read_chain(path).steps)


def parse_steps(texts: Sequence[str]) -> tuple[PostStep, ...]:
    """The steps as typed behind `--step`, else as `load_steps`."""
    return _known(parse_chain(list(texts)).steps)


def to_mappings(steps: Sequence[PostStep]) -> list[dict[str, Any]]:
    """The steps as plain data with all their fields, which is what infer and JSON have."""
    return [_mapping(step) for step in steps]


def applicable_mappings(steps: Sequence[PostStep]) -> list[dict[str, Any]]:
    """The same, of steps that this process can apply from then on, those of extensions too."""
    return to_mappings(_known(tuple(steps)))


def portable_mappings(steps: Sequence[PostStep], *, overlap: bool = False) -> list[dict[str, Any]]:
    """The same, for what leaves the lab; SpecError for a kind of an extension, which stays there.

    A promoted model holds no code of the lab, so that it could not apply such a step. Without
    `overlap` of windows `shift_average` is refused too.
    """
    check_overlap(to_mappings(steps), overlap=overlap)
    own = [step for step in steps if kind_of(step).source_hash is not None]
    if own:
        raise SpecError(
            f"the step {own[0].name!r} is of a kind that only this lab knows",
            got=own[0].kind,
            expected=", ".join(n for n, k in kinds(FAMILY).items() if k.source_hash is None),
            fix="promote with --post none and apply it in the lab: birdlab predict --post FILE",
        )
    return to_mappings(steps)


def steps_text(steps: Sequence[PostStep]) -> str:
    """The JSON list that `load_steps` and `birdlab predict --post` read from a `.json` file."""
    return json.dumps(to_mappings(steps), indent=1) + "\n"


def title_of(step: PostStep) -> str:
    """A step as it is typed behind `--step`: its kind, and the fields that are no defaults."""
    fields = type(step).model_fields
    told = [
        f"{name}={json.dumps(value).replace(' ', '')}"
        for name, value in _mapping(step).items()
        if name != "kind" and value != canonical(fields[name].default)
    ]
    numbered = step.name.removeprefix(step.kind).removeprefix("_")
    name = step.kind if not numbered or numbered.isdigit() else f"{step.name}={step.kind}"
    return f"{name}:{','.join(told)}" if told else name


def _mapping(step: PostStep) -> dict[str, Any]:
    fields = canonical(step)
    del fields["name"]
    species = fields.pop("species")
    return {**fields, "species": species} if species else dict(fields)


def _known(steps: tuple[PostStep, ...]) -> tuple[PostStep, ...]:
    for step in steps:
        kind = kind_of(step)
        if kind.source_hash is not None:
            fields = [n for n in type(step).model_fields if n not in ("name", "kind", "species")]
            add_kind(kind.name, _from_mapping(type(step)), fields)
    return steps


def _from_mapping(cls: type[PostStep]) -> Callable[..., Floats]:
    """The function of a class of steps, called with its fields one by one."""

    def change(probs: Floats, windows: Windows, **fields: Any) -> Floats:
        step = cls.model_validate_json(json.dumps({"name": "step", **fields}))
        changed: Floats = function_of(step)(step, probs, windows)
        return changed

    return change
