"""Ablations of what others reported, written for an experiment and data sets of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field

from birdlab.errors import SpecError
from birdlab.presets.writing import flow_text, spread
from birdlab.spec.base import Spec, Tuple
from birdlab.spec.delta import get_field
from birdlab.spec.experiment import ExperimentSpec, build_spec, load_document
from birdlab.spec.identity import canonical_json
from birdlab.spec.kinds import nearest
from birdlab.spec.named import unfold
from birdlab.spec.problems import validate
from birdlab.spec.sweep import BASE
from birdlab.spec.yamlfile import Document, load_yaml

ABLATIONS: Mapping[str, tuple[str, ...]] = {
    "reference": ("reference_kept", "reference_dropped"),
    "winners": ("winners",),
}
"""What may be asked for, and the presets of which each is made."""

NEEDS: Mapping[str, str] = {
    "pretrain": "--pretrain NAME, a data set to train on first",
    "extra": "--extra NAME, more recordings of the scored species",
    "environment": "--environment NAME, recordings of everyday noise",
    "unlabelled": "--unlabelled NAME, soundscapes that nobody labelled",
    "teacher": "--teacher MODEL, a promoted model or an entry of [teachers]",
}
"""Names that an arm may need and a base does not say, with the option that gives each."""

_DEMO = {
    "pretrain": "demo-abroad",
    "extra": "demo-phones",
    "environment": "demo-environment",
    "unlabelled": "demo-unlabelled",
}


class SettingSpec(Spec):
    """Changes that all arms of a preset have alike; left out where a name they need is lacking."""

    change: dict[str, Any]


class ChoiceSpec(Spec):
    """One arm: its title, what is expected of it, its changes with `$name` where yours go."""

    name: str
    told: str
    change: dict[str, Any]


class PresetSpec(Spec):
    """An ablation of what somebody reported.

    `title` is the question it answers, `line` what it is in one line, `control` the arm that the
    others are compared with, `set` what all arms have alike. `$again` as a key stands for the
    fields of the base's last stage.
    """

    title: str
    line: str
    control: str
    expect: str
    set: Tuple[SettingSpec] = ()
    arms: Tuple[ChoiceSpec] = Field(min_length=2)


@dataclass(frozen=True)
class Ablation:
    """A sweep file that is written but not yet on disk: its text, its arms, those left out."""

    text: str
    arms: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)


def list_ablations() -> dict[str, str]:
    """What `birdlab new ablation` can write, each with what it is in one line."""
    return {
        name: "; ".join(load_preset(part).line for part in parts)
        for name, parts in ABLATIONS.items()
    }


def presets_of(name: str) -> tuple[str, ...]:
    """The presets of an ablation; SpecError for a name that is none."""
    if name not in ABLATIONS:
        raise SpecError(f"there is no ablation {name!r}", expected=nearest(name, list(ABLATIONS)))
    return ABLATIONS[name]


def load_preset(name: str) -> PresetSpec:
    """A preset that comes with birdlab."""
    document = load_yaml(Path(str(files("birdlab.presets"))) / f"{name}.yaml")
    return validate(PresetSpec, document.data, document)


def write_ablation(
    preset: PresetSpec, name: str, base: Path, shown: str, given: Mapping[str, str]
) -> Ablation:
    """The sweep of a preset over the experiment in `base`, which the sweep file calls `shown`.

    `given` are names for NEEDS. An arm that needs another one, that does not hold for this base,
    or that is the same experiment as one before, is written as a comment with the reason. Raises
    SpecError where the base does not hold, or no two arms are left.
    """
    document = load_document(base)
    names = gather_names(build_spec(document), document, given)
    common: dict[str, Any] = {}
    lines: list[str] = []
    for setting in preset.set:
        change, lacking = fill(setting.change, names)
        if lacking:
            lines.append(f"  # without {flow_text(setting.change)}: give {_wants(lacking)}")
        else:
            common |= change
            lines += spread(change, "  ")
    arms, left_out, written = _write_arms(preset, document, common, names)
    if len(arms) < 2 or preset.control not in arms:
        raise SpecError(
            "too little is left of this ablation for the base",
            where=str(base),
            got="; ".join(f"{arm}: {why}" for arm, why in left_out.items()),
            fix="give a base that the arms can change, or what they lack",
        )
    head = [
        f"# {preset.title}",
        f"# birdlab sweep experiments/{name}.yaml | {len(arms)} arms",
        "# --dry-run says what they take. Above each arm stands what it is or is expected to give;",
        "# `reported` is what was published. Arms in comments do not hold for this base, or lack a",
        "# name; the reason stands below them.",
        f"base: {shown}",
        f"name: {name}",
        *(["set:", *lines] if common else lines),
        "grid:",
        "  choice:",
        *written,
        f"control: {preset.control}",
        f"expect: {flow_text(preset.expect)}",
    ]
    return Ablation("\n".join(head) + "\n", tuple(arms), left_out)


def gather_names(
    spec: ExperimentSpec, document: Document, given: Mapping[str, str]
) -> dict[str, Any]:
    """The values that `$name` stands for, by name: those given, and those that the base says."""
    last, train, window_s = spec.stages[-1], spec.stages[-1].train, spec.competition.window_s
    lr = float(getattr(train.optimizer, "lr", 1e-3))
    n_mels = int(getattr(spec.model.frontend, "n_mels", 128))
    hop = int(getattr(spec.model.frontend, "hop", 512))
    before = [stage.data for stage in spec.stages if stage.data is not None]
    length = train.length.model_dump(exclude_none=True)
    raw = get_field(document.data, f"stages.{last.name}") or {}
    said = unfold({last.name: raw}, None)
    names: dict[str, Any] = {
        "noise": spec.data.base,
        "last": last.name,
        "again": {key: value for key, value in said.items() if key != "name"},
        "lr_third": _round(lr / 3),
        "lr_tenth": _round(lr / 10),
        "third_length": {unit: max(1, n // 3) for unit, n in length.items()},
        "n_mels": n_mels,
        "hop": hop,
        "mask_bins": max(1, round(10 * n_mels / 128)),
        "mask_frames": max(1, round(20 * 512 / hop)),
        "half_window_s": window_s / 2,
        "half_clip_s": train.window_s / 2,
        "long_window_s": 2 * train.window_s,
        "context_s": 3 * window_s,
        **({"pretrain": before[0]} if before else {}),
        **(_DEMO if spec.data.base == "demo" else {}),
    }
    return names | dict(given)


def _round(value: float) -> float:
    return float(f"{value:.3g}")


def fill(value: Any, names: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """`value` with every `$name` replaced, and the names that are lacking, each once."""
    lacking: list[str] = []
    return _fill(value, names, lacking), list(dict.fromkeys(lacking))


def _fill(value: Any, names: Mapping[str, Any], lacking: list[str]) -> Any:
    if isinstance(value, Mapping):
        out: dict[str, Any] = {}
        for key, item in value.items():
            if key == "$again":
                out |= names["again"]
                continue
            parts = [str(_fill(part, names, lacking)) for part in str(key).split(".")]
            out[".".join(parts)] = _fill(item, names, lacking)
        return out
    if isinstance(value, list):
        return [_fill(item, names, lacking) for item in value]
    if isinstance(value, str) and value.startswith("$"):
        if value[1:] in names:
            return names[value[1:]]
        lacking.append(value[1:])
    return value


def _wants(lacking: Sequence[str]) -> str:
    return " and ".join(NEEDS[name] for name in lacking)


def _write_arms(
    preset: PresetSpec, document: Document, common: Mapping[str, Any], names: Mapping[str, Any]
) -> tuple[list[str], dict[str, str], list[str]]:
    """The titles of the arms that hold, why the others do not, and the lines of both."""
    seen: dict[str, str] = {}
    left_out: dict[str, str] = {}
    lines: list[str] = []
    for arm in preset.arms:
        change, lacking = fill(arm.change, names)
        why = f"give {_wants(lacking)}" if lacking else _fault(document, common, change, seen, arm)
        lines.append(f"    # {arm.told}")
        if why is None:
            lines += spread({arm.name: change}, "    ")
            continue
        left_out[arm.name] = why
        lines += [f"    # {line}" for line in spread({arm.name: arm.change}, "")]
        lines.append(f"    #   not here: {why}")
    return list(seen.values()), left_out, lines


def _fault(
    document: Document,
    common: Mapping[str, Any],
    change: Mapping[str, Any],
    seen: dict[str, str],
    arm: ChoiceSpec,
) -> str | None:
    """Why an arm cannot be one of this base; None where it can, which is then `seen`."""
    try:
        spec = build_spec(Document(document.data), common, change)
    except SpecError as error:
        lines = str(error.what).splitlines()
        said = [line.strip().removeprefix("spec: ").removeprefix("spec: ") for line in lines]
        return "; ".join(said[1:] or said)[:300]
    key = canonical_json(spec)
    if key in seen:
        return f"the same as {'your base' if seen[key] == BASE else repr(seen[key])}"
    seen[key] = arm.name
    return None
