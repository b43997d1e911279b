"""Where a data set is being read, and what was found on the way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from birdlab.data.csvfile import Findings
from birdlab.data.paths import OUTSIDE, absent, leaving


@dataclass(frozen=True)
class Place:
    """The name and folder of a data set, its lab, and the report that its readers write to.

    `skip_bad` turns links that leave the folder into `refused` files instead of faults.
    """

    name: str
    root: Path
    lab_root: Path
    findings: Findings
    skip_bad: bool = False
    refused: dict[str, str] = field(default_factory=dict)

    def check_names(self, names: list[str], folder: Path, findings: Findings) -> None:
        """Report names that leave `folder`, and note those without a file where others have one."""
        unusable = leaving(names, folder)
        if self.skip_bad:
            linked = {name: why for name, why in unusable.items() if why == OUTSIDE}
            self.refused.update(linked)
            findings.note("file that may not be read (a link out of the folder)", linked)
            unusable = {name: why for name, why in unusable.items() if name not in linked}
        findings.add(
            "filename leaves the audio folder", (f"{n!r} ({why})" for n, why in unusable.items())
        )
        self.note_absent([name for name in names if name not in unusable], folder, findings)

    def note_absent(self, names: Iterable[str], folder: Path, findings: Findings) -> None:
        """Note the names without a file, unless there is no audio at all: a table alone is fine."""
        wanted = list(dict.fromkeys(names))
        gone = absent(wanted, folder) if folder.is_dir() else wanted
        if len(gone) < len(wanted):
            findings.note("file is not there", gone)
