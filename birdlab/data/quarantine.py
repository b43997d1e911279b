"""The quarantine list: files that cannot be used, by content, and those that are used but unusual.

It lies beside the waveforms and is keyed like them, so a file that failed is not decoded again
until its content changes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from birdlab.data.headers import Header
from birdlab.errors import LabError
from birdlab.lab import Lab, write_whole

QUARANTINE = "quarantine.json"
REPORT = "quarantine.csv"
SHORTEST_S = 0.1
"""A recording below this length is a slip of the recorder or a torn download, not a sound."""

_USUAL_RATE_HZ = 48_000
_USUAL_CHANNELS = 2
_NAMED_PARTS = 2  # the file and its folder: what lies above is not the data set's doing


class Listed(NamedTuple):
    """One file in the list: its path when it was met, why it is listed, whether it is used."""

    file: str
    reason: str
    used: bool


def find_fault(duration_s: float, scale: float) -> str:
    """Why a recording of that length and peak cannot be used; "" when it can."""
    if duration_s < SHORTEST_S:
        return f"too short: {duration_s:.3f} s"
    return "silent: every sample is zero" if scale == 0 else ""


def find_oddity(path: Path, header: Header, sample_rate_hz: int) -> str:
    """What is unusual about a file that can be used, in words; "" for an ordinary one."""
    said = []
    if header.codec.endswith(("_u8", "_s8")):
        said.append("8-bit samples")
    if header.sample_rate_hz > _USUAL_RATE_HZ:
        rate, kept = header.sample_rate_hz / 1000, sample_rate_hz / 1000
        said.append(f"{rate:g} kHz brought to {kept:g} kHz")
    if header.channels > _USUAL_CHANNELS:
        said.append(f"{header.channels} channels averaged")
    name = "/".join(path.parts[-_NAMED_PARTS:])
    if " " in name or not name.isascii():
        said.append("spaces or letters beyond ASCII in its name")
    return ", ".join(said)


def load_listed(root: Path) -> dict[str, Listed]:
    """The list of the store in `root`, by key; LabError when its file is damaged."""
    path = root / QUARANTINE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {key: _listed(value) for key, value in content.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise LabError(
            "the quarantine list cannot be read",
            where=str(path),
            got=str(error),
            fix="delete this file; what is in it is found again",
        ) from None


def list_files(root: Path, found: Mapping[str, Listed]) -> None:
    """Add files to the list of the store in `root`; several processes may do so."""
    if found:
        _change(root, lambda listed: {**listed, **found})


def forget_files(root: Path, keys: Iterable[str]) -> None:
    """Take keys off the list, so that the next build decodes them again."""
    gone = set(keys)
    _change(root, lambda listed: {k: file for k, file in listed.items() if k not in gone})


def load_quarantine(lab: Lab) -> dict[str, str]:
    """The store keys of files that cannot be used, with name and reason of each."""
    return {
        key: f"{Path(listed.file).name}: {listed.reason}"
        for key, listed in load_listed(lab.waves).items()
        if not listed.used
    }


def save_report(path: Path, files: Iterable[Listed]) -> None:
    """Write the quarantine report as CSV: file, used, reason."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "used", "reason"))
        writer.writerows((f.file, "yes" if f.used else "no", f.reason) for f in files)
    temporary.replace(path)


def _listed(value: object) -> Listed:
    if isinstance(value, str):  # as written before unusual files were listed: `name: reason`
        file, _, reason = value.partition(": ")
        return Listed(file, reason, used=False)
    return Listed(**value)  # type: ignore[arg-type]


def _change(root: Path, change: Callable[[dict[str, Listed]], Mapping[str, Listed]]) -> None:
    with FileLock(root / "quarantine.lock"):
        listed = {key: file._asdict() for key, file in change(load_listed(root)).items()}
        write_whole(root / QUARANTINE, json.dumps(listed, indent=1))
