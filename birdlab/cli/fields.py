"""The dotted fields of an experiment, as `--set` and `--grid` take them."""

from __future__ import annotations

FIELDS_FILE = "fields.txt"
"""Beside this module: the fields one a line. Shells complete from it, since to import the models
takes longer than a person waits for a completion."""

PLACES = {
    "model.frontend": "frontend",
    "model.head": "head",
    "augment": "augmentation",
    "train.loss": "loss",
    "train.sampler": "sampler",
    "train.optimizer": "optimizer",
    "train.schedule": "schedule",
    "data.folds": "folds",
}
"""Where the kinds of which family stand; those of `augment` by name."""


def fields_text() -> str:
    """Every dotted field of birdlab's own models and kinds, sorted, one a line."""
    from birdlab.spec.kinds import built_in_kinds
    from birdlab.spec.reference import EXPERIMENT

    found = set[str]()
    for title, cls in EXPERIMENT:
        if title == "An experiment":
            found |= set(cls.model_fields)
        elif title.split(".")[0] in found and "NAME" not in title:
            found |= {f"{title}.{name}" for name in cls.model_fields}
    for place, family in PLACES.items():
        for name, kind in built_in_kinds(family).items():
            own = f"{place}.{name}" if place == "augment" else place
            found |= {own, *(f"{own}.{field}" for field in kind.cls.model_fields)}
    return "\n".join(sorted(found)) + "\n"
