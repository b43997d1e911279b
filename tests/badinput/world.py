"""What all cases copy from: small data sets, a lab with runs, a ledger and a promoted model."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
_LINK_BYTES = 1 << 16
_DEMO = {
    "seed": 1, "n_species": 4, "n_recordings": 24, "rarest": 3, "n_recordists": 6,
    "n_backgrounds": 2, "n_soundscapes": 4, "soundscape_s": 10, "recording_s": (1.0, 3.0),
    "background_s": (2.0, 3.0), "secondary_share": 0.5,
}  # fmt: skip
SPEC = """\
competition: demo
data:
  base: birds
  clean: [{dedupe: recording_id}, {duration: {min_s: 0.2}}]
  folds: {kind: stratified, n: 2, seed: 42}
model:
  backbone: mobilenetv3_small_050
  frontend: {kind: log_mel, n_mels: 32, hop: 2048}
  head: {kind: sed_attention, hidden: 16}
train:
  window_s: 2
  length: {steps: 2}
  batch: 4
  optimizer: {kind: adam, lr: 3e-3}
  schedule: {kind: cosine, min_lr: 1e-6, per: epoch}
  loss: {kind: focal, gamma: 2, alpha: 0.25}
  sampler: {kind: inverse_power, power: 0.5}
augment:
  - or_mixup: {p: 0.5}
  - background: {p: 0.5, noise: [birds], level: [0.05, 0.5]}
  - random_filtering: {p: 0.5}
  - spec_mask: {p: 0.3}
cells: {folds: all, seeds: [0]}
"""
SWEEP = """\
base: tiny.yaml
name: lr
grid:
  train.optimizer.lr: [1e-3, 3e-3]
cells: {folds: [0, 1], seeds: [0]}
expect:
  - {best: [3e-3], sure: 0.8}
"""


@dataclass(frozen=True)
class World:
    """Folders to copy from; nothing is written to them once they are made."""

    root: Path

    @property
    def data(self) -> Path:
        """The data sets `tiny`, `abroad`, `sites` and `hours`."""
        return self.root / "data"

    @property
    def lab(self) -> Path:
        """A lab in which a sweep was run."""
        return self.root / "lab"

    @property
    def model(self) -> Path:
        """An ONNX file as promotion writes it, for 8 kHz and 1 s windows."""
        return self.root / "model.onnx"

    @property
    def archive(self) -> Path:
        """What `birdlab export` wrote of the lab."""
        return self.root / "runs.tar"

    def copy_lab(self, target: Path, *parts: str) -> None:
        """Copy the lab's files and the named parts of its stores; large files are linked."""
        for path in self.lab.iterdir():
            if path.is_file():
                shutil.copy(path, target)
        for part in parts:
            source = self.lab / "mlruns" / part
            copy = target / "mlruns" / part
            copy.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, copy, copy_function=_copy)
            elif source.is_file():
                shutil.copy(source, copy)


def lab_file(world: World) -> str:
    """The text of a lab file that names the small data sets, so that none is generated."""
    named = {
        "birds": "tiny",
        "demo": "tiny",
        "birds-abroad": "abroad",
        "birds-environment": "hours",
        "birds-soundscapes": "sites",
        "birds-unlabelled": "hours",
        "birds-phones": "sites",
        "birds-mislabelled": "tiny",
    }
    lines = [f'{name} = "{world.data / folder}"' for name, folder in named.items()]
    return "jobs = 1\n[data]\n" + "\n".join(lines) + "\n"


def build_world(root: Path) -> World:
    """Make everything, which takes about ten seconds; what is there already is kept."""
    world = World(root)
    if world.archive.is_file():
        return world
    make_data(world)
    world.lab.mkdir()
    (world.lab / "birdlab.toml").write_text(lab_file(world))
    (world.lab / "tiny.yaml").write_text(SPEC)
    (world.lab / "sweep.yaml").write_text(SWEEP)
    _train(world)
    for arm, public in (("lr=0.001", "0.71"), ("lr=0.003", "0.74")):
        _birdlab(world, "lb", "add", arm, "--public", public, "--private", "0.7")
    _promote(world)
    _birdlab(world, "export", "--sweep", "lr", "--no-weights", "-o", str(world.archive))
    return world


def make_data(world: World) -> None:
    """Make the four small data sets, but those that are there."""
    from birdlab.data.demo import DemoSettings, build_demo

    settings = DemoSettings(**_DEMO)  # type: ignore[arg-type]
    abroad = replace(settings, seed=2, n_species=3, n_recordings=9, n_backgrounds=0)
    made = {
        "tiny": (settings, "competition"),
        "abroad": (abroad, "competition"),
        "sites": (settings, "soundscapes"),
        "hours": (settings, "unlabelled"),
    }
    for name, (how, part) in made.items():
        if not (world.data / name).is_dir():
            build_demo(world.data / name, how, part=part, jobs=1)  # type: ignore[arg-type]


def _train(world: World) -> None:
    """Run the sweep in this process, which is quicker than child processes for so few steps."""
    from birdlab.lab import open_lab
    from birdlab.spec.sweep import load_sweep
    from birdlab.sweep.driver import run_sweep
    from birdlab.tasks import InProcess

    result = run_sweep(load_sweep(world.lab / "sweep.yaml"), open_lab(world.lab), InProcess())
    if result.failed:
        raise RuntimeError(f"the sweep failed: {result.failed}")


def _promote(world: World) -> None:
    """A model in the folder of promoted models, under an alias, as promotion leaves it."""
    from tinymodels import build_card, save_tiny_model

    save_tiny_model(world.model, build_card(2, weights=[1, 2]))
    folder = world.lab / "mlruns" / "models" / "0123456789abcdef"
    folder.mkdir(parents=True)
    shutil.copy(world.model, folder / "model.onnx")
    run = next(p.stem for p in (world.lab / "mlruns" / "runs").glob("????????????.json"))
    card = {
        "model": folder.name, "spec_ids": [run], "runs": ["lr=0.001"],
        "classes": ["zebfin", "1234"],
        "n_members": 2, "weights": "folds", "blend": "mean", "postprocess": [],
        "score": {"metric": "padded_cmap", "value": 0.8, "folds": 2, "rows": 24},
    }  # fmt: skip
    (folder / "card.json").write_text(json.dumps(card))
    (folder.parent / "aliases.json").write_text(json.dumps({"champion": folder.name}))


def _birdlab(world: World, *words: str) -> None:
    """Run a command in this process, which has most of what it imports already."""
    from commandline import print_of

    from birdlab.lab import open_lab

    before = dict(os.environ)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        print_of(open_lab(world.lab), *words)
    finally:
        os.environ.clear()
        os.environ.update(before)


def _copy(source: str, target: str) -> None:
    if Path(source).stat().st_size > _LINK_BYTES:
        os.link(source, target)
    else:
        shutil.copy(source, target)
