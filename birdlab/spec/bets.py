"""Bets in `expect:`: what somebody thinks a sweep will show, said so that it can be decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from birdlab.errors import SpecError
from birdlab.spec.base import Also, Spec, Tuple
from birdlab.spec.diff import title_of
from birdlab.spec.kinds import nearest

EVERY_OTHER = "every other"
"""As the `arm` of a bet: every arm but the one that it is compared with."""

Kind = Literal["better_by", "worse_by", "within", "not_better_by", "not_worse_by", "best", "worst"]
DIFFERENCES: tuple[Kind, ...] = (
    "better_by",
    "worse_by",
    "within",
    "not_better_by",
    "not_worse_by",
)
PLACES: tuple[Kind, ...] = ("best", "worst")

Amount = Annotated[float, Field(ge=0, le=1)]
Bounds = Annotated[dict[str, tuple[float, float]], Field(min_length=1)]
_ONE = Also({"type": ["string", "number"]})
Few = Annotated[Tuple[str | int | float], Field(min_length=1)]


def _one_or_more(raw: Any) -> Any:
    return (raw,) if isinstance(raw, str | int | float) else raw


def _pairs(raw: Any) -> Any:
    """Ranges as tuples: YAML and JSON have lists."""
    if not isinstance(raw, dict):
        return _one_or_more(raw)
    return {key: tuple(pair) if isinstance(pair, list) else pair for key, pair in raw.items()}


class BetSpec(Spec):
    """One bet: a claim on true differences, how sure it is, or words that nobody scores.

    `arm` against `against`: better_by or worse_by at least so much, not_better_by or not_worse_by
    so much, or within so much. Of several arms it holds for each. `best` and `worst`: which arm is
    in that place.
    """

    also: ClassVar[tuple[Also, ...]] = (Also({"type": "string"}),)

    arm: Annotated[Few, BeforeValidator(_one_or_more), _ONE] | None = None
    """The title of an arm, several titles, or `every other`. Unit: value of the arm."""
    against: str | int | float | None = None
    """The arm that it is compared with; the control where it is left out. Unit: value of the arm.
    """
    better_by: Amount | None = None
    """The arm is better by so much or more. Unit: score."""
    worse_by: Amount | None = None
    """The arm is worse by so much or more. Unit: score."""
    within: Annotated[float, Field(gt=0, le=1)] | None = None
    """The arm differs by less than this. Unit: score."""
    not_better_by: Amount | None = None
    """The arm is not better by so much. Unit: score."""
    not_worse_by: Amount | None = None
    """The arm is not worse by so much. Unit: score."""
    best: Annotated[Few | Bounds, BeforeValidator(_pairs), _ONE] | None = None
    """The best arm is one of these titles or values, or lies in a range of each searched field:
    {field: [low, high]}. Unit: value of the arm."""
    worst: Annotated[Few | Bounds, BeforeValidator(_pairs), _ONE] | None = None
    """The worst arm, said in the same way. Unit: value of the arm."""
    sure: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The chance that the claim is true, as the one who bets sees it; without it the bet has an
    outcome and no score. Unit: probability."""
    text: str = ""
    """Words beside the claim, or instead of one."""

    @model_validator(mode="after")
    def _one_claim(self) -> BetSpec:
        given = [kind for kind in (*DIFFERENCES, *PLACES) if getattr(self, kind) is not None]
        if not given:
            if not self.text or self.arm is not None or self.sure is not None:
                raise ValueError(f"a bet claims one of {', '.join((*DIFFERENCES, *PLACES))}")
            return self
        if len(given) > 1:
            raise ValueError(f"a bet claims one thing; got {' and '.join(given)}")
        if (given[0] in DIFFERENCES) != (self.arm is not None):
            hint = "needs an `arm`" if self.arm is None else "names its arms itself: no `arm`"
            raise ValueError(f"a bet with `{given[0]}` {hint}")
        if given[0] in PLACES and self.against is not None:
            raise ValueError(f"`{given[0]}` is against all other arms: no `against`")
        return self

    @property
    def kind(self) -> Kind | None:
        """What is claimed; None for words alone."""
        all_kinds = (*DIFFERENCES, *PLACES)
        return next((kind for kind in all_kinds if getattr(self, kind) is not None), None)

    @property
    def words(self) -> str:
        """The claim in words, with those that stand beside it; how sure it is comes last."""
        kind = self.kind
        if kind is None:
            return self.text
        said = _place_words(self) if kind in PLACES else _difference_words(self, kind)
        said += "" if self.sure is None else f" (sure {self.sure:g})"
        return f"{said}: {self.text}" if self.text else said


def read_expect(raw: Any) -> Any:
    """What stands below `expect:` as a tuple of bets: a text is words without a claim."""
    if isinstance(raw, str):
        raw = [raw] if raw else []
    if isinstance(raw, list | tuple):
        return tuple({"text": item} if isinstance(item, str) else item for item in raw)
    return raw


Expect = Annotated[tuple[BetSpec, ...], BeforeValidator(read_expect), Also({"type": "string"})]


def expect_words(bets: tuple[BetSpec, ...]) -> str:
    """All bets in words, on one line; "" for none."""
    return "; ".join(bet.words for bet in bets)


@dataclass(frozen=True)
class Claim:
    """A bet with the titles of its arms.

    Of a difference each of `arms` is compared with the one of `against`; of a place `against` are
    all others. amount: the number of a difference, 0 of a place.
    """

    kind: Kind
    arms: tuple[str, ...]
    against: tuple[str, ...]
    amount: float = 0.0

    @property
    def titles(self) -> tuple[str, ...]:
        """Every arm it looks at."""
        return (*self.arms, *self.against)


def build_claim(
    bet: BetSpec, points: Mapping[str, Mapping[str, Any]], control: str | None
) -> Claim | None:
    """The claim of a bet on the arms of a sweep; None for words alone.

    points: what each arm takes of each entry; a value stands for the one arm that takes it.
    Raises SpecError for an arm that is none, and for a difference to nothing.
    """
    kind = bet.kind
    if kind is None:
        return None
    if kind in PLACES:
        named = getattr(bet, kind)
        inside = _in_range(named, points) if isinstance(named, dict) else _find(named, points)
        return Claim(kind, inside, tuple(arm for arm in points if arm not in inside))
    against = bet.against if bet.against is not None else control
    if against is None:
        raise SpecError(
            "a bet compares an arm with nothing: the sweep has no control",
            got=bet.words,
            fix="add `against: ARM` to the bet, or `control: ARM` to the sweep",
        )
    base = _find((against,), points)
    assert bet.arm is not None
    if bet.arm == (EVERY_OTHER,):
        arms = tuple(arm for arm in points if arm not in base)
    else:
        arms = _find(bet.arm, points)
    if set(arms) & set(base):
        raise SpecError(
            "a bet compares an arm with itself", got=bet.words, expected="two different arms"
        )
    return Claim(kind, arms, base, float(getattr(bet, kind)))


def claim_key(bet: BetSpec) -> str:
    """What is equal for two bets that claim the same, however sure they are."""
    return bet.model_copy(update={"sure": None, "text": ""}).model_dump_json(exclude_none=True)


def _find(
    named: tuple[str | int | float, ...], points: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_find_one(name, points) for name in named))


def _find_one(name: str | int | float, points: Mapping[str, Mapping[str, Any]]) -> str:
    if name in points:
        return str(name)
    takes = [arm for arm, point in points.items() if name in list(point.values())]
    if len(takes) == 1:
        return takes[0]
    raise SpecError(
        "a bet names no arm of the sweep" if not takes else "a bet names several arms at once",
        got=name,
        expected=nearest(str(name), list(points)) if not takes else ", ".join(takes),
        fix="write the title of the arm as --dry-run shows it",
    )


def _in_range(
    ranges: Mapping[str, tuple[float, float]], points: Mapping[str, Mapping[str, Any]]
) -> tuple[str, ...]:
    """The arms whose point lies in every range; an arm that takes nothing of a field does not."""

    def inside(point: Mapping[str, Any]) -> bool:
        return all(
            isinstance(point.get(field), int | float) and low <= point[field] <= high
            for field, (low, high) in ranges.items()
        )

    return tuple(arm for arm, point in points.items() if inside(point))


def _place_words(bet: BetSpec) -> str:
    kind = "best" if bet.best is not None else "worst"
    named = bet.best if bet.best is not None else bet.worst
    if isinstance(named, dict):
        where = " and ".join(
            f"{title_of({key: low}).split('=')[0]} {low:g} to {high:g}"
            for key, (low, high) in named.items()
        )
        return f"the {kind} arm has {where}"
    assert named is not None
    names = [f"{name:g}" if isinstance(name, float) else str(name) for name in named]
    return f"{names[0]} is {kind}" if len(names) == 1 else f"{' or '.join(names)} is {kind}"


def _difference_words(bet: BetSpec, kind: Kind) -> str:
    assert bet.arm is not None
    arms = " and ".join(map(str, bet.arm)) if bet.arm != (EVERY_OTHER,) else "every other arm"
    base = "the control" if bet.against is None else str(bet.against)
    amount = getattr(bet, kind)
    told = {
        "better_by": f"beats {base}" + (f" by {amount:g} or more" if amount else ""),
        "worse_by": f"loses to {base}" + (f" by {amount:g} or more" if amount else ""),
        "within": f"is within {amount:g} of {base}",
        "not_better_by": f"does not beat {base}" + (f" by {amount:g}" if amount else ""),
        "not_worse_by": f"does not lose to {base}" + (f" by {amount:g}" if amount else ""),
    }
    return f"{arms} {told[kind]}"
