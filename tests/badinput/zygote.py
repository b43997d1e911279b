"""Processes that hold what commands import, from which every case is forked."""

from __future__ import annotations

import functools
import gc
import importlib
import os
import pkgutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import NoReturn

from .campaign import outcome_line, run_one
from .sandbox import PASSED_ON
from .values import keep_values
from .world import World

_NETWORKS = frozenset(("torch", "torchaudio", "timm", "mlflow"))
_SCIENCE = frozenset(("scipy", "sklearn", "onnxruntime"))
TIERS = (_NETWORKS | _SCIENCE, _NETWORKS, frozenset[str]())
"""The packages that a process does without: a fork takes the longer, the more memory there is.

A case begins in the first; where it imports what is not there, it begins anew in the next.
"""

FIRST_TIER = dict.fromkeys(("table_year", "foreign", "audio_build", "audio_predict", "archive"), 1)
"""Where kinds begin of which hardly a case ends in the first tier."""

FRESH_EVERY = 100
"""So often a case runs in a new interpreter, in which imports happen as for users."""


class Lacking(MetaPathFinder):
    """Finds none of the named packages: `refuse` says what an import of one of them does."""

    def __init__(self, names: frozenset[str], forked: bool) -> None:
        self.names, self.forked = names, forked

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """None, which leaves the module to the other finders, unless its package is lacking."""
        if name.partition(".")[0] in self.names:
            self.refuse(name)
        return None

    def refuse(self, name: str) -> NoReturn:
        """End the case, which the next tier takes, or leave the module out of this process."""
        if self.forked:
            os._exit(PASSED_ON)
        raise ImportError(f"{name} is not for this tier")


def warm_up(tier: int) -> None:
    """Import what commands need, but for what the tier does without, once for all forks.

    The tree of commands is built once too: that takes longer than most cases.
    """
    import typer.main

    import birdlab
    import birdlab.cli.app as cli

    lacking = Lacking(TIERS[tier], forked=False)
    sys.meta_path.insert(0, lacking)
    wanted = ["onnxruntime", "pyarrow.parquet", "scipy.stats", "sklearn.model_selection"]
    wanted += ["soundfile", "soxr"]
    wanted += [module.name for module in pkgutil.walk_packages(birdlab.__path__, "birdlab.")]
    for name in wanted:
        if not name.endswith("__main__"):
            with suppress(ImportError):
                importlib.import_module(name)
    sys.meta_path.remove(lacking)
    if not hasattr(typer.main.get_command, "cache_info"):
        cli._register()
        typer.main.get_command = functools.cache(typer.main.get_command)
        typer.main.get_command(cli.app)
    gc.freeze()  # a collection in a fork would copy every page that it looks at


def work(world: World, cases: Sequence[tuple[str, int]], seed: int, quick: bool) -> None:
    """Run the cases and print each outcome as a line of JSON, the quicker cases first.

    quick: without the last tier, so the few cases that load a network have no outcome.
    """
    keep_values(world.root, seed)
    with tempfile.TemporaryDirectory(prefix="badinput-") as folder:
        for tier, lacking in enumerate(TIERS[:-1] if quick else TIERS):
            if cases:
                warm_up(tier)
            passed_on = [case for case in cases if tier < FIRST_TIER.get(case[0], 0)]
            for kind, number in cases:
                if (kind, number) in passed_on:
                    continue
                fresh = not quick and number % FRESH_EVERY == 0
                finder = Lacking(lacking, forked=True)
                outcome = run_one(kind, number, seed, world, Path(folder), finder, fresh)
                if outcome is None:
                    passed_on.append((kind, number))
                else:
                    print(outcome_line(outcome), end="", flush=True)
            cases = passed_on
