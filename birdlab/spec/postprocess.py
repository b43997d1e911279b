"""Post-processing as it is written down: kinds of steps, checked, with their defaults.

What they do is in `birdlab.evaluate.poststeps`, where a promoted model finds them without any
spec. A kind of your own is one class here and one function, in an extension:

    @register("postprocess")
    class MinusMedian(PostStep):
        kind: Literal["minus_median"] = "minus_median"

    @implements(MinusMedian)
    def subtract_median(spec, probs, windows): ...
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from birdlab.errors import SpecError
from birdlab.spec.base import Name, Spec, Tuple
from birdlab.spec.kinds import kinds, register
from birdlab.spec.named import NamedList
from birdlab.spec.problems import validate
from birdlab.spec.yamlfile import Document, load_yaml, parse_yaml

Exponent = Annotated[float, Field(ge=0.1, le=10.0)]
Threshold = Annotated[float, Field(ge=0.0, lt=1.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Top = Count | Literal["all"]


class PostStep(Spec):
    """One step on the probabilities of windows; each subclass is one kind.

    `main_field` is what a plain value means.

    Source: birdlab.
    """

    name: Name
    """What the step is called in this list; its kind unless said."""
    kind: str
    """Which step it is; its name unless said."""
    species: Tuple[str] = ()
    """The codes that the step is limited to; empty means all."""
    main_field: ClassVar[str | None] = None


@register("postprocess")
class Smooth(PostStep):
    """The weighted mean of a window and its neighbours."""

    kind: Literal["smooth"] = "smooth"
    weights: Tuple[Annotated[float, Field(ge=0.0)]] = (0.25, 0.5, 0.25)
    """The weights, an odd number; the middle one is that of the window itself. Unit: weight."""
    main_field: ClassVar[str | None] = "weights"

    @field_validator("weights")
    @classmethod
    def _odd(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(value) % 2 == 0 or not 3 <= len(value) <= 121 or not value[len(value) // 2] > 0:
            raise ValueError("should be 3 to 121 weights, an odd number, the middle one above 0")
        return value


@register("postprocess")
class FileScale(PostStep):
    """Times the mean of the file's `top` highest windows of that class, to a power."""

    kind: Literal["file_scale"] = "file_scale"
    top: Top = 1
    """How many of the file's highest windows of that class. Unit: windows."""
    power: Exponent = 1.0
    """The power that their mean is taken to. Unit: exponent."""
    main_field: ClassVar[str | None] = "power"


@register("postprocess")
class Boost(PostStep):
    """Plus `amount` in files whose maximum of that class is above the threshold."""

    kind: Literal["boost"] = "boost"
    amount: Share = 0.1
    """What is added. Unit: probability."""
    threshold: Threshold = 0.5
    """What the maximum of the file is to be above. Unit: probability."""
    main_field: ClassVar[str | None] = "amount"


@register("postprocess")
class LiftRuns(PostStep):
    """Runs of neighbouring windows above the threshold are lifted towards their peak."""

    kind: Literal["lift_runs"] = "lift_runs"
    threshold: Threshold = 0.3
    """What the windows of a run are above. Unit: probability."""
    share: Share = 1.0
    """How far they are lifted: 1 is up to their peak. Unit: share."""
    min_windows: Count = 2
    """The shortest run. Unit: windows."""
    main_field: ClassVar[str | None] = "threshold"


@register("postprocess")
class Power(PostStep):
    """Every probability to the same power: changes values, and the order within no class."""

    kind: Literal["power"] = "power"
    exponent: Exponent = 2.0
    """The power. Unit: exponent."""
    main_field: ClassVar[str | None] = "exponent"


@register("postprocess")
class PowerMean(PostStep):
    """The power mean of a window and of its file's `top` highest windows of that class."""

    kind: Literal["power_mean"] = "power_mean"
    share: Share = 0.5
    """The weight of the file; the rest is that of the window itself. Unit: share."""
    top: Top = 1
    """How many of the file's highest windows of that class. Unit: windows."""
    exponent: Exponent = 2.0
    """Of the power mean. Unit: exponent."""
    main_field: ClassVar[str | None] = "share"


@register("postprocess")
class ShiftAverage(PostStep):
    """The mean over all windows that overlap a window: needs `birdlab predict --hop`."""

    kind: Literal["shift_average"] = "shift_average"
    weights: Literal["overlap", "equal"] = "overlap"
    """By the seconds that a window shares, or all alike."""
    main_field: ClassVar[str | None] = "weights"


@register("postprocess")
class ClipRange(PostStep):
    """Values below or above a range become its ends."""

    kind: Literal["clip_range"] = "clip_range"
    range: Tuple[Annotated[float, Field(ge=0.0, le=1.0)]] = (0.0, 0.99)
    """The range, [low, high]. Unit: probability."""
    main_field: ClassVar[str | None] = "range"

    @field_validator("range")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if len(value) != 2 or not value[0] < value[1]:
            raise ValueError("should be [low, high], 0 <= low < high <= 1")
        return value


class PostChain(Spec):
    """A file of steps, in the order in which they are applied."""

    steps: Annotated[tuple[PostStep, ...], NamedList("postprocess")] = ()
    """The steps, in the order in which they are applied."""


def read_chain(path: Path) -> PostChain:
    """The steps in a YAML file with a list `steps`, or in a JSON list as birdlab writes it.

    Raises SpecError with line, field and the nearest known name for what does not hold.
    """
    if path.suffix.lower() != ".json":
        document = load_yaml(path)
        return validate(PostChain, document.data, document)
    try:
        listed = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SpecError(
            "a file of steps cannot be read",
            where=str(path),
            got=error,
            expected="a YAML or JSON list of steps",
        ) from None
    return chain_of(listed, str(path))


def chain_of(listed: Any, where: str) -> PostChain:
    """The steps of a plain list, as JSON has it; `where` names it in errors."""
    if isinstance(listed, list) and all(isinstance(item, dict) for item in listed):
        listed = [
            {"name": f"{item.get('kind')}_{number}" if number else item.get("kind"), **item}
            for number, item in _number_kinds(listed)
        ]
    raw = {"steps": listed}
    return validate(PostChain, raw, Document(raw, {"": where}))


def _number_kinds(listed: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each item with 0, or its number among those of its kind from the second on."""
    seen: Counter[object] = Counter()
    for item in listed:
        kind = str(item.get("kind"))
        seen[kind] += 1
        yield (seen[kind] if seen[kind] > 1 else 0), item


def parse_chain(texts: list[str]) -> PostChain:
    """The steps as typed: `smooth`, `boost:0.2`, `smooth:weights=[1,2,1],species=[wren]`.

    With a name: `wide=smooth:[1,1,1,1,1]`. Raises SpecError as `read_chain`.
    """
    return chain_of([_parse_step(text) for text in texts], "--step")


def _parse_step(text: str) -> dict[str, Any]:
    head, _, rest = text.partition(":")
    name, _, kind = head.rpartition("=")
    fields: dict[str, Any] = {}
    for part in _split(rest):
        field, equals, value = part.partition("=")
        if not equals:
            field, value = "", part
        known = kinds("postprocess").get(kind)
        main = getattr(known.cls, "main_field", None) if known else None
        field = field.strip() or main or part
        if field in fields:
            raise SpecError(
                "a step names a field twice",
                where=f"--step {text}",
                got=field,
                expected="each field once",
            )
        fields[field] = parse_yaml(f"value: {value}", f"--step {text}").data["value"]
    return {"kind": kind, **({"name": name} if name else {}), **fields}


def _split(text: str) -> list[str]:
    """The parts between commas that stand in no brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]
