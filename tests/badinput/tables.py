"""Cases of tables: metadata of every year, a table source, submissions, ledgers, foreign scores."""

from __future__ import annotations

import csv
import io
import os
import random
import shutil
from pathlib import Path

from .sandbox import Room
from .text import mutate_bytes, mutate_text, odd_text
from .world import SPEC, World

_CELLS = (
    "", " ", "nan", "NaN", "NA", "null", "None", "[]", "['']", "['a'", "[1, {}]", "['a', 'b'",
    "{'a': 1}", "__import__('os')",
    "../../outside/secret.wav", "/etc/passwd", "..", ".", "a/../../b.ogg", "C:\\a.ogg",
    "x/" * 300 + "a.ogg", "a\0b.ogg", "=1+1",
    "+cmd", "@SUM(A1)", "1e999", "-1e999", "inf", "-inf", "1e-320", "9" * 400, "-0", "north",
    "12,5", "91", "-181", "00:00:99",
    "25:61:61", "-5", "\u202eabc", "\ud83d\udc26", "e\u0301", "a\nb", 'a"b', "a;b", "\x1b[2J",
    "<b>", "  code  ", "CODE", "0123", "1e3",
    "true", "2024-02-30", "[" * 3000, "('a',)" * 500, "x" * 200_000,
)  # fmt: skip
_SPEC = SPEC.replace("base: birds", "base: set").replace("noise: [birds]", "noise: [set]")


def _spoil_csv(content: str, rng: random.Random) -> bytes:
    """A CSV with cells, columns or rows that are wrong, written as a good CSV."""
    rows = list(csv.reader(io.StringIO(content)))
    for _ in range(rng.choice((1, 1, 2, 4))):
        change = rng.randrange(9)
        row = rng.randrange(len(rows))
        if not rows[row]:
            continue
        column = rng.randrange(len(rows[row]))
        if change <= 3:
            rows[row][column] = rng.choice(_CELLS)
        elif change == 4:
            for line in rows[rng.choice((0, 1)) :]:
                line[column : column + 1] = rng.choice(([], [rng.choice(_CELLS)]))
        elif change == 5 and column < len(rows[0]):
            rows[0][column] = rng.choice(
                (rows[0][rng.randrange(len(rows[0]))], "Unnamed: 0", odd_text(rng))
            )
        elif change == 6:
            rows = rows[: rng.choice((0, 1, 2))] or [[]]
        elif change == 7:
            rows.insert(row, list(rows[row]) + [rng.choice(_CELLS)] * rng.choice((0, 1, 50)))
        else:
            rows[row] = rows[row][:column]
    out = io.StringIO()
    csv.writer(
        out, lineterminator="\n", quoting=rng.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    ).writerows(rows)
    return out.getvalue().encode("utf-8", errors="surrogatepass")


def spoil_table(path: Path, rng: random.Random) -> None:
    """Break a table where it lies: its cells, its text, its bytes, or its being a file at all."""
    how = rng.random()
    content = path.read_bytes()
    if path.suffix != ".csv":
        path.write_bytes(mutate_bytes(content, rng))
    elif how < 0.65:
        path.write_bytes(_spoil_csv(content.decode(), rng))
    elif how < 0.85:
        path.write_bytes(mutate_text(content.decode(), rng))
    elif how < 0.92:
        path.write_bytes(mutate_bytes(content, rng))
    else:
        _replace_file(path, rng)


def _replace_file(path: Path, rng: random.Random) -> None:
    path.unlink()
    change = rng.randrange(6)
    if change == 0:
        path.mkdir()
    elif change == 1:
        path.symlink_to(path.name)
    elif change == 2:
        os.mkfifo(path)
    elif change == 3:
        path.symlink_to("/dev/zero")
    elif change == 4:
        path.write_bytes(b"")


def table_year(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """The folder of a competition year of which one table is broken."""
    from layouts import YEARS

    folder = room.lab / "set"
    rng.choice(list(YEARS.values()))(folder)
    tables = sorted(
        p for p in folder.rglob("*") if p.suffix in (".csv", ".json", ".txt") and p.stat().st_size
    )
    spoil_table(rng.choice(tables[:2] if rng.random() < 0.5 else tables), rng)
    (room.lab / "birdlab.toml").write_text('jobs = 1\n[data]\nset = "set"\n')
    (room.lab / "tiny.yaml").write_text(_SPEC)
    return rng.choice(
        (
            ["data", "table", "tiny.yaml", "-o", "t.csv"],
            ["data", "audit", "tiny.yaml", "--no-audio"],
            ["run", "tiny.yaml", "--dry-run"],
        )
    )


def table_demo(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """A data set with real audio of which one table is broken."""
    part = rng.choice(("tiny", "tiny", "sites", "hours"))
    shutil.copytree(world.data / part, room.lab / "set")
    (room.lab / "set" / "demo.json").unlink(missing_ok=True)
    tables = sorted((room.lab / "set").glob("*.csv"))
    spoil_table(rng.choice(tables), rng)
    kind = rng.choice(
        (
            "",
            "",
            ', kind = "soundscapes"',
            ', kind = "background"',
            ', kind = "table", table = "train_metadata.csv"',
        )
    )
    tiny = f'birds = "{world.data / "tiny"}"\n'
    (room.lab / "birdlab.toml").write_text(
        f'jobs = 1\n[data]\nset = {{path = "set"{kind}}}\n{tiny}'
    )
    base, evaluate = (
        ("set", "") if part == "tiny" else ("birds", "evaluate: {soundscapes: [set]}\n")
    )
    (room.lab / "tiny.yaml").write_text(SPEC.replace("base: birds", f"base: {base}") + evaluate)
    return rng.choice(
        (
            ["data", "table", "tiny.yaml", "-o", "t.csv"],
            ["data", "audit", "tiny.yaml", "--no-audio"],
            ["run", "tiny.yaml", "--dry-run"],
            ["data", "nocall", "set", "--out", "quiet"],
        )
    )


_KAGGLE = """\
fileName,date,description,status,publicScore,privateScore
submission.csv,2025-05-01 10:00:00,{run} first,SubmissionStatus.COMPLETE,0.812,0.801
submission.csv,2025-05-02 10:00:00,{run},complete,0.82,
submission.csv,2025-05-03 10:00:00,no id,error,,
"""
_FOREIGN = """\
exp,cv_mean,lb,private,when,notes
exp001,0.71,0.80,0.79,2025-05-01,a first try
exp002,0.73,0.82,0.78,2025-05-02,"longer, deeper"
"""


def ledger(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """Leaderboard scores: a table of Kaggle, a foreign ledger, the lab's own, or odd words."""
    world.copy_lab(room.lab, "runs", "sweeps", "ledger.jsonl", "models")
    run = next(p.stem for p in sorted((room.lab / "mlruns" / "runs").glob("????????????.json")))
    file = room.lab / "scores.csv"
    change = rng.randrange(4)
    if change == 0:
        file.write_text(_KAGGLE.format(run=run))
        spoil_table(file, rng)
        return ["lb", "import", "scores.csv", "--metric", "padded_cmap"]
    if change == 1:
        file.write_text(_FOREIGN)
        spoil_table(file, rng)
        words = [
            "lb",
            "import",
            "scores.csv",
            "--metric",
            "macro_auc",
            "--competition",
            "birdclef-2025",
        ]
        maps = (
            "name=exp",
            "cv/macro_auc=cv_mean",
            "public=lb",
            "private=private",
            "date=when",
            odd_text(rng)[:500],
            "x=y=z",
        )
        for said in rng.sample(maps, rng.randrange(1, 6)):
            words += ["--map", said.replace("\0", "")]
        return words
    own = room.lab / "mlruns" / "ledger.jsonl"
    own.write_bytes(mutate_text(own.read_text(), rng))
    return rng.choice(
        (
            ["lb", "list"],
            ["lb", "pick"],
            ["lb", "validators"],
            ["runs"],
            ["show", "lr=0.001"],
            ["lb", "select", "1"],
            ["lb", "add", run, "--public", rng.choice(("nan", "2", "-1", "0.5", "inf"))],
        )
    )


def foreign(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """`birdlab import --oof`: a table of predictions that is broken."""
    import pandas as pd

    world.copy_lab(room.lab, "runs", "cells", "sweeps")
    names = sorted(
        p.relative_to(world.data / "tiny" / "train_audio")
        for p in (world.data / "tiny").rglob("train_audio/*/*")
    )
    classes = sorted({str(name.parent) for name in names})
    rows = [
        {"recording": str(name), "fold": i % 2, "seed": 0}
        | {c: 0.1 + 0.8 * (str(name.parent) == c) for c in classes}
        for i, name in enumerate(names)
    ]
    table = pd.DataFrame(rows)
    file = room.lab / rng.choice(("oof.csv", "oof.csv", "oof.parquet"))
    if file.suffix == ".csv":
        table.to_csv(file, index=False)
    else:
        table.to_parquet(file)
    spoil_table(file, rng)
    return ["import", "--oof", file.name, "--like", "lr=0.001", "--name", "theirs"]
