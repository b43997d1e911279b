"""Cases of what birdlab itself wrote and something broke: records, cells, models, archives."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import tarfile
from pathlib import Path

from .sandbox import Room
from .text import mutate_bytes, mutate_text, odd_text
from .values import as_yaml, draw_values, mutate_tree
from .world import World

_READERS = (
    ["runs"], ["runs", "--json"], ["runs", "--csv"], ["show", "lr=0.001"], ["show", "-1",
    "--json"], ["compare", "lr=0.001", "lr=0.003"],
    ["diff", "lr=0.001", "lr=0.003"], ["gc"], ["doctor"], ["status"], ["bets"], ["ideas"],
    ["report", "lr", "-o", "r.html"], ["rescore", "--all"],
    ["value", "lr"], ["why", "lr=0.001", "lr=0.003", "--no-page"], ["suspects", "--sweep", "lr"],
    ["ensemble", "lr=0.001", "lr=0.003"],
    ["rerun", "-1", "--dry-run"], ["extend", "-1", "--seeds", "2", "--dry-run"], ["promote", "-1",
    "--dry-run"], ["lb", "list"], ["lb", "pick"],
    ["export", "-1", "-o", "out.tar"], ["sweep", "sweep.yaml", "--dry-run"], ["run", "tiny.yaml",
    "--dry-run"],
)  # fmt: skip


def spoil_file(path: Path, rng: random.Random, campaign: int) -> None:
    """Break a file of a store: its data where it is JSON, else its text or bytes."""
    content = path.read_bytes()
    path.unlink()  # it may be a link
    is_text = path.suffix in (".json", ".jsonl", ".csv", ".txt")
    if path.suffix == ".json" and rng.random() < 0.7:
        tree = mutate_tree(json.loads(content), rng, campaign)
        path.write_text(json.dumps(tree))
    elif is_text and rng.random() < 0.7:
        path.write_bytes(mutate_text(content.decode(), rng))
    elif rng.random() < 0.9:
        path.write_bytes(mutate_bytes(content, rng))
    elif rng.random() < 0.5:
        path.mkdir()


def record(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """A lab of which one file of the stores is broken, and a command that reads it."""
    world.copy_lab(
        room.lab, "runs", "cells", "sweeps", "drivers", "bets", "costs.json", "ledger.jsonl"
    )
    files = [p for p in sorted((room.lab / "mlruns").rglob("*")) if p.is_file()]
    small = [p for p in files if p.suffix in (".json", ".jsonl")]
    if rng.random() < 0.25:
        spoil_file(rng.choice(files), rng, campaign)
    else:
        spoil_file(rng.choice(small), rng, campaign)
    return rng.choice(_READERS)


_MOVE = {
    "id": "1", "at": "2026-01-01", "kind": "set", "alias": "champion", "model": "0123456789abcdef",
    "before": "", "version": "", "why": "",
}  # fmt: skip


def model(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """A promoted model whose card, graph, aliases or history are broken."""
    from .audio import write_noise

    world.copy_lab(room.lab, "runs", "models")
    folder = room.lab / "mlruns" / "models"
    (folder / "history.jsonl").write_text(json.dumps(_MOVE) + "\n")
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    chosen = rng.choice(files)
    onnx = next(p for p in files if p.suffix == ".onnx")
    if chosen == onnx and rng.random() < 0.6:
        _spoil_metadata(onnx, rng, campaign)
    else:
        spoil_file(chosen, rng, campaign)
    (room.lab / "scapes").mkdir()
    write_noise(room.lab / "scapes" / "a_1.ogg", 2, 8_000, 1)
    return rng.choice(
        (
            ["models"],
            ["models", "--json"],
            ["models", "show"],
            ["models", "show", "--json"],
            ["models", "rollback"],
            ["models", "alias", "0123456789abcdef", odd_text(rng)[:300].replace("\0", "")],
            ["lb", "add", "--bundle", "@champion", "--public", "0.5"],
            ["predict", "scapes", "-o", "s.csv", "--sessions", "1", "--threads", "1"],
            ["predict", "scapes", "-o", "s.csv", "--sessions", "1", "--threads", "1"],
            ["doctor"],
        )
    )


def _spoil_metadata(path: Path, rng: random.Random, campaign: int) -> None:
    """An ONNX file that says something else of itself, or keeps its data elsewhere."""
    import onnx

    graph = onnx.load(path)
    path.unlink()
    if rng.random() < 0.3:
        for tensor in graph.graph.initializer[:1]:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            entry = tensor.external_data.add()
            entry.key, entry.value = (
                "location",
                rng.choice(("../../../../outside/secret.txt", "/etc/passwd", "x")),
            )
    for entry in graph.metadata_props:
        if rng.random() < 0.4:
            entry.value = (
                rng.choice((odd_text(rng), as_yaml(rng.choice(draw_values(campaign)))))
                .encode("utf-8", "replace")
                .decode()
            )
    path.write_bytes(graph.SerializeToString())


_EVIL = (
    "../outside/secret.txt", "/etc/birdlab-was-here", "cells/../../x",
    "cells/0123456789abcdef/../../../x", "runs/x.json", "birdlab.toml",
    "mlruns/ledger.jsonl", "cells/0123456789abcdef/a\0b", "sweeps/" + "x" * 300 + ".json",
    "runs/0123456789ab.json", "./x", "a\\..\\x",
)  # fmt: skip


def archive(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """An archive of runs that was cut, changed, or made to write where it must not."""
    (room.lab / "birdlab.toml").write_text((world.lab / "birdlab.toml").read_text())
    path = room.lab / "runs.tar"
    change = rng.randrange(4)
    if change == 0:
        path.write_bytes(mutate_bytes(world.archive.read_bytes(), rng))
    elif change == 1:
        path.write_bytes(
            rng.choice((b"", b"PK\x03\x04", b"\x1f\x8b\x08", b"7z\xbc\xaf")) + rng.randbytes(200)
        )
    else:
        _rewrite(world.archive, path, rng, campaign)
    return ["import", "runs.tar"]


def _rewrite(source: Path, target: Path, rng: random.Random, campaign: int) -> None:
    """An archive with a right list of contents in which a file, or its entry, is hostile."""
    with tarfile.open(source) as tar:
        members = [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]
    manifest = json.loads(members.pop(0)[1])
    at = rng.randrange(len(members))
    name, content = members[at]
    if rng.random() < 0.5 and name.endswith(".json"):
        content = json.dumps(mutate_tree(json.loads(content), rng, campaign)).encode()
    elif rng.random() < 0.4:
        content = mutate_bytes(content, rng)
    if rng.random() < 0.4:
        name = rng.choice(_EVIL)
    members[at] = (name, content)
    manifest["files"] = {
        n: {"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in members
    }
    if rng.random() < 0.3:
        manifest = mutate_tree(manifest, rng, campaign)
    with tarfile.open(
        target, rng.choice(("w", "w", "w", "w:gz")), format=tarfile.PAX_FORMAT
    ) as tar:
        _add(tar, "birdlab-export.json", json.dumps(manifest).encode())
        for name, content in members:
            _add(tar, name, content, rng)


def _add(tar: tarfile.TarFile, name: str, content: bytes, rng: random.Random | None = None) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    if rng is not None and rng.random() < 0.1:
        info.type = rng.choice(
            (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)
        )
        info.linkname, info.size, content = "../outside/secret.txt", 0, b""
    tar.addfile(info, io.BytesIO(content))


_WORDS = (
    ["show"], ["diff", "-1"], ["compare", "-1"], ["runs", "--where"], ["runs", "--sort"], ["runs",
    "--name"], ["runs", "--group"], ["report"],
    ["why", "-1"], ["value"], ["suspects", "--sweep"], ["extend", "-1", "--dry-run", "--folds"],
    ["extend", "-1", "--dry-run", "--seeds"],
    ["rescore", "--validator"], ["rescore", "-1", "--metric"], ["gc", "--keep-days"], ["lb",
    "select"], ["lb", "remove"], ["lb", "add", "-1", "--public"],
    ["lb", "add", "-1", "--public", "0.5", "--date"], ["lb", "add", "-1", "--public", "0.5",
    "--note"], ["models", "show"], ["rerun", "--dry-run"],
    ["export", "-1", "-o"], ["new", "experiment"], ["new", "sweep"], ["new"], ["init"], ["data",
    "nocall", "birds", "--out"], ["budget", "--model"],
    ["post", "-1", "--step"], ["stop"], ["predict"], ["predict", "scapes", "--model"],
    ["ensemble"], ["ensemble", "lr=0.001", "lr=0.003", "--blend"],
    ["run", "--dry-run"], ["sweep", "--dry-run"], ["import"], ["lb", "import", "--metric", "x"],
    ["data", "table", "tiny.yaml", "-o"], [],
)  # fmt: skip


def words(room: Room, world: World, rng: random.Random, campaign: int) -> list[str]:
    """Names, numbers and paths on the command line that nobody should type."""
    world.copy_lab(room.lab, "runs", "cells", "sweeps", "ledger.jsonl", "models")
    (room.lab / "scapes").mkdir()
    shutil.copy(next((world.data / "sites").rglob("*.ogg")), room.lab / "scapes" / "a_1.ogg")
    odd = odd_text(rng) if rng.random() < 0.6 else str(rng.choice(draw_values(campaign)))
    if odd.startswith(("/", "~", "..")) or "/../" in odd:  # a user may write where they say
        odd = "lab/../x"
    odd = odd.replace("\0", "").encode("utf-8", "replace").decode()[:100_000]
    return [*rng.choice(_WORDS), *([odd] * rng.choice((1, 1, 1, 2)))]
