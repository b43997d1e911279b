"""What is asked of a promotion: whose weights, how they are blended, what becomes of the file."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from birdlab.errors import OutputsError, PromotionError
from birdlab.evaluate.blends import Blend
from birdlab.infer.variants import KNOWN
from birdlab.promote.history import check_alias

Weights = Literal["full", "folds", "averaged"]
Soup = Literal["all", "folds", "seeds"]
Shares = Literal["equal", "fitted"] | tuple[float, ...]
LOSS = 0.001
"""How far a variant may move the out-of-fold score, up or down."""


@dataclass(frozen=True)
class PromotionRequest:
    """How runs become one model.

    weights: `full` trains each run once more on all its data, `folds` takes the fold and seed
    models as they are, `averaged` the mean of the weights of a run's models: of all, or by `soup`
    over the folds of each seed, or over the seeds of each fold. shares: of the runs in the blend,
    fitted on out-of-fold predictions or a number each. variants: further forms of the file, each
    with a gate of its own; gate: how far one may move the out-of-fold score. alias: moves to
    the model. force: promote although a gate refuses, for the `reason` that is then written down.
    soundscapes: a folder of unlabelled recordings for the rank agreement of models without held-out
    recordings.
    post: post-processing steps that predictions get, as `portable_mappings` gives them; hop_s:
    seconds from one window to the next, those of a window for none between them. None for what the
    runs were scored with.
    Raises PromotionError for what makes no sense.
    """

    weights: Weights = "full"
    soup: Soup = "all"
    blend: Blend = field(default_factory=Blend)
    shares: Shares = "equal"
    variants: tuple[str, ...] = ()
    alias: str = "champion"
    force: bool = False
    reason: str = ""
    register: bool = True
    gate: float = LOSS
    soundscapes: Path | None = None
    post: tuple[Mapping[str, Any], ...] | None = None
    hop_s: float | None = None

    def __post_init__(self) -> None:
        if self.weights not in get_args(Weights):
            raise PromotionError(
                "these are no weights", got=self.weights, expected=", ".join(get_args(Weights))
            )
        if self.soup not in get_args(Soup):
            raise PromotionError(
                "nothing is averaged over these", got=self.soup, expected=", ".join(get_args(Soup))
            )
        if self.soup != "all" and self.weights != "averaged":
            raise PromotionError(
                f"--soup {self.soup} averages weights, and --weights {self.weights} does not",
                fix="leave one of them out, or give --weights averaged",
            )
        check_alias(self.alias)
        unknown = [name for name in self.variants if name not in KNOWN]
        if unknown:
            raise PromotionError(
                "unknown variant", got=", ".join(unknown), expected=", ".join(KNOWN)
            )
        if self.force and not self.reason.strip():
            raise PromotionError(
                "a promotion against its gates needs a reason", fix='add --reason "..."'
            )
        if self.reason and not self.force:
            raise PromotionError(
                "a reason is given, and nothing is forced", fix="add --force, or leave it out"
            )
        if not 0 <= self.gate < 1:
            raise PromotionError("a loss that is allowed", got=self.gate, expected="0 to 1")
        if isinstance(self.shares, tuple):
            _check_numbers(self.shares)


def promote_command(spec_ids: Sequence[str], request: PromotionRequest) -> str:
    """The command that promotes these runs as asked for, without forcing it."""
    words = ["birdlab", "promote", *spec_ids]
    plain, shares, blend = PromotionRequest(), request.shares, request.blend
    given = {
        "--weights": request.weights if request.weights != plain.weights else "",
        "--soup": request.soup if request.soup != plain.soup else "",
        "--blend": write_blend(blend) if blend != plain.blend else "",
        "--shares": shares if isinstance(shares, str) else ",".join(f"{s:.12g}" for s in shares),
        "--gate": f"{request.gate:g}" if request.gate != plain.gate else "",
        "--soundscapes": str(request.soundscapes or ""),
        "--post": "" if request.post is None else "FILE" if request.post else "none",
        "--hop": "" if request.hop_s is None else f"{request.hop_s:g}",
        "--alias": request.alias if request.alias != plain.alias else "",
    }
    if shares == plain.shares:
        del given["--shares"]
    words += [word for option, value in given.items() if value for word in (option, value)]
    words += [word for name in request.variants for word in ("--variant", name)]
    return shlex.join(words + ([] if request.register else ["--no-register"]))


def parse_blend(text: str) -> Blend:
    """The blend that `mean`, `geometric`, `rank`, `power` or `power:3` names.

    Raises PromotionError for another one.
    """
    kind, sign, number = text.partition(":")
    try:
        if sign and kind != "power":
            raise ValueError
        power = float(number) if sign else 2.0
        return Blend(kind, power)  # type: ignore[arg-type]
    except (ValueError, OutputsError):
        raise PromotionError(
            "unknown way to blend",
            got=text,
            expected="mean, geometric, rank, or power:2 with an exponent from 0.1 to 8",
        ) from None


def write_blend(blend: Blend) -> str:
    """The text of which `parse_blend` makes this blend."""
    return f"power:{blend.power!r}" if blend.kind == "power" else blend.kind


def parse_shares(text: str) -> Shares:
    """The shares that `equal`, `fitted` or `2,1,1` mean; PromotionError for others."""
    if text == "equal":
        return "equal"
    if text == "fitted":
        return "fitted"
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise PromotionError(
            "unknown shares", got=text, expected="equal, fitted, or a number per run: 2,1,1"
        ) from None
    _check_numbers(numbers)
    return numbers


def _check_numbers(shares: tuple[float, ...]) -> None:
    if not all(math.isfinite(s) and s >= 0 for s in shares) or sum(shares) <= 0:
        raise PromotionError(
            "the shares are no shares",
            got=", ".join(f"{s:g}" for s in shares),
            expected="numbers of 0 or more, and a sum above 0",
        )
