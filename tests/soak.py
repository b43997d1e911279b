"""A soak: six sweeps one after another in one lab, with kills at random moments.

`python tests/soak.py` (make soak) runs the same sweeps in a lab that nobody disturbs, compares,
and prints what docs/robustness.md shows. About 15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from badinput.world import REPOSITORY, SPEC, World, lab_file, make_data

PROGRAM = "import sys; from birdlab.cli.app import main; sys.argv[0] = 'birdlab'; main()"
BASE = "base: tiny.yaml\nset: {train.length: {epochs: 4}, train.batch: 2, data.folds.n: 3}\n"
CELLS = "cells: {folds: [0, 1], seeds: [0]}\n"
RACED = "cells: {folds: all, seeds: [0, 1]}\n"
SWEEPS = {
    "grid": "grid: {train.optimizer.lr: [1e-3, 3e-3]}\n",
    "optuna": "optuna: {sampler: tpe, trials: 4, batch: 2, space: {train.optimizer.lr: "
    "{kind: log_uniform, low: 1e-3, high: 1e-2}}}\n",
    "stage": "grid:\n  arm:\n    base: {}\n    more: {stages.more: {start: train, "
    "train: {length: {epochs: 2}, optimizer: {lr: 1e-3}}}}\n",
    "one_factor": "one_factor: {train.loss.gamma: [1, 3], train.optimizer.lr: [2e-3]}\n",
    "leave_one_out": "leave_one_out:\n  loss: {train.loss.gamma: 1}\n"
    "  rate: {train.optimizer.lr: 2e-3}\n",
    "race": "grid: {train.optimizer.lr: [1e-3, 3e-2]}\ncontrol: lr=0.001\nrace: {}\n",
}
KILLS = {
    "driver SIGKILL": signal.SIGKILL,
    "driver SIGTERM": signal.SIGTERM,
    "driver SIGINT": signal.SIGINT,
    "cell SIGKILL": signal.SIGKILL,
}
KILL_AT = 0.15, 0.7
"""When kills come, in shares of the time that the sweep takes undisturbed."""

TOLERANCE = 1.1
"""The disk may hold so many times what it holds undisturbed."""


@dataclass
class Row:
    """One sweep of the soak: its kills, how often the command was given, and the disk after it."""

    sweep: str
    kills: list[str] = field(default_factory=list)
    commands: int = 0
    seconds: float = 0.0
    disk_mb: float = 0.0


@dataclass
class Soak:
    """A lab in which the sweeps run. `rng` chooses the moments of the kills, of which there are so
    many a sweep; `takes_s` has the seconds that each sweep takes undisturbed."""

    lab: Path
    kills: int = 0
    rng: random.Random = field(default_factory=random.Random)
    takes_s: dict[str, float] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    deck: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Run every sweep until it is done."""
        for name in SWEEPS:
            row = Row(name)
            self.rows.append(row)
            began = time.monotonic()
            while self._command(row):
                pass
            row.seconds = time.monotonic() - began
            row.disk_mb = size_mb(self.lab / "mlruns")
            said = f"{row.sweep}: {row.commands} commands, {row.seconds:.0f} s, {row.kills}"
            print(said, flush=True)

    def _command(self, row: Row) -> bool:
        """Give the command once; whether it has to be given again."""
        row.commands += 1
        log = self.lab / "log.txt"
        with log.open("a") as said:
            process = start(self.lab, "sweep", f"{row.sweep}.yaml", "--jobs", "2", out=said)
            kill = "cell"  # after which the command goes on, and may be killed again
            while kill.startswith("cell") and len(row.kills) < self.kills:
                kill = self._kill(process, self.takes_s[row.sweep])
                row.kills += [kill] if kill else []
            code = process.wait(600)
        if code and not row.kills:
            raise RuntimeError(log.read_text()[-3000:])
        if row.commands > self.kills + 3:
            raise RuntimeError(f"{row.sweep} does not end:\n{log.read_text()[-3000:]}")
        return code != 0

    def _kill(self, process: subprocess.Popen[str], takes_s: float) -> str:
        """Wait for a random moment and kill; what was killed, "" where it had ended before."""
        if not self.deck:  # every kind of kill comes up, in an order by chance
            self.deck = self.rng.sample(list(KILLS), len(KILLS))
        try:
            process.wait(self.rng.uniform(*KILL_AT) * takes_s)
        except subprocess.TimeoutExpired:
            name = self.deck.pop()
            target = process.pid
            if name.startswith("cell"):
                cells = cell_processes(self.lab)
                if not cells:
                    name = "driver SIGKILL"
                else:
                    target = self.rng.choice(cells).pid
            os.kill(target, KILLS[name])
            return name
        return ""


def start(lab: Path, *words: str, out: Any = subprocess.PIPE) -> subprocess.Popen[str]:
    """A birdlab command in a lab, in a process group of its own."""
    foreign = ("BIRDLAB_HOME", "MLFLOW_TRACKING_URI")
    environment = {k: v for k, v in os.environ.items() if k not in foreign}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=lab,
        env={**environment, "PYTHONPATH": str(REPOSITORY), "SOAK": str(lab)},
        stdout=out,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_signals,
    )


def _heed_signals() -> None:
    """Ctrl-C ends the child, also where a shell in the background started the soak."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def call(lab: Path, *words: str) -> tuple[int, str]:
    """The exit code of a command and what it said."""
    process = start(lab, *words)
    said = process.communicate(timeout=600)[0]
    return process.returncode, said


def our_processes(lab: Path) -> list[psutil.Process]:
    """Every process that a command in this lab started and that still runs."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SOAK") == str(lab):
                found.append(process)
        except psutil.Error:
            continue
    return found


def cell_processes(lab: Path) -> list[psutil.Process]:
    """The processes that train cells."""
    found = []
    for process in our_processes(lab):
        try:
            if "birdlab.sweep.child" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def size_mb(folder: Path) -> float:
    """What the files below a folder hold, in MB."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


def scores(lab: Path) -> dict[str, Any]:
    """Scores, by fold and of the run, of every record by spec id; every bit of them."""
    found = {}
    for path in sorted((lab / "mlruns" / "runs").glob("????????????.json")):
        record = json.loads(path.read_text())
        found[path.stem] = {"scores": record["scores"], "cells": record["cells"]}
    return json.loads(json.dumps(found, sort_keys=True), object_hook=_without_times)  # type: ignore[no-any-return]


def _without_times(tree: dict[str, Any]) -> dict[str, Any]:
    timed = ("seconds", "_at", "_s", "device", "hardware", "host", "resumed", "attempts")
    return {k: v for k, v in tree.items() if not k.endswith(timed)}


def check(kept: Path, killed: Path) -> list[tuple[str, str]]:
    """What was looked at after the soak and what was found, "yes" or what is wrong."""
    found = []
    time.sleep(15)  # a cell whose driver died saves and ends by itself
    left = our_processes(killed)
    found.append(("no process is left", "yes" if not left else f"no: {len(left)}"))
    one, two = scores(kept), scores(killed)
    odd = [k for k in sorted(one.keys() | two.keys()) if one.get(k) != two.get(k)]
    what = f"scores of {len(one)} runs equal those of the undisturbed lab, bit for bit"
    found.append((what, f"no: {', '.join(odd)}" if odd else "yes"))
    code, said = call(killed, "mlflow", "sync")
    code, said = call(killed, "mlflow", "sync")
    found.append(("the second `mlflow sync`", f"exit {code}: {_last(said)}"))
    code, said = call(killed, "gc", "--json")
    found.append(("`gc --json`", f"exit {code}: {said[:300]!r}"))
    code, said = call(killed, "gc", "--keep-days", "0", "--yes")
    found.append(("`gc --keep-days 0 --yes`", f"exit {code}: {_last(said)}"))
    code, said = call(killed, "doctor")
    found.append(("`doctor`", f"exit {code}: {_last(said)}"))
    parts = sorted(str(p.relative_to(killed)) for p in (killed / "mlruns").rglob("*.part"))
    found.append(("no `.part` is left after `gc`", "yes" if not parts else f"no: {parts}"))
    code, _ = call(kept, "gc", "--keep-days", "0", "--yes")
    a, b = size_mb(kept / "mlruns"), size_mb(killed / "mlruns")
    fits = "yes" if b <= TOLERANCE * a else "no"
    found.append(("disk after `gc`", f"{b:.1f} MB, undisturbed {a:.1f} MB: {fits}"))
    return found


def _last(said: str) -> str:
    """The last line of what a command said."""
    return [*said.strip().splitlines(), ""][0 if not said.strip() else -2]


def prepare(root: Path) -> tuple[Path, Path]:
    """Two labs with the same specs: one that is left alone, one for the kills."""
    world = World(root)
    make_data(world)
    labs = root / "undisturbed", root / "killed"
    for lab in labs:
        lab.mkdir()
        (lab / "birdlab.toml").write_text(lab_file(world).replace("jobs = 1", "jobs = 2"))
        (lab / "tiny.yaml").write_text(SPEC)
        for name, text in SWEEPS.items():
            (lab / f"{name}.yaml").write_text(
                BASE + f"name: {name}\n" + text + (RACED if name == "race" else CELLS)
            )
    return labs


def main() -> int:
    """The exit code: 1 where the two labs differ or something is left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=10)
    parser.add_argument("--kills", type=int, default=2, help="of each sweep")
    parser.add_argument("--folder", type=Path, help="keep the labs there")
    args = parser.parse_args()
    root = args.folder or Path(tempfile.mkdtemp(prefix="soak-"))
    root.mkdir(exist_ok=True)
    kept, killed = prepare(root)
    print(
        f"soak with seed {args.seed}, {args.kills} kills a sweep; first without kills", flush=True
    )
    undisturbed = Soak(kept)
    undisturbed.run()
    takes_s = {row.sweep: row.seconds for row in undisturbed.rows}
    soak = Soak(killed, args.kills, random.Random(args.seed), takes_s)
    soak.run()
    print("\n| sweep | kills | commands | disk after it, MB |\n|---|---|---:|---:|")
    for row in soak.rows:
        kills = ", ".join(row.kills) or "none"
        print(f"| {row.sweep} | {kills} | {row.commands} | {row.disk_mb:.1f} |")
    print("\n| looked at | found |\n|---|---|")
    found = check(kept, killed)
    for what, said in found:
        print(f"| {what} | {said} |")
    if args.folder is None:
        shutil.rmtree(root)
    bad = ("no", "exit 1", "exit 2")
    return any(said.startswith(bad) or said.endswith(": no") for _, said in found)


if __name__ == "__main__":
    sys.exit(main())
