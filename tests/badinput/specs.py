"""Cases of spec files: broken YAML, broken fields, words of `--set`, and the lab file."""

from __future__ import annotations

import os
import random
import re
from functools import lru_cache

from ruamel.yaml import YAML

from .sandbox import Room
from .text import mutate_text, odd_text
from .values import as_lines, as_yaml, draw_values, mutate_tree
from .world import REPOSITORY, SPEC, SWEEP, World, lab_file

_ENSEMBLE = "members: ['lr=0.001', 'lr=0.003']\nblend: power:2\nshares: fitted\n"
_DOTTED = (
    "train.optimizer.lr", "train.batch", "augment.or_mixup.p", "augment", "stages.tune",
    "stages.pretrain.data",
    "cells.seeds", "cells.folds", "data.base", "data.clean", "model.backbone",
    "model.frontend.hop", "competition",
    "evaluate.context_s", "output.clip", "train.length.epochs", "postprocess",
    "train.optimiser.lr", "", ".", "a..b",
    "__class__", "train.__dict__", "name", "base", "grid", "data.folds.n", "train",
    "model.head.kind",
)  # fmt: skip
_BASES = (
    "self.yaml", "tiny.yaml", "../outside/secret.yaml", "../../etc/passwd", "/etc/passwd",
    "/dev/zero", ".", "",
    "https://example.org/x.yaml", "~/x.yaml", "a\0b", "no.yaml", "pipe.yaml", "cycle.yaml",
    "x" * 5000,
)  # fmt: skip


@lru_cache
def _seeds() -> tuple[tuple[str, str], ...]:
    """Name and text of every spec to start from."""
    files = sorted((REPOSITORY / "experiments").glob("*.yaml"))
    own = (("tiny.yaml", SPEC), ("sweep.yaml", SWEEP), ("ensemble.yaml", _ENSEMBLE)) * 4
    return own + tuple((path.name, _renamed(path.read_text())) for path in files)


def _renamed(text: str) -> str:
    """A spec on the small data sets: the demo would be generated, which takes longer than 10 s."""
    return re.sub(r"(?<!competition: )(?<!project: )\bdemo\b", "birds", text)


@lru_cache
def _tree(text: str) -> object:
    return YAML(typ="safe", pure=True).load(text)


def _place_specs(room: Room, world: World) -> None:
    (room.lab / "birdlab.toml").write_text(lab_file(world))
    (room.lab / "tiny.yaml").write_text(SPEC)
    baseline = REPOSITORY / "experiments" / "baseline.yaml"
    (room.lab / "baseline.yaml").write_text(_renamed(baseline.read_text()))


def _command(text: str, name: str, rng: random.Random) -> list[str]:
    """What a person would type with such a file, and now and then what they would not."""
    if "members:" in text and rng.random() < 0.9:
        return rng.choice((["ensemble", name], ["promote", name, "--dry-run"]))
    is_sweep = "grid" in text or "optuna" in text or "\nset:" in text
    if rng.random() < 0.05:
        is_sweep = not is_sweep
    if is_sweep:
        return ["sweep", name, "--dry-run"]
    return rng.choice(
        (
            ["run", name, "--dry-run"],
            ["run", name, "--dry-run"],
            ["run", name, "--dry-run"],
            ["data", "table", name, "-o", "table.csv"],
            ["data", "audit", name, "--no-audio"],
            ["sweep", name, "--grid", "train.optimizer.lr=1e-3,3e-3", "--dry-run"],
            ["pseudo", name],
        )
    )


def spec_text(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """A spec file that an editor, a disk or an attacker broke."""
    _place_specs(room, world)
    name, text = rng.choice(_seeds())
    broken = mutate_text(text, rng)
    if "members" in text:
        world.copy_lab(room.lab, "runs", "cells", "ledger.jsonl")
    (room.lab / name).write_bytes(broken)
    return _command(text, name, rng)


def spec_value(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """A spec file of good YAML in which a field holds what it should not."""
    _place_specs(room, world)
    name, text = rng.choice(_seeds())
    if "members" in text:
        world.copy_lab(room.lab, "runs", "cells", "ledger.jsonl")
    tree = mutate_tree(_tree(text), rng, campaign)
    (room.lab / name).write_text(as_lines(tree), encoding="utf-8", errors="surrogatepass")
    return _command(text, name, rng)


def spec_base(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """A spec whose base is itself, elsewhere, no file, or a pipe; sweeps without an end."""
    _place_specs(room, world)
    os.mkfifo(room.lab / "pipe.yaml")
    (room.lab / "cycle.yaml").write_text("base: self.yaml\n")
    text = f"base: {as_yaml(rng.choice(_BASES))}\n"
    change = rng.randrange(5)
    if change == 0:
        sizes = rng.choice(((1000, 1000), (100, 100, 100), (10,) * 9, (20_000,)))
        axes = {f"{rng.choice(_DOTTED)}": list(range(n)) for n in sizes}
        text += f"grid: {as_yaml(axes)}\n"
    elif change == 1:
        trials = rng.choice((10**9, -1, 0, 1.5, 10**30))
        space = {
            "kind": rng.choice(("uniform", "log_uniform", "int", "choice")),
            "low": rng.choice((-1, 0, 1e-300, 1e308)),
            "high": rng.choice((-5, 0, 1, 1e309)),
        }
        text += f"optuna: {{trials: {trials}, space: {{train.optimizer.lr: {as_yaml(space)}}}}}\n"
    elif change == 2:
        text += f"set: {as_yaml({rng.choice(_DOTTED): rng.choice(draw_values(campaign))})}\n"
    elif change == 3:
        text += (
            f"then: {as_yaml(rng.choice(draw_values(campaign)))}\ngrid: {{train.batch: [2, 4]}}\n"
        )
    (room.lab / "self.yaml").write_text(text, encoding="utf-8", errors="surrogatepass")
    return [rng.choice(("run", "sweep", "sweep")), "self.yaml", "--dry-run"]


def spec_set(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """A good spec with words of `--set` and `--grid` that do not fit."""
    _place_specs(room, world)
    name = rng.choice(_DOTTED)
    value = rng.choice((as_yaml(rng.choice(draw_values(campaign))), odd_text(rng)))
    sign = rng.choice(("=", "=", "=", "=", "", "==", " = "))
    option = rng.choice(("--set", "--set", "--grid"))
    command = "sweep" if option == "--grid" else "run"
    word = f"{name}{sign}{value}".replace("\0", "").encode("utf-8", "replace").decode()
    return [command, "tiny.yaml", option, word[:100_000], "--dry-run"]


_LAB_COMMANDS = (
    ["runs"], ["doctor"], ["status"], ["run", "tiny.yaml", "--dry-run"], ["data", "table",
    "tiny.yaml", "-o", "t.csv"],
    ["models"], ["gc"], ["lb", "list"],
)  # fmt: skip
_LAB_MORE = """
[weights]
net = "weights/net.safetensors"
[teachers.big]
path = "big.onnx"
classes = "classes.txt"
window_s = 5
sample_rate_hz = 32000
[slurm]
partition = "gpu"
time_min = 10
options = {nice = 5}
"""


def lab_text(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """A lab file whose TOML, names, paths or numbers are broken."""
    _place_specs(room, world)
    text = lab_file(world).replace(
        "jobs = 1\n", "jobs = 1\nreaders = 1\ncores = 2\nwaveforms = 'store'\n"
    )
    if rng.random() < 0.3:
        path = rng.choice(
            ("../outside", "/nowhere", "tiny.yaml", "", ".", "a\\u0000b", "~", "/dev", "/proc/self")
        )
        kind = rng.choice(
            (
                "",
                ', kind = "table"',
                ', kind = "soundscapes"',
                ', kind = "background"',
                ', kind = "xenocanto"',
                ', kind = "x"',
                ", table = 3",
            )
        )
        text = text.split("[data]")[0] + f'[data]\nbirds = {{path = "{path}"{kind}}}\n'
    if rng.random() < 0.3:
        text += _LAB_MORE
    name = rng.choice(("birdlab.toml", "birdlab.toml", "birdlab.local.toml"))
    (room.lab / name).write_bytes(mutate_text(text, rng))
    return rng.choice(_LAB_COMMANDS)
