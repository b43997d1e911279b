"""What a shell offers after <TAB>: runs, specs, fields, models, data sets of the lab at hand.

Nothing here imports more than the standard library, and nothing raises: a completion that waits or
complains is worse than none.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from birdlab.cli.fields import FIELDS_FILE

MOST_RECORDS = 400
"""So many of the newest records are read: a shell would wait for those of thousands."""

Find = Callable[[str], Iterator[str]]


def offers_for(param: Any) -> Callable[[str], list[str]] | None:
    """What completes a parameter, by what it is called; None where nobody knows its values."""
    finders: list[Find] = []
    opts, metavar = set(param.opts), param.metavar or ""
    if param.name == "spec" or "--base" in opts:
        finders.append(find_specs)
    if opts & {"--set", "--grid"}:
        finders.append(find_fields)
    if "SWEEP" in metavar or "--sweep" in opts:
        finders.append(find_sweeps)
    if "RUN" in metavar or metavar in ("A", "B") or "--like" in opts:
        finders.append(find_runs)
    if metavar == "MODEL" or param.name in ("model", "one", "other") or "--bundle" in opts:
        finders.append(find_models)
    if param.name == "dataset" or opts & {"--on", "--against", "--data"}:
        finders.append(find_datasets)
    if not finders:
        return None

    def offer(incomplete: str) -> list[str]:
        found: dict[str, None] = {}
        for find in finders:
            try:
                found |= dict.fromkeys(find(incomplete))
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # a broken lab: a shell cannot tell anyone
        return [text for text in found if text.startswith(incomplete) and " " not in text]

    return offer


def find_runs(incomplete: str) -> Iterator[str]:
    """Names of runs, SWEEP:best, aliases; arms once a sweep is typed, ids once they begin so."""
    if ":" in incomplete:
        sweep = incomplete.split(":")[0]
        told = _read(_stores() / "sweeps" / f"{sweep}.json")
        yield f"{sweep}:best"
        yield from (f"{sweep}:{arm['title']}" for arm in told["arms"])
        return
    yield from find_models(incomplete, names=False)
    yield from (f"{sweep}:best" for sweep in find_sweeps(incomplete))
    is_id = len(incomplete) >= 2 and not set(incomplete) - set("0123456789abcdef")
    paths = sorted((_stores() / "runs").glob("*.json"), key=lambda p: -p.stat().st_mtime)
    for path in paths[:MOST_RECORDS]:
        if is_id:
            yield path.stem
        else:
            yield str(_read(path).get("name", ""))


def find_sweeps(_: str) -> Iterator[str]:
    """Names of sweeps that ended, or run."""
    for folder in ("sweeps", "drivers"):
        yield from (path.stem for path in sorted((_stores() / folder).glob("*.json")))


def find_specs(incomplete: str) -> Iterator[str]:
    """YAML files of the folder that is typed, and folders; without one those of experiments/."""
    folder = Path(incomplete) if incomplete.endswith("/") else Path(incomplete).parent
    for path in sorted(folder.iterdir()):
        shown = f"{incomplete.rpartition('/')[0]}/{path.name}" if "/" in incomplete else path.name
        if path.is_dir() and not path.name.startswith("."):
            yield f"{shown}/"
        elif path.suffix in (".yaml", ".yml"):
            yield shown


def find_fields(incomplete: str) -> Iterator[str]:
    """Dotted fields, each with its `=`; nothing once a value is typed."""
    if "=" not in incomplete:
        text = Path(__file__).with_name(FIELDS_FILE).read_text(encoding="utf-8")
        yield from (f"{field}=" for field in text.split())


def find_models(_: str, *, names: bool = True) -> Iterator[str]:
    """Aliases, and names of promoted models."""
    models = _stores() / "models"
    if (models / "aliases.json").is_file():
        yield from (f"@{alias}" for alias in _read(models / "aliases.json"))
    if names:
        yield from (card.parent.name for card in sorted(models.glob("*/card.json")))


def find_datasets(_: str) -> Iterator[str]:
    """Names of data sets in the lab file."""
    yield from ("demo", *_lab_file().get("data", {}))


def _root() -> Path:
    """The lab that a command started here would use, as `birdlab.lab` finds it."""
    named = os.environ.get("BIRDLAB_HOME")
    here = Path.cwd()
    homes = (folder for folder in (here, *here.parents) if (folder / "birdlab.toml").is_file())
    return Path(named) if named else next(homes, here)


def _lab_file() -> dict[str, Any]:
    said: dict[str, Any] = {}
    for name in ("birdlab.toml", "birdlab.local.toml"):
        path = _root() / name
        if path.is_file():
            more = tomllib.loads(path.read_text(encoding="utf-8"))
            said = {**said, **more, "data": {**said.get("data", {}), **more.get("data", {})}}
    return said


def _stores() -> Path:
    return _root() / str(_lab_file().get("stores", "mlruns"))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
