"""The idea ledger of a lab, or of several together, read from their sweeps."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from birdlab.lab import Lab
from birdlab.study.effects import join_effects, load_effects
from birdlab.study.ideas import By, IdeaLedger, build_ideas
from birdlab.study.reopen import Reopening, rank_reopening
from birdlab.study.stale import (
    STALE_COLUMNS,
    Dump,
    Today,
    find_stale,
    find_today,
    hold_against,
    load_specs,
)
from birdlab.tracking.drivernotes import load_driver
from birdlab.words import count_words

ANY_FILE = "BASE.yaml"
"""Stands in commands for the file of today's base, where it is not known."""
NO_BASE = (
    "Today's base is not known: the lab has no champion and no run without changes. `--base FILE` "
    "names it; until then no verdict can be stale or worth a new try."
)


@dataclass(frozen=True, eq=False)
class LabIdeas:
    """The ledger; the verdicts that are stale by `today`; what is worth a new try; in words."""

    ledger: IdeaLedger
    today: Today | None
    stale: pd.DataFrame
    reopening: Reopening | None
    sentences: tuple[str, ...]


def load_ideas(
    lab: Lab, *, also: Sequence[Lab] = (), by: By = "idea", today: Today | None = None
) -> LabIdeas:
    """What the sweeps of a lab, and of others beside it, say of each idea.

    also: labs that are read only; their sweeps go by folder and name. today: the base that verdicts
    are held against, else that of `lab` (`find_today`).
    """
    tables, specs, commands, left_out = [], dict[str, Dump](), dict[str, str](), dict[str, str]()
    base = today or find_today(lab)
    file = ANY_FILE if base is None or not base.file else base.file
    for place, one in {"": lab, **{f"{other.root.name}/": other for other in also}}.items():
        effects = load_effects(one)
        specs |= load_specs(one, effects)
        left_out |= {f"{place}{name}": why for name, why in effects.attrs["left_out"].items()}
        commands |= {
            f"{place}{sweep}": _command(one, str(sweep), file)
            for sweep in effects["sweep"].unique()
        }
        tables.append(effects.assign(sweep=place + effects["sweep"].astype(str)))
    effects = join_effects(tables, left_out)
    ledger = build_ideas(effects, by=by)
    if base is None or effects.empty:
        said = () if effects.empty else (NO_BASE,)
        none = pd.DataFrame(columns=list(STALE_COLUMNS))
        return LabIdeas(ledger, base, none, None, (*ledger.sentences, *said))
    stale = find_stale(ledger.verdicts, specs, base.spec)
    compared = hold_against(ledger.verdicts, specs, base.spec)
    reopening = rank_reopening(ledger, compared, commands=commands)
    told = f"Today's base is {base.said}: {_count_stale(stale)}."
    return LabIdeas(ledger, base, stale, reopening, (*ledger.sentences, told))


def _command(lab: Lab, sweep: str, file: str) -> str:
    """What lays a sweep over the base in `file`: as it was typed, else with the file that it is
    mostly in."""
    driver = load_driver(lab.stores / "drivers", sweep)
    if driver is not None and driver.command.startswith("birdlab sweep "):
        return command_over(driver.command, file)
    plain = lab.root / "experiments" / f"{sweep}.yaml"
    own = sweep if plain.is_file() else sweep.partition("-on-")[0]
    return f"birdlab sweep experiments/{own}.yaml --base {shlex.quote(file)}"


def command_over(command: str, file: str) -> str:
    """A `birdlab sweep` command with another base, under the name that this gives it.

    A `--grid` stands over its experiment, so there the experiment is the other one.
    """
    kept: list[str] = []
    words = iter(shlex.split(command))
    for word in words:
        option, equals, _ = word.partition("=")
        if option not in ("--base", "--name"):
            kept.append(word)
        elif not equals:
            next(words, None)
    if not any(word.partition("=")[0] == "--grid" for word in kept):
        return shlex.join([*kept, "--base", file])
    own = next((at for at, word in enumerate(kept) if word.endswith((".yaml", ".yml"))), None)
    return shlex.join([file if at == own else word for at, word in enumerate(kept)])


def _count_stale(stale: pd.DataFrame) -> str:
    if stale.empty:
        return "no verdict is stale"
    return f"{count_words(len(stale), 'verdict')} stale, reached on a base that differs from it"
