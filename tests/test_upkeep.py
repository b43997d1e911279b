"""Upkeep: what is freed and what never is, whether a lab is well, runs that move."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import MakeLab
from filelock import FileLock

import birdlab
from birdlab.cellfiles import WEIGHTS
from birdlab.cli import app as entry
from birdlab.errors import BirdlabError, DataError, LabError, LedgerError
from birdlab.jobwriter import job_folder, save_job
from birdlab.lab import Lab, open_lab, write_whole
from birdlab.plan import plan_experiment
from birdlab.recorded import link_path, load_json, record_paths
from birdlab.run import build_store, run_experiment
from birdlab.spec import load_spec
from birdlab.spec.bets import BetSpec
from birdlab.spec.identity import digest
from birdlab.study.bet_file import bets_path, load_placed, place_bets
from birdlab.study.ledger import append_row, load_ledger
from birdlab.tracking.drivernotes import DriverNote
from birdlab.tracking.drivers import Driver
from birdlab.tracking.index import load_cells, load_sweeps, sweep_path
from birdlab.tracking.resolve import resolve_run
from birdlab.tracking.schema import known_levels
from birdlab.upkeep.archive import MANIFEST
from birdlab.upkeep.doctor import examine_lab
from birdlab.upkeep.exchange import export_runs, import_runs
from birdlab.upkeep.foreign import import_foreign
from birdlab.upkeep.garbage import find_garbage, free_garbage, size_of


def age(path: Path, days: float = 30) -> None:
    """Make a file or folder and all below it look as old."""
    when = time.time() - days * 86_400
    for part in [path, *path.rglob("*")] if path.is_dir() else [path]:
        os.utime(part, (when, when))


def names(lab: Lab, **options: Any) -> dict[str, str]:
    return {item.path.name: item.kind for item in find_garbage(lab, **options)}


def snapshot(lab: Lab) -> dict[str, int]:
    files = (p for p in lab.stores.rglob("*") if p.is_file() and p.suffix != ".lock")
    return {str(p.relative_to(lab.stores)): p.stat().st_size for p in files}


@dataclass
class Answer:
    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def call(lab: Lab, *args: str) -> Answer:
        capsys.readouterr()
        monkeypatch.chdir(lab.root)
        monkeypatch.setattr(sys, "argv", ["birdlab", "--lab", str(lab.root), *args])
        monkeypatch.setenv("BIRDLAB_HOME", str(lab.root))
        with pytest.raises(SystemExit) as ended:
            entry.main()
        got = capsys.readouterr()
        return Answer(int(ended.value.code or 0), got.out, got.err)

    return call


# ---------------------------------------------------------------- gc


def test_only_what_nothing_needs_is_freed(make_lab: MakeLab) -> None:
    lab = make_lab()
    stages = {
        "stages": [{"pre": {"data": "abroad"}}, {"tune": {"start": "pre", "transfer": "backbone"}}]
    }
    spec = load_spec(lab.root / "tiny.yaml", {**stages, "cells.folds": [0]})
    run_experiment(spec, lab=lab)
    other = run_experiment(load_spec(lab.root / "tiny.yaml", {"cells.folds": [0]}), lab=lab)
    (orphan,) = other.cells["cell_id"]
    other.record.unlink()
    for cell in lab.cells.iterdir():
        age(cell)
    before = snapshot(lab)
    assert not [n for n in before if "checkpoint" in n or "optimizer" in n], "of finished cells"
    found = find_garbage(lab)
    assert [(item.kind, item.path.name) for item in found] == [("cell", orphan)]
    assert found[0].n_bytes == sum(s for n, s in before.items() if n.startswith(f"cells/{orphan}/"))
    assert names(lab, keep_days=60) == {}
    assert snapshot(lab) == before, "finding changes nothing"
    assert [item.path.name for item in free_garbage(lab, found)] == [orphan]
    assert set(before) - set(snapshot(lab)) == {
        n for n in before if n.startswith(f"cells/{orphan}/")
    }
    assert not list(lab.cells.glob(".*.gone"))
    assert run_experiment(spec, lab=lab).trained == 0, "starts of kept cells are kept"


def test_what_is_held_or_worked_for_stays(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    plan = plan_experiment(load_spec(lab.root / "tiny.yaml"), lab)
    (record,) = record_paths(lab)
    record.unlink()
    one, two = (cell.cell_id for cell in plan.cells)
    part = lab.cells / ".0123456789abcdef.part"
    part.mkdir()
    (part / "checkpoint.pt").write_bytes(b"x" * 10)
    for path in lab.cells.iterdir():
        age(path)
    assert names(lab) == {one: "cell", two: "cell", part.name: "part"}
    found = find_garbage(lab)
    with FileLock(lab.cells / f".{one}.lock"), FileLock(lab.cells / ".0123456789abcdef.lock"):
        assert names(lab) == {two: "cell"}
        assert [item.path.name for item in free_garbage(lab, found)] == [two]
    with job_folder(lab) as jobs:
        save_job(plan, plan.cells[0], jobs)
        assert names(lab) == {part.name: "part"}, "a driver may count on any cell"
        assert [item.kind for item in free_garbage(lab, found)] == ["part"]
    assert names(lab) == {one: "cell"}


def test_nothing_is_taken_from_a_run_on_its_way(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    record_paths(lab)[0].unlink()
    changes = ("train.length.steps=100000", "cells.seeds=[0,1]", "name=long")
    command = [
        sys.executable,
        "-m",
        "birdlab.cli.app",
        "run",
        "tiny.yaml",
        "--no-mlflow",
        "-j",
        "1",
    ]
    command += [word for change in changes for word in ("--set", change)]
    with subprocess.Popen(
        command, cwd=lab.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as driver:
        try:
            deadline = time.monotonic() + 60
            while not list(lab.cells.glob(".*.part/checkpoint.pt")):
                assert driver.poll() is None and time.monotonic() < deadline
                if list(lab.cells.glob(".*.part/whole")):
                    break
                time.sleep(0.1)
            before = {p.name for p in lab.cells.iterdir()}
            assert names(lab, keep_days=0) == {}
            assert {p.name for p in lab.cells.iterdir()} >= before
        finally:
            driver.kill()
    kinds = names(lab, keep_days=0).values()
    assert sorted(set(kinds)) == ["cell", "driver", "jobs", "part"], "now that it is dead"


def test_leftovers_and_old_failures_go_and_links_are_not_followed(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    lab = make_lab(trained=True)
    outside = tmp_path / "outside"
    shutil.copytree(next(p for p in lab.cells.iterdir() if p.is_dir()), outside)
    (lab.cells / "aaaaaaaaaaaaaaaa").symlink_to(outside)
    failed = lab.stores / "failed"
    failed.mkdir()
    for name in ("old.txt", "new.txt"):
        (failed / name).write_text("traceback")
    (failed / "elsewhere").symlink_to(outside)
    host = os.uname().nodename
    jobs = lab.cells / f".jobs-{host}-4194304-1.00"
    jobs.mkdir()
    used_again = lab.cells / f".jobs-{host}-{os.getpid()}-1.00"
    used_again.mkdir()
    foreign = lab.cells / f".jobs-{host}-2-4194304-1.00"
    foreign.mkdir()
    half = lab.runs / ".abc.json.1.part"
    half.write_text("{")
    with Driver(lab, "old", "sweep", []), Driver(lab, "new", "sweep", []):
        pass
    old = lab.stores / "drivers" / "old.json"
    torn = lab.stores / "sweeps" / "lr" / ".summary.json.1.part"
    write_whole(torn, "{")
    pages = [lab.stores / store / f"{store}.html" for store in ("why", "augment")]
    for page in (*pages, lab.stores / "why" / "young.html"):
        page.parent.mkdir(exist_ok=True)
        page.write_text("<p>")
    for path in (failed / "old.txt", half, torn, old, *pages):
        age(path)
    age(outside)
    dead = {jobs.name: "jobs", used_again.name: "jobs"}
    unfinished = {half.name: "unfinished", torn.name: "unfinished"}
    with Driver(lab, "runs", "sweep", []):
        age(lab.stores / "drivers" / "runs.json")
        found = names(lab)
    regenerable = {page.name: "page" for page in pages}
    assert found == {"old.txt": "failed", old.name: "driver", **dead, **unfinished, **regenerable}
    listed = {item.path.name: item for item in find_garbage(lab)}
    assert listed["why.html"].reason == "birdlab why writes it again"
    assert listed["why.html"].n_bytes == 3
    free_garbage(lab, find_garbage(lab, keep_days=0))
    assert sorted(p.name for p in failed.iterdir()) == ["elsewhere"]
    assert (outside / "cell.json").is_file() and foreign.is_dir()
    assert len(record_paths(lab)) == 1


def test_decoded_audio_of_no_data_set_goes_when_asked_for(make_lab: MakeLab) -> None:
    lab = make_lab(trained=True)
    assert names(lab, waveforms=True) == {}
    shutil.copytree(lab.dataset_root("abroad"), lab.root / "elsewhere")
    toml = lab.root / "birdlab.toml"
    mine = toml.read_text()
    toml.write_text(mine + 'elsewhere = "elsewhere"\n')
    for audio in (lab.root / "elsewhere").rglob("*.ogg"):
        wave, rate = soundfile.read(audio)
        soundfile.write(audio, wave * 0.5, rate)
    with_more = open_lab(lab.root)
    changes = {"data.base": "elsewhere", "cells.folds": [0]}
    plan = plan_experiment(load_spec(lab.root / "tiny.yaml", changes), with_more)
    assert build_store(with_more, plan)
    assert names(with_more, waveforms=True) == {}
    toml.write_text(mine)
    found = find_garbage(lab, waveforms=True)
    assert [(item.kind, item.path.name) for item in found] == [("waves", "00001.npy")]
    assert len(free_garbage(lab, found)) == 1
    assert sorted(p.name for p in lab.waves.glob("0*")) == ["00000.i16", "00000.npy"]
    assert (
        run_experiment(load_spec(lab.root / "tiny.yaml", {"train.batch": 8}), lab=lab).trained == 2
    )


def test_gc_asks_before_it_frees(make_lab: MakeLab, cli: Any) -> None:
    lab = make_lab(trained=True)
    record_paths(lab)[0].unlink()
    listed = cli(lab, "gc", "--keep-days", "0")
    assert "nothing was freed" in listed.out and "no run refers to it" in listed.out
    assert len(json.loads(cli(lab, "gc", "--keep-days", "0", "--json").out)) == 2
    assert "nothing to free" in cli(lab, "gc").out
    assert "freed" in cli(lab, "gc", "--keep-days", "0", "--yes").out
    assert not list(lab.cells.glob("*/cell.json"))


def test_what_goes_away_meanwhile_is_no_error(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "cell").mkdir()
    for name in ("a", "b"):
        (tmp_path / "cell" / name).write_bytes(bytes(10))
    (tmp_path / "link").symlink_to(tmp_path / "cell")
    assert (size_of(tmp_path / "cell"), size_of(tmp_path / "link")) == (20, 0)
    walk = os.walk(tmp_path / "cell")
    monkeypatch.setattr("os.walk", lambda _: [*walk, (str(tmp_path / "cell"), [], ["gone"])])
    assert size_of(tmp_path / "cell") == 20
    assert size_of(tmp_path / "gone") == 0


# ---------------------------------------------------------------- export and import


def test_runs_move_to_another_lab_and_score_the_same(
    make_lab: MakeLab, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = make_lab(trained=True), make_lab()
    append_row(
        ours.ledger,
        {
            "run": record_paths(ours)[0].stem,
            "metric": "padded_cmap",
            "source": "add",
            "public": 0.5,
            "other": {"abroad": 0.25},
        },
    )
    written = cli(ours, "export", "tiny", "-o", "x.tar")
    archive = ours.root / "x.tar"
    assert written.code == 0 and re.match(
        r"writing x.tar: [\d.]+ MB, [\d.]+ .B free\n", written.err
    )
    assert cli(ours, "-q", "export", "tiny", "-o", "quiet.tar").err == ""
    assert "there already" in cli(ours, "export", "tiny", "-o", "x.tar").err
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
        said = cli(ours, "export", "tiny", "-o", "y.tar").err
        refused = cli(theirs, "import", str(archive)).err
    assert "does not fit on the disk" in said and not (ours.root / "y.tar").exists()
    assert (
        "does not fit on the disk" in refused and "unpacking" in refused and "10 B free" in refused
    )
    assert not record_paths(theirs) and not list(theirs.stores.glob(".import*"))
    taken = cli(theirs, "import", str(archive))
    assert taken.code == 0, taken.err
    assert "new: 1 run, 2 cells, 1 leaderboard score; here already: 0 runs, 0 cells" in taken.out
    oof = birdlab.load_oof("tiny", theirs)
    pd.testing.assert_frame_equal(oof, birdlab.load_oof("tiny", ours))
    row = load_ledger(theirs.ledger).iloc[0]
    assert (row["public"], row["abroad"]) == (0.5, 0.25)
    assert (
        "tiny" in cli(theirs, "runs").out and "weights of 2 of 2" in cli(theirs, "show", "-1").out
    )
    before = snapshot(theirs)
    again = cli(theirs, "import", str(archive))
    assert "new: 0 runs, 0 cells, 0 leaderboard scores; here already: 1 run, 2 cells" in again.out
    assert snapshot(theirs) == before
    result = run_experiment(
        load_spec(theirs.root / "tiny.yaml", {"name": "tiny", "cells.seeds": [0, 1]}), lab=theirs
    )
    assert (result.trained, result.cached) == (2, 2)


def note_sweep(lab: Lab, *more: str) -> None:
    """A sweep of the run of the lab, and arms that are gone, with a bet."""
    runs = (record_paths(lab)[0].stem, *more)
    arms = [{"title": f"arm {run}", "delta": {}, "spec_id": run} for run in runs]
    kept = {"name": "s", "updated_at": "2026-01-01", "arms": arms, "stopped": [], "failed": []}
    kept["spec"] = {"name": "s", "base": "tiny.yaml", "grid": {"train.batch": [2, 4]}}
    write_whole(sweep_path(lab, "s"), json.dumps(kept))
    bets_path(lab, "s").unlink(missing_ok=True)
    place_bets(lab, "s", [BetSpec(text="batch 4 wins")], ["base"])


def test_sweeps_travel_with_all_their_arms_and_overwrite_none(make_lab: MakeLab, cli: Any) -> None:
    ours, theirs = make_lab(trained=True), make_lab()
    run = record_paths(ours)[0].stem
    note_sweep(ours, "f" * 12)
    assert "sweeps" not in cli(ours, "export", "tiny", "-o", "part.tar").out
    note_sweep(ours)
    assert "goes along: s" in cli(ours, "export", "tiny", "-o", "x.tar").out
    assert "nothing to export" in cli(ours, "export", "-o", "none.tar").err
    assert "1 run, 2 cells" in cli(ours, "export", "--sweep", "s", "-o", "sweep.tar").out
    with tarfile.open(ours.root / "sweep.tar") as one, tarfile.open(ours.root / "x.tar") as two:
        assert one.getnames() == two.getnames()
    archive = str(ours.root / "x.tar")
    taken = cli(theirs, "import", archive)
    assert "the sweep s is new" in taken.out, taken.err
    assert [one.bet.words for one in load_placed(theirs, "s")] == ["batch 4 wins"]
    assert sweep_path(theirs, "s").read_bytes() == sweep_path(ours, "s").read_bytes()
    assert "s" in load_sweeps(theirs) and resolve_run(theirs, "s:best")["spec_id"] == run
    assert resolve_run(theirs, f"s:arm {run}")["spec_id"] == run
    before = snapshot(theirs)
    assert "sweep" not in cli(theirs, "import", archive).out
    assert snapshot(theirs) == before
    for path in (bets_path(theirs, "s"), sweep_path(theirs, "s")):
        mine = path.read_text()
        path.write_text(f"{mine} ")
        assert "the sweep s is here otherwise" in cli(theirs, "import", archive).out
        assert path.read_text() == f"{mine} "
        path.write_text(mine)
    sweep_path(theirs, "s").unlink()
    with Driver(theirs, "s", "sweep", []):
        assert "the sweep s is here otherwise" in cli(theirs, "import", archive).out
    assert "the sweep s is new" in cli(theirs, "import", archive).out


def test_cells_are_united_and_nothing_is_overwritten(make_lab: MakeLab, cli: Any) -> None:
    ours, theirs = make_lab(trained=True), make_lab()
    assert cli(ours, "export", "tiny", "-o", "bare.tar", "--no-weights").code == 0
    assert cli(ours, "export", "tiny", "-o", "full.tar").code == 0
    cli(theirs, "import", str(ours.root / "bare.tar"))
    weights = sorted(theirs.cells.glob(f"*/{WEIGHTS}"))
    assert weights == []
    one, two = sorted(p for p in theirs.cells.iterdir() if p.is_dir())
    odd = next(two.glob("outputs-*/windows.parquet"))
    odd.write_bytes(odd.read_bytes() + b"\0")
    told = cli(theirs, "import", str(ours.root / "full.tar"))
    assert f"the cell {two.name} was trained here to other numbers" in told.out
    assert [p.parent for p in theirs.cells.glob(f"*/{WEIGHTS}")] == [one]


def tar_of(path: Path, files: dict[str, bytes], **change: Any) -> Path:
    """An archive as an export writes it, but for what `change` says of its one odd member."""
    said = {n: {"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in files.items()}
    manifest = {"format": 1, "runs": [], "files": said, "ledger": [], **change.pop("manifest", {})}
    members = {MANIFEST: json.dumps(manifest).encode(), **files}
    with tarfile.open(path, change.pop("mode", "w")) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if name != MANIFEST:
                for key, value in change.items():
                    setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content[: info.size]))
    return path


RECORD: dict[str, Any] = {
    **dict.fromkeys(("name", "project", "created_at", "updated_at"), ""),
    **{key: {} for key in ("delta", "sweeps", "scores")},
    "evaluation": {
        **dict.fromkeys(("metric", "rows_hash", "classes_hash"), ""),
        "folds": [],
        "seeds": [],
        "n_rows": 0,
        "n_classes": 0,
    },
    "spec_id": "0123456789ab",
    "cells": [],
}
SWEEP: dict[str, Any] = {
    **{key: [] for key in ("stopped", "failed")},
    "updated_at": "",
    "spec": {"name": "s", "base": "tiny.yaml", "grid": {"train.batch": [2, 4]}},
    "arms": [{"title": "a", "delta": {}, "spec_id": "0123456789ab"}],
}
CELL = "cells/0123456789abcdef/cell.json"
SOUND = {"cell_id": digest({"a": 1}), "document": {"a": 1}}
OUTSIDE = f"../cells/{SOUND['cell_id']}/x"


@pytest.mark.parametrize(
    ("files", "change", "part"),
    [
        ({"../evil.json": b"x"}, {}, "no name that an export makes"),
        ({"/etc/evil": b"x"}, {}, "no name that an export makes"),
        ({"cells/0123456789abcdef/../../x": b"x"}, {}, "no name that an export makes"),
        ({"cells/0123456789abcdef/.hidden": b"x"}, {}, "no name that an export makes"),
        ({"birdlab.toml": b"x"}, {}, "no name that an export makes"),
        ({CELL: b""}, {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "no plain file"),
        ({CELL: b""}, {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, "no plain file"),
        ({CELL: b""}, {"type": tarfile.CHRTYPE}, "no plain file"),
        ({CELL: b"{}"}, {"manifest": {"files": {}}}, "not in its list"),
        ({CELL: b"{}"}, {"manifest": {"files": {CELL: {"size": 2, "sha256": "0"}}}}, "not what"),
        ({CELL: b"{}"}, {"manifest": {"files": {CELL: {"size": 9, "sha256": "0"}}}}, "size"),
        ({CELL: b"{}"}, {"manifest": {"format": 9}}, "format 9"),
        ({CELL: b"{}"}, {"mode": "w:gz"}, "not taken"),
        ({CELL: b'{"cell_id": "0123456789abcdef", "document": {"a": 1}}'}, {}, "what its id says"),
        ({"cells/0123456789abcdef/curves.parquet": b"x"}, {}, "what its id says"),
        ({CELL: b"x" * 3_000_000}, {}, "more than 0.002 GB"),
        ({"runs/0123456789ab.json":
          json.dumps({**RECORD, "cells": [{"cell_id": "../..", "fold": 0, "seed": 0}]}).encode()},
         {"manifest": {"runs": ["0123456789ab"]}}, "what is no cell"),
        ({"runs/0123456789ab.json": json.dumps({**RECORD, "name": "\x1b[2J"}).encode()},
         {"manifest": {"runs": ["0123456789ab"]}}, "not that of this run"),
        ({"runs/0123456789ab.json":
          json.dumps({**RECORD, "cells": ["no cell"]}).encode()},
         {"manifest": {"runs": ["0123456789ab"]}}, "not that of this run"),
        ({"runs/0123456789ab.json":
          json.dumps({**RECORD, "cells": [
              {"cell_id": "0" * 16, "fold": 0, "seed": 0, "eval_id": "/../x"}]}).encode()},
         {"manifest": {"runs": ["0123456789ab"]}}, "what is no cell"),
        ({f"cells/{SOUND['cell_id']}/cell.json": json.dumps(SOUND).encode(),
          "runs/0123456789ab.json": b"{}",
          OUTSIDE[3:] + ".json": json.dumps({**RECORD, "spec_id": OUTSIDE}).encode()},
         {"manifest": {"runs": [OUTSIDE]}}, "not that of this run"),
        ({CELL: b"{}"}, {"manifest": {"files": {CELL: {"size": 2}}}}, "not what"),
        ({CELL: b'{"cell_id": "0123456789abcdef"}'}, {}, "what its id says"),
        ({}, {"manifest": {"runs": ["0123456789ab"]}}, "not that of this run"),
        ({}, {"manifest": {"ledger": [{"run": "x"}]}}, "date is not a date"),
        ({"sweeps/../s.json": b"{}"}, {}, "no name that an export makes"),
        ({"sweeps/s.json": b"[]"}, {}, "the sweep s is none"),
        ({"sweeps/t.json": json.dumps(SWEEP).encode()}, {}, "not that of this sweep"),
        ({"sweeps/s.json": json.dumps(SWEEP).encode()}, {}, "not in the archive"),
        ({"sweeps/s.json": json.dumps(
            SWEEP | {"arms": [SWEEP["arms"][0] | {"spec_id": "../x"}]}).encode()}, {}, "is no run"),
        ({"bets/s.jsonl": b"{}"}, {}, "the bets of s are none"),
        ({"bets/s.jsonl": b""}, {}, "of no sweep in the archive"),
    ],
)  # fmt: skip
def test_archives_that_are_not_sound_are_refused(
    tmp_path: Path, files: dict[str, bytes], change: dict[str, Any], part: str
) -> None:
    lab = Lab(tmp_path / "lab")
    archive = tar_of(tmp_path / "x.tar", files, **change)
    with pytest.raises(BirdlabError) as refused:
        import_runs(lab, archive, max_gb=0.002)
    assert part in str(refused.value)
    assert snapshot(lab) == {} and not list(lab.stores.glob(".import*"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lab", "x.tar"]


def test_an_archive_that_was_cut_off_leaves_nothing(make_lab: MakeLab, tmp_path: Path) -> None:
    ours = make_lab(trained=True)
    export_runs(ours, [load_json(p) for p in record_paths(ours)], tmp_path / "x.tar")
    content = (tmp_path / "x.tar").read_bytes()
    for share in (0.1, 0.5, 0.9):
        (tmp_path / "cut.tar").write_bytes(content[: int(len(content) * share)])
        lab = Lab(tmp_path / f"lab{share}")
        with pytest.raises(BirdlabError):
            import_runs(lab, tmp_path / "cut.tar")
        assert snapshot(lab) == {}


def test_an_import_is_undone_where_something_takes_no_rows_or_runs(
    make_lab: MakeLab, tmp_path: Path
) -> None:
    ours, theirs = make_lab(trained=True), Lab(tmp_path / "lab")
    export_runs(ours, [load_json(p) for p in record_paths(ours)], tmp_path / "x.tar")
    write_whole(theirs.ledger, "no row\n")
    with pytest.raises(LedgerError):
        import_runs(theirs, tmp_path / "x.tar")
    assert not record_paths(theirs) and not list(theirs.cells.glob("[!.]*"))
    theirs.ledger.unlink()
    shutil.rmtree(theirs.runs)
    theirs.runs.write_bytes(b"")
    with pytest.raises(LabError, match="cannot be written into the lab"):
        import_runs(theirs, tmp_path / "x.tar")
    assert not list(theirs.cells.glob("[!.]*")) and not list(theirs.stores.glob(".import*"))


# ---------------------------------------------------------------- foreign runs


def foreign_table(lab: Lab) -> pd.DataFrame:
    oof = birdlab.load_oof("tiny", lab)
    probs = oof.filter(like="prob/").rename(columns=lambda name: name.removeprefix("prob/"))
    return pd.concat([oof[["recording", "fold"]], probs], axis=1)


def test_a_foreign_model_joins_runs_and_comparisons(make_lab: MakeLab, cli: Any) -> None:
    lab = make_lab(trained=True)
    table = foreign_table(lab).sample(frac=1, random_state=0)
    table.to_parquet(lab.root / "perch.parquet")
    (lab.root / "perch.onnx").write_bytes(b"model")
    made = cli(
        lab,
        "import",
        "--oof",
        "perch.parquet",
        "--onnx",
        "perch.onnx",
        "--name",
        "perch",
        "--like",
        "tiny",
    )
    assert made.code == 0, made.err
    assert "do not compare" not in made.out
    runs = birdlab.load_runs(lab).set_index("name")
    for score in ("cv/padded_cmap", "cv/macro_auc", "floor"):
        assert runs.loc["perch", score] == pytest.approx(runs.loc["tiny", score])
    for same in ("rows_hash", "classes_hash", "n_folds", "n_rows"):
        assert runs.loc["perch", same] == runs.loc["tiny", same]
    assert runs.loc["perch", "status"] == "foreign"
    ours, theirs = (birdlab.load_oof(name, lab) for name in ("tiny", "perch"))
    pd.testing.assert_frame_equal(ours, theirs)
    cells = load_cells(lab)
    scores = {name: list(part["padded_cmap"]) for name, part in cells.groupby("name")}
    assert scores["perch"] == pytest.approx(scores["tiny"])
    run = runs.loc["perch", "run"]
    assert (lab.stores / "foreign" / f"{run}.onnx").read_bytes() == b"model"
    assert names(lab, keep_days=0) == {}, "its cells are a run's"

    assert "foreign.like" in cli(lab, "show", "perch").out
    assert "only scores compare" in cli(lab, "diff", "tiny", "perch").out
    for command in ("rerun", "promote"):
        refused = cli(lab, command, "perch")
        assert (refused.code, "a foreign run has no spec" in refused.err) == (1, True)
    assert "has no spec" in cli(lab, "extend", "perch", "--seeds", "2").err
    scored = cli(lab, "lb", "add", "perch", "--public", "0.5", "--metric", "padded_cmap")
    assert scored.code == 0, scored.err
    assert cli(lab, "export", "perch", "-o", "p.tar").code == 0
    other = make_lab()
    assert "1 run, 2 cells" in cli(other, "import", str(lab.root / "p.tar")).out
    assert (other.stores / "foreign" / f"{run}.onnx").is_file()


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda t: t.drop(columns="fold"), "lacks fold"),
        (lambda t: t.assign(note=1), "unknown note"),
        (lambda t: t.drop(columns=t.columns[-1]), "lacks"),
        (lambda t: t.assign(recording="x.ogg"), "not among the rows"),
        (lambda t: pd.concat([t, t.head(1)]), "twice"),
        (lambda t: t.assign(**{t.columns[-1]: 1.5}), "from 0 to 1"),
        (lambda t: t.assign(**{t.columns[-1]: np.nan}), "from 0 to 1"),
        (lambda t: t.assign(fold=0.5), "whole numbers"),
        (lambda t: t.assign(seed="9" * 400), "no number"),
    ],
)
def test_tables_that_do_not_fit_are_refused(make_lab: MakeLab, change: Any, part: str) -> None:
    lab = make_lab(trained=True)
    plan = plan_experiment(load_spec(lab.root / "tiny.yaml"), lab)
    change(foreign_table(lab)).to_csv(lab.root / "t.csv", index=False)
    before = snapshot(lab)
    with pytest.raises(DataError) as refused:
        import_foreign(lab, plan, lab.root / "t.csv", "f", like="x")
    assert part in str(refused.value)
    assert snapshot(lab) == before


def test_a_model_that_is_not_there_and_a_table_without_rows_leave_nothing(
    make_lab: MakeLab, cli: Any
) -> None:
    lab = make_lab(trained=True)
    table = foreign_table(lab)
    table.to_csv(lab.root / "t.csv", index=False)
    table.head(0).to_csv(lab.root / "none.csv", index=False)
    before = snapshot(lab)
    like = ("--name", "f", "--like", "tiny")
    lost = cli(lab, "import", "--oof", "t.csv", "--onnx", "gone.onnx", *like)
    assert lost.code == 1 and "there is no such model" in lost.err
    bare = cli(lab, "import", "--oof", "none.csv", *like)
    assert bare.code == 1 and "the table has no rows" in bare.err
    assert snapshot(lab) == before


def test_other_folds_are_scored_and_said_not_to_compare(make_lab: MakeLab, cli: Any) -> None:
    lab = make_lab(trained=True)
    table = foreign_table(lab).assign(fold=lambda t: 1 - t["fold"])
    table.to_csv(lab.root / "t.csv", index=False)
    told = cli(lab, "import", "--oof", "t.csv", "--name", "f", "--like", "tiny")
    assert "scores do not compare" in told.out
    runs = birdlab.load_runs(lab).set_index("name")
    assert runs.loc["f", "rows_hash"] != runs.loc["tiny", "rows_hash"]


# ---------------------------------------------------------------- doctor


def found(answer: Any) -> dict[str, dict[str, str]]:
    return {line["what"]: line for line in json.loads(answer.out)}


def test_a_lab_that_is_well(make_lab: MakeLab, cli: Any) -> None:
    lab = make_lab(trained=True, mlflow=True)
    before = snapshot(lab)
    answer = cli(lab, "doctor", "--json")
    assert answer.code == 0, answer.out
    lines = found(answer)
    assert {line["level"] for name, line in lines.items() if name != "disk"} == {"ok"}
    assert "2 of 2 opened are whole" in lines["cells"]["said"]
    assert "at migration" in lines["mlflow"]["said"]
    assert lines["ledger"]["said"] == "0 submissions"
    assert snapshot(lab) == before, "nothing changes"
    plain = cli(lab, "doctor").out
    assert "ok    records      1 of 1 readable" in plain


def test_what_ails_a_lab_is_named_with_a_remedy(make_lab: MakeLab, cli: Any) -> None:
    lab = make_lab(trained=True, mlflow=True)
    one, two = sorted(p for p in lab.cells.iterdir() if p.is_dir() and p.name[0] != ".")
    (one / WEIGHTS).write_bytes(b"\xff" * 100)  # a header of 2**64 bytes
    next(two.glob("outputs-*/windows.parquet")).write_bytes(b"PAR1")
    (lab.runs / "0123456789ab.json").write_text("{")
    (lab.stores / "mlflow.db").write_bytes(b"SQLite format 3\0 no more")
    (lab.waves / "00000.i16").write_bytes(b"")
    append_row(lab.ledger, {"run": "ab", "metric": "m", "source": "add", "public": 0.5})
    warned = examine_lab(lab)
    assert [f.said for f in warned if f.what == "ledger"] == [
        "1 submission; not among the runs: ab"
    ]
    lab.ledger.write_bytes(lab.ledger.read_bytes()[:-9])
    local = lab.root / "birdlab.local.toml"
    local.write_text('[data]\nabroad = "gone"\n')
    answer = cli(lab, "doctor", "--json")
    assert answer.code == 1
    lines = found(answer)
    for name, level, fix in (
        (f"cell {one.name}", "bad", "birdlab rerun"),
        (f"cell {two.name}", "bad", "birdlab rerun"),
        ("record 0123456789ab.json", "bad", "run its experiment again"),
        ("mlflow", "bad", "birdlab mlflow sync"),
        ("data abroad", "warn", "birdlab.local.toml"),
    ):
        assert lines[name]["level"] == level, lines[name]
        assert fix in lines[name]["fix"]
    assert "delete that line" in lines[f"{lab.ledger}:1"]["fix"]
    assert any("00000.i16" in what and line["level"] == "bad" for what, line in lines.items())


def test_a_link_that_was_torn_stops_no_command(make_lab: MakeLab, cli: Any) -> None:
    lab = make_lab(trained=True)
    (record,) = record_paths(lab)
    link_path(lab, record.stem).write_text("{")
    write_whole(lab.open_runs / record.stem, "")
    answer = cli(lab, "status")
    assert answer.code == 0 and "remove the file" in answer.err
    examined = cli(lab, "doctor")
    assert examined.code == 1
    assert f"record {record.stem}.mlflow.json" in examined.out
    assert "remove the file" in examined.out


def test_a_database_of_another_mlflow_is_told_apart(make_lab: MakeLab, cli: Any) -> None:
    lab = make_lab(mlflow=True)
    for level, expected in ((known_levels()[3], "older MLflow"), ("ffffffffffff", "newer MLflow")):
        with closing(sqlite3.connect(lab.stores / "mlflow.db")) as database, database:
            database.execute("UPDATE alembic_version SET version_num = ?", [level])
        assert expected in found(cli(lab, "doctor", "--json"))["mlflow"]["said"]


def test_a_driver_that_died_is_told(make_lab: MakeLab, cli: Any) -> None:
    lab = make_lab(trained=True)
    cells = {"a": {"state": "done"}, "b": {"state": "running"}}
    note = DriverNote(
        "lr",
        "sweep",
        os.uname().nodename,
        4194304,
        1.0,
        "birdlab sweep lr.yaml",
        "2025-01-01T00:00:00+00:00",
        "2025-01-01T01:00:00+00:00",
        cells=cells,
    )
    write_whole(lab.stores / "drivers" / "lr.json", json.dumps(asdict(note)))
    answer = cli(lab, "doctor", "--json")
    line = found(answer)["driver lr"]
    assert (answer.code, line["level"]) == (0, "warn")
    assert "birdlab sweep lr.yaml" in line["fix"]
    assert "lost      lr: 1 of 2 cells" in cli(lab, "runs").out
