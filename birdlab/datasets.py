"""What a plan takes from the lab: data sets, waveform keys, backgrounds, and what is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import pandas as pd

from birdlab.data.catalog import Dataset
from birdlab.data.clean import Waterfall
from birdlab.data.demo import DemoSettings, build_demo
from birdlab.data.facts import Facts
from birdlab.data.hashes import hash_files
from birdlab.data.quarantine import load_quarantine
from birdlab.data.sources import load_source, load_source_noise
from birdlab.data.table import DataTable, NoiseKey, build_table
from birdlab.data.waves import open_waves
from birdlab.errors import DataError, LabError
from birdlab.lab import Lab
from birdlab.rows import Rows
from birdlab.spec.data import DataSpec
from birdlab.spec.experiment import ExperimentSpec
from birdlab.spec.identity import canonical_json
from birdlab.spec.sources import DemoSource

Progress = Callable[[str, int, int], None]


def silent(_what: str, _done: int, _total: int) -> None:
    """A progress callback that shows nothing."""


def sample_rate_of(spec: ExperimentSpec) -> int:
    """The rate of every waveform of an experiment, in Hz."""
    return int(getattr(spec.model.frontend, "sample_rate_hz", 32_000))


def open_dataset(
    lab: Lab,
    name: str,
    progress: Progress = silent,
    *,
    on_bad_file: Literal["fail", "skip"] = "fail",
) -> Dataset:
    """The data set of that name; the demo is generated on first use."""
    root = _folder(lab, name, progress)
    return load_source(lab.source(name), name, root, lab.root, on_bad_file=on_bad_file)


def _folder(lab: Lab, name: str, progress: Progress) -> Path:
    root = lab.dataset_root(name)
    source = lab.source(name)
    if isinstance(source, DemoSource):
        build_demo(
            root,
            DemoSettings(seed=source.seed),
            part=source.part,
            jobs=lab.jobs,
            progress=lambda done, total: progress(f"generating {name}", done, total),
        )
    return root


@dataclass(frozen=True)
class Needs:
    """All that decides which tables an experiment has; plans of equal needs share them.

    stages: name and data set of each stage that has one; noise: the data sets of backgrounds;
    soundscapes: those that judge the models of folds; unlabelled: those that teachers label;
    validators: those that judge models, asked or not, where something is labelled;
    backgrounds: what synthetic ones are over.
    """

    data: DataSpec
    sample_rate_hz: int
    window_s: float
    stages: tuple[tuple[str, str], ...]
    noise: tuple[str, ...]
    soundscapes: tuple[str, ...]
    backgrounds: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    validators: tuple[str, ...] = ()

    @cached_property
    def key(self) -> str:
        """Equal for equal needs."""
        numbers = [self.sample_rate_hz, self.window_s]
        heard = [self.noise, self.soundscapes, self.backgrounds, self.unlabelled, self.validators]
        return canonical_json([self.data, self.data.soundscapes, numbers, self.stages, *heard])


def needs_of(spec: ExperimentSpec) -> Needs:
    """What an experiment needs of the lab."""
    noise = {n for stage in spec.stages for a in stage.augment for n in getattr(a, "noise", ())}
    synthetic = spec.evaluate.synthetic if spec.fold_numbers else None
    labelled = {n for s in spec.stages if s.pseudo is not None for n in s.pseudo.soundscapes}
    return Needs(
        spec.data,
        sample_rate_of(spec),
        spec.competition.window_s,
        tuple((stage.name, stage.data) for stage in spec.stages if stage.data is not None),
        tuple(sorted(noise)),
        spec.evaluate.soundscapes if spec.fold_numbers else (),
        () if synthetic is None else synthetic.backgrounds,
        tuple(sorted(labelled)),
        spec.evaluate.soundscapes if labelled else (),
    )


class Collector:
    """Collects what plans need; `strict` raises for what the lab lacks, else it is noted."""

    def __init__(self, needs: Needs, lab: Lab, strict: bool, progress: Progress) -> None:
        self.needs, self.lab, self.strict, self.progress = needs, lab, strict, progress
        self.missing: list[str] = []
        self.notes: list[str] = []
        self.paths: dict[str, Path] = {}
        self.absent: list[Path] = []
        self.store = open_waves(lab, needs.sample_rate_hz)
        self.hashes = lab.waves / "hashes.sqlite"
        self.left_out = Waterfall()

    @cached_property
    def skipped(self) -> dict[str, str]:
        """The quarantine list as it is after cleaning, which may have met bad files."""
        return load_quarantine(self.lab) if self.needs.data.on_bad_file == "skip" else {}

    def dataset(self, name: str, role: str) -> Dataset | None:
        bad = self.needs.data.on_bad_file
        try:
            dataset = open_dataset(self.lab, name, self.progress, on_bad_file=bad)
        except (LabError, DataError):
            if self.strict or role == "base" or self._is_there(name):
                raise
            self.missing.append(f"{role} {name}: unknown rows")
            return None
        self.notes += [f"{name}: {note}" for note in dataset.notes]
        self.notes += [f"{name}: {file} refused ({why})" for file, why in dataset.refused.items()]
        return dataset

    def _is_there(self, name: str) -> bool:
        """Whether the lab has the folder: then what is wrong with it is no lack but a fault."""
        return name in self.lab.file.data and self.lab.dataset_root(name).is_dir()

    def table(
        self, base: Dataset, extras: Sequence[Dataset | None], stages: Sequence[Dataset | None]
    ) -> DataTable:
        facts = Facts(
            self.store,
            self.hashes,
            build=self.strict,
            jobs=self.lab.jobs,
            progress=lambda done, total: self.progress("listening to audio", done, total),
        )
        return build_table(
            base,
            [extra for extra in extras if extra is not None],
            self.needs.data,
            self.lab.root,
            facts,
            stages=[stage for stage in stages if stage is not None],
            window_s=self.needs.window_s,
            lenient=not self.strict,
            complete=None not in extras and None not in stages,
        )

    def keys(self, paths: Sequence[Path]) -> tuple[str | None, ...]:
        hashes = hash_files(paths, self.hashes)
        keys = tuple(None if h is None else self.store.key(h) for h in hashes)
        self.paths |= {k: p for k, p in zip(keys, paths, strict=True) if k is not None}
        self.absent += [p for k, p in zip(keys, paths, strict=True) if k is None]
        return keys

    def left_out_of(self, paths: Sequence[Path], keys: Sequence[str | None]) -> list[bool]:
        """Whether `on_bad_file: skip` leaves out each file: one on the quarantine list, and a
        folder or another thing that holds no content. A file that is missing is no bad file.
        """
        if self.needs.data.on_bad_file == "fail":
            return [False] * len(paths)
        return [
            os.path.lexists(path) if key is None else key in self.skipped
            for path, key in zip(paths, keys, strict=True)
        ]

    def rows(self, name: str, table: pd.DataFrame) -> Rows:
        paths = [Path(p) for p in table["path"].tolist()]
        keys = self.keys(paths)
        kept = [i for i, out in enumerate(self.left_out_of(paths, keys)) if not out]
        if len(kept) == len(keys):
            return Rows(table, keys)
        left = table.iloc[kept].reset_index(drop=True)
        self.left_out.add(name, "cannot be decoded", table, left)
        self.notes.append(f"{len(keys) - len(kept)} recordings that cannot be decoded are left out")
        return Rows(left, tuple(keys[i] for i in kept))

    def noise(self, names: Sequence[str]) -> dict[str, tuple[NoiseKey, ...]]:
        found: dict[str, tuple[NoiseKey, ...]] = {}
        for name in names:
            try:
                root = _folder(self.lab, name, self.progress)
                clips = load_source_noise(
                    self.lab.source(name),
                    name,
                    root,
                    self.lab.root,
                    on_bad_file=self.needs.data.on_bad_file,
                )
            except (LabError, DataError) as error:
                if self.strict:
                    raise
                self.missing.append(f"noise {name}: not there ({error.what})")
                continue
            paths = [clip.path for clip in clips]
            keys = self.keys(paths)
            found[name] = tuple(
                NoiseKey(key, clip.start_s, clip.end_s)
                for key, clip, out in zip(keys, clips, self.left_out_of(paths, keys), strict=True)
                if not out
            )
        return found
