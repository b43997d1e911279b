"""Label suspects where it is known which labels are wrong: how many are found, against chance.

Networks are simulated by what they say: `python tests/suspect_simulations.py` prints the table of
docs/suspects.md. What is not simulated: networks that learn from the wrong labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from birdlab.evaluate.evidence import Cell, FoldTable
from birdlab.study.suspects import Suspects, find_suspects

SEED, N_WORLDS = 9, 100
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Recordings, networks and errors; levels are logits.

    `gap`: how far the logit of a species is above its rest when it is heard well; `shared`: the SD
    of what all networks get wrong alike in a recording, `own`: of what one does alone; `faint`: the
    share of recordings in which the named bird is hardly heard; `unnamed`: the share in which
    another bird sings too that no label names; `planted`: the share of wrong labels, half of them
    those of a species that sounds alike, whose logit is `alike` of the gap above its rest.
    """

    n_recordings: int = 250
    n_classes: int = 12
    n_runs: int = 4
    n_seeds: int = 2
    gap: float = 4.0
    shared: float = 1.0
    own: float = 1.0
    faint: float = 0.1
    unnamed: float = 0.1
    planted: float = 0.08
    alike: float = 0.5


@dataclass(frozen=True)
class Drawn:
    """What networks say by run and (fold, seed), and which recordings have a wrong label."""

    tables: dict[str, dict[Cell, FoldTable]]
    wrong: frozenset[str]


def draw_world(world: World, rng: np.random.Generator) -> Drawn:
    """One data set and its networks, three folds; a class of a network has its own scale."""
    n, c = world.n_recordings, world.n_classes
    weights = 0.75 ** np.arange(c)
    true = np.concatenate(
        [np.repeat(np.arange(c), 6), rng.choice(c, n - 6 * c, p=weights / weights.sum())]
    )
    given = _plant(world, true, rng)
    heard = np.where(rng.random(n) < world.faint, 0.15, rng.uniform(0.6, 1.2, n))
    level = np.zeros((n, c))
    level[np.arange(n), true ^ 1] = world.alike * heard
    level[np.arange(n), true] = heard
    extra = np.flatnonzero(rng.random(n) < world.unnamed)
    level[extra, rng.integers(0, c, len(extra))] = rng.uniform(0.6, 1.2, len(extra))
    level = world.gap * level + rng.normal(0, world.shared, (n, c))
    names = [f"r{i:03d}.ogg" for i in range(n)]
    fold = rng.permutation(n) % 3
    tables: dict[str, dict[Cell, FoldTable]] = {}
    for run in range(world.n_runs):
        tables[f"run {run}"] = {}
        for seed in range(world.n_seeds):
            logits = level + rng.normal(0, world.own, (n, c))
            logits = rng.uniform(0.5, 1.5, c) * logits - rng.uniform(2, 5, c)
            for k in range(3):
                rows = np.flatnonzero(fold == k)
                tables[f"run {run}"][k, seed] = FoldTable(
                    tuple(names[i] for i in rows),
                    tuple(f"s{i:02d}" for i in range(c)),
                    given[rows],
                    given[rows][:, None] == np.arange(c),
                    expit(logits[rows]).astype(np.float32),
                )
    return Drawn(tables, frozenset(names[i] for i in np.flatnonzero(given != true)))


def _plant(
    world: World, true: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The labels as given: of the wrong ones every second is that of the look-alike."""
    given = true.copy()
    for place, i in enumerate(rng.permutation(len(true))[: round(world.planted * len(true))]):
        others = [k for k in range(world.n_classes) if k not in (true[i], true[i] ^ 1)]
        given[i] = true[i] ^ 1 if place % 2 else rng.choice(others)
    return given


@dataclass(frozen=True)
class Found:
    """Means over data sets, those with a list where a list is measured.

    How long it is, how many of it are wrong, how many of the wrong ones it holds; how many are
    wrong among the first 10, and among the first k, where k is the number of wrong labels; by the
    loss of one network; by chance; in how many data sets there is evidence enough.
    """

    listed: float
    right: float
    held: float
    first10: float
    first_k: float
    by_loss: float
    by_chance: float
    enough: float


def simulate(world: World, n_worlds: int, seed: int = SEED) -> Found:
    """The figures over `n_worlds` data sets; equal seeds give equal figures."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_worlds):
        drawn = draw_world(world, rng)
        found = find_suspects(drawn.tables)
        rows.append(_measure(found, drawn))
    columns = [
        [value for value in column if value is not None] for column in zip(*rows, strict=True)
    ]
    return Found(*(float(np.mean(column)) if column else np.nan for column in columns))


def _measure(found: Suspects, drawn: Drawn) -> tuple[float | None, ...]:
    """The fields of `Found` for one data set; None where there is no list to measure."""
    k = len(drawn.wrong)
    listed = list(found.table["filename"])
    ranked = list(found.ranked["filename"]) if found.enough else []
    hits = sum(name in drawn.wrong for name in listed)
    by_loss = _order_by_loss(drawn)

    def share(names: list[str], most: int) -> float:
        return sum(n in drawn.wrong for n in names[:most]) / most

    return (
        len(listed),
        hits / len(listed) if listed else None,
        hits / k if k and found.enough else None,
        share(ranked, 10) if found.enough else None,
        share(ranked, k) if k and found.enough else None,
        share(by_loss, k) if k else None,
        k / len(by_loss),
        float(found.enough),
    )


def _order_by_loss(drawn: Drawn) -> list[str]:
    """The recordings by how improbable one network calls the label, the least probable first."""
    run = next(iter(drawn.tables.values()))
    said = [
        (float(table.probs[i, table.primary[i]]), name)
        for (_, seed), table in run.items()
        if seed == 0
        for i, name in enumerate(table.recordings)
    ]
    return [name for _, name in sorted(said)]


def main() -> None:
    """Print the figures of docs/suspects.md."""
    base = World()
    cases = {
        "4 runs x 2 seeds": base,
        "3 runs x 1 seed": replace(base, n_runs=3, n_seeds=1),
        "8 runs x 3 seeds": replace(base, n_runs=8, n_seeds=3),
        "weaker networks": replace(base, gap=2.5),
        "look-alikes nearly the same": replace(base, alike=0.8),
        "twice as many hard recordings": replace(base, faint=0.2, unnamed=0.2),
        "no wrong label": replace(base, planted=0.0),
        "networks that know little": replace(base, gap=1.5),
        "networks that know nothing": replace(base, gap=0.2),
    }
    print(
        f"{'':30}{'listed':>8}{'wrong':>8}{'held':>8}{'in 10':>8}{'in k':>8}{'loss':>8}"
        f"{'chance':>8}{'enough':>8}"
    )
    for name, world in cases.items():
        f = simulate(world, N_WORLDS)
        shares = (f.right, f.held, f.first10, f.first_k, f.by_loss, f.by_chance, f.enough)
        print(f"{name:30}{f.listed:8.1f}" + "".join(f"{share:8.2f}" for share in shares))


if __name__ == "__main__":
    main()
