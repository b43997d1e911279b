"""WHERE things lie: the lab file, the stores, names of data sets and weights as paths."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from birdlab.errors import LabError
from birdlab.labfile import LabFile
from birdlab.spec.kinds import load_extension, nearest
from birdlab.spec.problems import validate
from birdlab.spec.sources import DemoSource, SourceSpec
from birdlab.spec.yamlfile import Document

LAB_FILE = "birdlab.toml"
LOCAL_FILE = "birdlab.local.toml"
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
BUILT_IN_DATA: Mapping[str, Mapping[str, Any]] = {
    "demo": {"seed": 0},
    "demo-abroad": {"seed": 1},
    "demo-environment": {"part": "environment"},
    "demo-soundscapes": {"part": "soundscapes"},
    "demo-unlabelled": {"part": "unlabelled"},
    "demo-phones": {"part": "phones"},
    "demo-mislabelled": {"part": "mislabelled"},
}
"""Data sets that birdlab generates by itself on first use: the fields of their DemoSource."""


@dataclass(frozen=True)
class Lab:
    """A lab folder and what its file says; `cells_folder` puts cells elsewhere (a smoke test)."""

    root: Path
    file: LabFile = field(default_factory=LabFile)
    cells_folder: Path | None = None

    @cached_property
    def stores(self) -> Path:
        """The folder that holds every store (`mlruns/`)."""
        return self.root / self.file.stores

    @cached_property
    def cells(self) -> Path:
        """Finished cells: weights and stored outputs, by cell id."""
        return self.cells_folder or self.stores / "cells"

    @cached_property
    def runs(self) -> Path:
        """One record per recipe that was run, by spec id."""
        return self.stores / "runs"

    @property
    def open_runs(self) -> Path:
        """A marker for every run of which MLflow still has to be told something."""
        return self.stores / "tracking" / "open"

    @property
    def waves(self) -> Path:
        """The waveform store."""
        return self.stores / "store"

    @property
    def models(self) -> Path:
        """Promoted models, so that predict needs no MLflow."""
        return self.stores / "models"

    @property
    def ledger(self) -> Path:
        """The append-only leaderboard ledger."""
        return self.stores / "ledger.jsonl"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifact folder."""
        return self.stores / "artifacts"

    @property
    def tracking_uri(self) -> str:
        """The MLflow tracking URI: the user's server, else SQLite in the lab."""
        return self.server_uri or f"sqlite:///{(self.stores / 'mlflow.db').resolve()}"

    @property
    def server_uri(self) -> str:
        """The MLflow that the user named, in the lab file or the environment; "" for none."""
        return self.file.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")

    @property
    def jobs(self) -> int:
        """How many files are read or decoded at once unless the caller says otherwise."""
        return self.file.jobs or self.file.cores or count_cores()

    def name_path(self, path: Path) -> Path:
        """A path from the lab's folder on; as it is where it lies elsewhere, as stores may."""
        return path.relative_to(self.root) if path.is_relative_to(self.root) else path

    def source(self, name: str) -> SourceSpec:
        """What the lab file says of a data set; LabError with the known names when nothing."""
        if name in self.file.data:
            return cast(SourceSpec, self.file.data[name])
        if name in BUILT_IN_DATA:
            folder = Path(self.file.stores) / "demo" / name
            return DemoSource(path=str(folder), **BUILT_IN_DATA[name])
        raise LabError(
            f"the lab knows no data set {name!r}",
            where=str(self.root / LAB_FILE),
            expected=nearest(name, [*self.file.data, *BUILT_IN_DATA]),
            fix=f'add it under [data]: {name} = "path/to/folder"',
        )

    def dataset_root(self, name: str) -> Path:
        """The folder of a data set; LabError with the known names when there is none."""
        return (self.root / self.source(name).path).resolve()

    def weights_path(self, name: str) -> Path:
        """The file of named weights; LabError when the name or the file is missing."""
        if name not in self.file.weights:
            raise LabError(
                f"the lab knows no weights {name!r}",
                where=str(self.root / LAB_FILE),
                expected=nearest(name, list(self.file.weights)),
                fix=f'add them under [weights]: {name} = "path/to/file"',
            )
        path = (self.root / self.file.weights[name]).resolve()
        if not path.is_file():
            raise LabError(
                f"the weights {name!r} are not there",
                where=str(path),
                fix="put the file there, or correct its path under [weights] in birdlab.toml",
            )
        return path

    def load_extensions(self) -> None:
        """Register the kinds of every extension file that the lab file names."""
        for extension in self.file.extensions:
            load_extension((self.root / extension).resolve())


def count_cores() -> int:
    """The CPU cores that this process may use, within the quota of a container; at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = _CPU_QUOTA.read_text().split()
        allowed = int(quota) // int(period)
    except (OSError, ValueError):  # no such file, or "max"
        allowed = cores or 1
    return max(1, min(cores or 1, allowed))


def open_lab(explicit: str | Path | None = None, *, extensions: bool = True) -> Lab:
    """The lab: `explicit`, else BIRDLAB_HOME, else the nearest parent with a lab file, else here.

    Its extensions are loaded, which may import torch, unless the caller needs none. Raises
    LabError when the folder or its file cannot be read.
    """
    named = explicit or os.environ.get("BIRDLAB_HOME")
    if named:
        root = Path(named).resolve()
        if not root.is_dir():
            raise LabError("the lab is not a folder", where=str(root), fix=f"birdlab init {named}")
    else:
        here = Path.cwd()
        root = next((p for p in (here, *here.parents) if (p / LAB_FILE).is_file()), here)
    raw: dict[str, Any] = {}
    for name in (LAB_FILE, LOCAL_FILE):
        raw = _overlay(raw, _load_toml(root / name))
    lab = Lab(root, validate(LabFile, raw, Document(raw, {"": str(root / LAB_FILE)})))
    if extensions:
        lab.load_extensions()
    return lab


def _load_toml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # no UTF-8, no TOML, a number of thousands of digits
        raise LabError(
            "the lab file cannot be read",
            where=str(path),
            got=str(error),
            expected="a TOML file in UTF-8",
        ) from None


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    out = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = {**out[key], **value} if both else value
    return out


def hide_password(text: str) -> str:
    """An address, or a sentence with addresses, without the user and password of any."""
    return re.sub(r"(password=)[^&\s]+", r"\1...", re.sub(r"//[^/\s]*@", "//", text))


def write_whole(path: Path, text: str) -> None:
    """Write a small file so that a reader sees the old content or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
