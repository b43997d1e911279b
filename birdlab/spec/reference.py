"""The reference of specs and of the lab file as Markdown: a table of fields for every model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from birdlab.spec.base import Spec
from birdlab.spec.bets import BetSpec
from birdlab.spec.competition import PROFILES, CompetitionSpec
from birdlab.spec.data import DataSpec
from birdlab.spec.ensemble import EnsembleSpec
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.kinds import FAMILIES, built_in_kinds
from birdlab.spec.meanings import OWN, class_meaning, meaning_of
from birdlab.spec.model import ModelSpec
from birdlab.spec.parts import CellsSpec, EvaluateSpec, OutputSpec, StageSpec
from birdlab.spec.postprocess import PostChain
from birdlab.spec.recipe import Average, Length, TrainSpec
from birdlab.spec.schema import SchemaBuilder
from birdlab.spec.searches import OptunaSpec, RaceSpec, RandomSpec, ThenSpec
from birdlab.spec.space import Axis, Range
from birdlab.spec.sweep import SweepSpec
from birdlab.spec.synthetic import SyntheticSpec
from birdlab.spec.teaching import (
    DistillSpec,
    PseudoSpec,
    RoundsSpec,
    SoupSpec,
    TeacherFile,
    TeacherSpec,
)

Section = tuple[str, type[Spec]]

EXPERIMENT: tuple[Section, ...] = (
    ("An experiment", ExperimentSpec),
    ("competition", CompetitionSpec),
    ("data", DataSpec),
    ("model", ModelSpec),
    ("train", TrainSpec),
    ("train.length", Length),
    ("train.average", Average),
    ("stages", StageSpec),
    ("stages.NAME.pseudo", PseudoSpec),
    ("stages.NAME.distill", DistillSpec),
    ("teacher", TeacherSpec),
    ("stages.NAME.soup", SoupSpec),
    ("rounds", RoundsSpec),
    ("output", OutputSpec),
    ("evaluate", EvaluateSpec),
    ("evaluate.synthetic", SyntheticSpec),
    ("cells", CellsSpec),
)
SWEEP: tuple[Section, ...] = (
    ("A sweep", SweepSpec),
    ("grid.NAME", Axis),
    ("random", RandomSpec),
    ("optuna", OptunaSpec),
    ("space.NAME", Range),
    ("race", RaceSpec),
    ("then", ThenSpec),
    ("expect", BetSpec),
)
OTHERS: tuple[Section, ...] = (("An ensemble", EnsembleSpec), ("A file of steps", PostChain))
PLACES = {
    "frontend": "`model.frontend`",
    "backbone": "`model.backbone`, in place of the name of a timm network",
    "head": "`model.head`",
    "augmentation": "the list `augment`, of an experiment or of a stage",
    "loss": "`train.loss`",
    "sampler": "`train.sampler`",
    "optimizer": "`train.optimizer`",
    "schedule": "`train.schedule`",
    "clean": "the list `data.clean`",
    "folds": "`data.folds`",
    "estimator": "the list `evaluate.estimators`",
    "postprocess": "the list `postprocess`, of an experiment or of a file of steps",
}
"""Where the kinds of a family go in an experiment."""

_MADE = "<!-- Made by docs/generate.py from the code: change the docstrings there. -->\n"
_SPEC_HEAD = f"""\
# Fields of spec files

{_MADE}
What a YAML file below `experiments/` may say. A field is changed by its dotted name, such as
`--set train.optimizer.lr=3e-4`, and in an arm of a sweep. The source says where a field or its
default comes from; `{OWN}` is a choice of this project. How the parts fit together is told in
[recipe.md](../recipe.md) and [sweeps.md](../sweeps.md), what a lab file says in [lab.md](lab.md).
`birdlab schema` prints the same as JSON Schema, with the kinds of your extensions, and editors
complete and check files by it ([editors.md](../editors.md)).

"""
_LAB_HEAD = f"""\
# Fields of the lab file

{_MADE}
What `birdlab.toml` may say, and `birdlab.local.toml` beside it, which overrides it on one machine.
How a lab is used from day to day is told in [lab.md](../lab.md), data sets in
[data.md](../data.md).

"""
_COLUMNS = "| field | type | unit | default | meaning | source |\n|---|---|---|---|---|---|\n"


def spec_page() -> str:
    """Every field of spec files: experiments with all built-in kinds, sweeps, ensembles, steps."""
    families = [family for family in FAMILIES if family in PLACES]
    parts = [
        _SPEC_HEAD,
        _index(EXPERIMENT, families, SWEEP + OTHERS),
        *(_section(title, cls, 2) for title, cls in EXPERIMENT),
        _profiles(),
        *(_family(family) for family in families),
        *(_section(title, cls, 2) for title, cls in SWEEP + OTHERS),
    ]
    return "".join(parts).rstrip() + "\n"


def lab_page(sections: Sequence[Section]) -> str:
    """Every field of the lab file: the models of it that a caller gives, and the sources."""
    shown: tuple[Section, ...] = (*sections, ("teachers.NAME", TeacherFile))
    parts = [
        _LAB_HEAD,
        _links([title for title, _ in shown]) + "\n",
        "- Data sets, `data.NAME`: " + _kind_links("source") + "\n\n",
        *(_section(title, cls, 2) for title, cls in shown),
        "## source\n\nA data set of `[data]`: a path alone, or a table with the fields of one of "
        "these kinds. Without `kind` it is `auto`.\n\n",
        *(
            _section(f"source: {name}", kind.cls, 3)
            for name, kind in built_in_kinds("source").items()
        ),
    ]
    return "".join(parts).rstrip() + "\n"


def _index(before: Sequence[Section], families: Sequence[str], after: Sequence[Section]) -> str:
    lines = [
        _links([title for title, _ in before]),
        *(f"- {_to(f)}: {_kind_links(f)}\n" for f in families),
    ]
    return "".join([*lines, _links([title for title, _ in after]), "\n"])


def _links(titles: Iterable[str]) -> str:
    return "- " + ", ".join(map(_to, titles)) + "\n"


def _kind_links(family: str) -> str:
    return ", ".join(_to(f"{family}: {name}", name) for name in built_in_kinds(family))


def _to(title: str, shown: str = "") -> str:
    anchor = "".join(c for c in title.lower() if c.isalnum() or c in " _-").replace(" ", "-")
    return f"[{shown or title}](#{anchor})"


def _family(family: str) -> str:
    head = f"## {family}\n\nGoes into {PLACES[family]}.\n\n"
    return head + "".join(
        _section(f"{family}: {n}", kind.cls, 3) for n, kind in built_in_kinds(family).items()
    )


def _section(title: str, cls: type[Spec], level: int) -> str:
    """A heading, what the model is, and the table of its fields."""
    meaning = class_meaning(cls)
    text = meaning.text
    if meaning.source and meaning.source != OWN:
        text += f"\n\nSource: {meaning.source}."
    rows = "".join(_row(cls, name) for name in cls.model_fields if name != "kind")
    table = _COLUMNS + rows + "\n" if rows else ""
    return f"{'#' * level} {title}\n\n{text}\n\n{table}"


def _row(cls: type[Spec], name: str) -> str:
    meaning, info = meaning_of(cls, name), cls.model_fields[name]
    builder = SchemaBuilder(built_in_kinds)
    schema = builder.field(cls, name)
    default = "required" if info.is_required() else _default(schema)
    main = " (a plain value means it)" if name == getattr(cls, "main_field", None) else ""
    cells = (f"`{name}`", words_of(schema), meaning.unit, default, meaning.text + main)
    return "| " + " | ".join(_cell(cell) for cell in (*cells, meaning.source or OWN)) + " |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _default(schema: dict[str, Any]) -> str:
    if "default" not in schema:
        return "empty"
    value = schema["default"]
    if value in ([], {}, ""):
        return "empty"
    if value is None:
        return "none"
    if isinstance(value, dict):
        return f"`{value['kind']}`" if "kind" in value else "its own defaults"
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        return "`" + ", ".join(str(item.get("name")) for item in value) + "`"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def words_of(schema: dict[str, Any]) -> str:
    """A JSON Schema in words: `number above 0`, `fp32, bf16 or fp16`, `list of text`."""
    if "anyOf" in schema:
        forms = dict.fromkeys(words_of(one) for one in schema["anyOf"])
        return " or ".join(form for form in forms if form)
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"a {name.split('.')[0]}" if name.split(".")[0] in FAMILIES else "fields"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return ("whole number" if kind == "integer" else "number") + _range(schema)
    if kind == "array":
        return _list_words(schema)
    if kind == "object":
        inner = schema.get("additionalProperties")
        return "names with " + words_of(inner) if inner else "names with values"
    return {"string": "text", "boolean": "true or false", "null": "null"}.get(
        str(kind), "any value"
    )


def _list_words(schema: dict[str, Any]) -> str:
    if "prefixItems" in schema:
        return "[" + ", ".join(words_of(one) for one in schema["prefixItems"]) + "]"
    if "if" in schema["items"]:
        return "list of named items"
    return "list of " + words_of(schema["items"])


def _range(schema: dict[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    parts = [
        *([f"{low:g} or more"] if low is not None else []),
        *([f"above {above:g}"] if above is not None else []),
        *([f"up to {high:g}"] if high is not None else []),
        *([f"below {below:g}"] if below is not None else []),
    ]
    return ", " + ", ".join(parts) if parts else ""


def _profiles() -> str:
    """The competitions that are known by name."""
    fields = [name for name in CompetitionSpec.model_fields if name != "name"]
    head = "| " + " | ".join(["name", *fields]) + " |\n" + "|---" * (len(fields) + 1) + "|\n"
    rows = "".join(
        f"| `{name}` | " + " | ".join(_value(getattr(profile, f)) for f in fields) + " |\n"
        for name, profile in PROFILES.items()
    )
    return f"### Known competitions\n\n`competition: NAME` takes one of these.\n\n{head}{rows}\n"


def _value(value: object) -> str:
    if value is None:
        return "any"
    return f"{value:g}" if isinstance(value, float) else str(value)
