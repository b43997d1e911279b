"""Runs on their way between labs: what goes out with them, and how a lab takes them in."""

from __future__ import annotations

import filecmp
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from birdlab.cellfiles import CARD, WEIGHTS
from birdlab.errors import LabError
from birdlab.lab import Lab, write_whole
from birdlab.recorded import inputs_of, is_foreign, iter_line, load_json
from birdlab.recordshape import find_record_fault
from birdlab.runtables import tables_folder
from birdlab.spec.identity import CELL_ID_CHARS, SPEC_ID_CHARS, digest
from birdlab.study.ledger import append_rows, load_ledger
from birdlab.study.ledger_row import COLUMNS, check_row
from birdlab.upkeep.archive import (
    MAX_GB,
    Announce,
    Manifest,
    unpack_archive,
    write_archive,
)
from birdlab.upkeep.sweep_exchange import (
    TakenSweeps,
    find_unsound_sweep,
    sweep_files,
    take_sweeps,
)

_LEADS_OUT = re.compile(r"[/\\\0]")


@dataclass
class Imported:
    """What an import did: runs, cells and ledger rows that are new, and what stayed as it was."""

    runs: list[str] = field(default_factory=list)
    kept_runs: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    kept_cells: list[str] = field(default_factory=list)
    odd_cells: list[str] = field(default_factory=list)
    ledger_rows: int = 0
    sweeps: TakenSweeps = field(default_factory=TakenSweeps)


def export_runs(
    lab: Lab,
    records: Sequence[Mapping[str, Any]],
    path: Path,
    *,
    weights: bool = True,
    announce: Announce | None = None,
) -> Manifest:
    """What the written archive holds: runs with all their cells and ledger rows.

    Cells are those that are scored and all they start from; `weights=False` leaves weights out,
    so that the runs can be scored and compared but not promoted. Sweeps of which every arm goes
    along go too, with their bets. `announce` gets the size before anything is written. Raises
    LabError for a cell that is not in the lab; else as `write_archive`.
    """
    files: dict[str, Path] = {}
    for record in records:
        for cell in record["cells"]:
            for cell_id in iter_line(lab, cell["cell_id"]):
                files |= _cell_files(lab, cell_id, weights)
        model = lab.stores / "foreign" / f"{record['spec_id']}.onnx"
        if weights and is_foreign(record) and model.is_file():
            files[f"foreign/{model.name}"] = model
        for table in sorted(tables_folder(lab, record["spec_id"]).glob("*.parquet")):
            files[f"runs/{record['spec_id']}/{table.name}"] = table
        files[f"runs/{record['spec_id']}.json"] = lab.runs / f"{record['spec_id']}.json"
    runs = [record["spec_id"] for record in records]
    files |= sweep_files(lab, runs)
    return write_archive(path, files, runs, _ledger_rows(lab, runs), announce)


def import_runs(
    lab: Lab, path: Path, *, max_gb: float = MAX_GB, announce: Announce | None = None
) -> Imported:
    """What became of the runs of an archive: taken whole or not at all, nothing overwritten.

    A run or cell that the lab has stays; what such a cell lacks (weights, other outputs) is
    added when the files that both have are equal, else it is listed in `odd_cells` and left
    alone. Raises LabError for an archive that is not sound (see `unpack_archive`) and for a lab
    that cannot be written.
    """
    staging = lab.stores / f".import-{os.getpid()}"
    shutil.rmtree(staging, ignore_errors=True)
    placed: list[Path] = []
    try:
        staging.mkdir(parents=True)
        manifest = unpack_archive(path, staging, max_gb, announce)
        _check_content(lab, staging, manifest, path)
        done = Imported()
        try:
            _take_cells(lab, staging, manifest, done, placed)
            _take_runs(lab, staging, manifest, done, placed)
            done.sweeps = take_sweeps(lab, staging, placed)
            done.ledger_rows = _take_ledger(lab, manifest)
        except BaseException:
            for made in reversed(placed):
                shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)
            raise
        return done
    except OSError as error:
        raise LabError(
            "the runs cannot be written into the lab",
            where=str(lab.stores),
            got=error,
            fix="make room, or let this folder be written, and import the archive again",
        ) from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _cell_files(lab: Lab, cell_id: str, weights: bool) -> dict[str, Path]:
    folder = lab.cells / cell_id
    if not (folder / CARD).is_file():
        raise LabError(
            f"the cell {cell_id} of a run is not in the lab",
            where=str(folder),
            fix="train it again: birdlab rerun RUN",
        )
    inner = [p for p in (*folder.glob("*"), *folder.glob("*/*")) if not p.is_symlink()]
    named = {
        p.relative_to(folder): p for p in inner if p.is_file() and weights | (p.name != WEIGHTS)
    }
    return {
        f"cells/{cell_id}/{name.as_posix()}": file
        for name, file in sorted(named.items())
        if not any(part.startswith(".") for part in name.parts)
    }


def _ledger_rows(lab: Lab, runs: Sequence[str]) -> list[dict[str, Any]]:
    table = load_ledger(lab.ledger)
    rows = json.loads(table[table["run"].isin(runs)].to_json(orient="records", double_precision=15))
    out = []
    for row in rows:
        other = {k: v for k, v in row.items() if k not in COLUMNS and v is not None}
        out.append({k: row[k] for k in COLUMNS[1:]} | ({"other": other} if other else {}))
    return out


def _check_content(lab: Lab, staging: Path, manifest: Manifest, path: Path) -> None:
    """LabError unless ids are those of the content, and no run lacks a cell."""

    def refuse(why: str) -> LabError:
        return LabError(
            "the archive is not taken",
            where=str(path),
            got=why,
            fix="have it exported again: it is not as an export made it",
        )

    cells = {p.parent.name for p in staging.glob(f"cells/*/{CARD}")}
    for cell_id in {name.split("/")[1] for name in manifest.files if name.startswith("cells/")}:
        card = load_json(staging / "cells" / cell_id / CARD) if cell_id in cells else {}
        content = card.get("document")
        for one in inputs_of(card):
            if not _is_id(one):
                raise refuse(f"the cell {cell_id} is made from {one!r}, which is no cell")
        if card.get("cell_id") != cell_id or digest(content) != cell_id:
            raise refuse(f"the cell {cell_id} does not hold what its id says")
    for run in manifest.runs:
        file = staging / "runs" / f"{run}.json"
        record = load_json(file) if _is_id(run, SPEC_ID_CHARS) and file.is_file() else {}
        odd = bool(find_record_fault(record)) or not record["name"].isprintable()
        if odd or record["spec_id"] != run:
            raise refuse(f"the record of {run} is not that of this run")
        needed = {str(cell.get("cell_id")) for cell in record["cells"]}
        outputs = {str(cell.get("eval_id") or "") for cell in record["cells"]}
        if not all(map(_is_id, needed)) or any(map(_LEADS_OUT.search, outputs)):
            raise refuse(f"the record of {run} names what is no cell")
        lacking = {c for c in needed - cells if not (lab.cells / c / CARD).is_file()}
        if lacking:
            raise refuse(f"{run} lacks cells: {', '.join(sorted(lacking)[:3])}")
    unsound = find_unsound_sweep(staging, manifest.runs)
    if unsound:
        raise refuse(unsound)
    for row in manifest.ledger:
        check_row({k: v for k, v in row.items() if k != "id"}, str(path))


def _is_id(text: object, n_chars: int = CELL_ID_CHARS) -> bool:
    return re.fullmatch(rf"[0-9a-f]{{{n_chars}}}", str(text)) is not None


def _take_cells(
    lab: Lab, staging: Path, manifest: Manifest, done: Imported, placed: list[Path]
) -> None:
    lab.cells.mkdir(parents=True, exist_ok=True)
    for source in sorted(p.parent for p in staging.glob(f"cells/*/{CARD}")):
        target = lab.cells / source.name
        with FileLock(lab.cells / f".{source.name}.lock"):
            if not target.exists():
                source.rename(target)
                placed.append(target)
                done.cells.append(source.name)
                continue
            files = _files_below(source)
            own = _files_below(target)
            same = (filecmp.cmp(files[n], own[n], shallow=False) for n in _compared(files, own))
            if not all(same):
                done.odd_cells.append(source.name)
                continue
            done.kept_cells.append(source.name)
            for part in sorted(source.iterdir()):
                if not (target / part.name).exists():
                    part.rename(target / part.name)
                    placed.append(target / part.name)


def _files_below(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def _compared(one: Iterable[str], two: Iterable[str]) -> set[str]:
    """The files of a cell that say whether it is the same training: weights and outputs."""
    return {name for name in set(one) & set(two) if name == WEIGHTS or "/" in name}


def _take_runs(
    lab: Lab, staging: Path, manifest: Manifest, done: Imported, placed: list[Path]
) -> None:
    lab.runs.mkdir(parents=True, exist_ok=True)
    with FileLock(lab.runs / ".lock"):  # a sweep may score the same run
        for run in manifest.runs:
            _take_run(lab, staging, run, done, placed)


def _take_run(lab: Lab, staging: Path, run: str, done: Imported, placed: list[Path]) -> None:
    target, model = lab.runs / f"{run}.json", lab.stores / "foreign" / f"{run}.onnx"
    if target.exists():
        done.kept_runs.append(run)
        return
    if (staging / "foreign" / model.name).is_file() and not model.exists():
        model.parent.mkdir(exist_ok=True)
        (staging / "foreign" / model.name).rename(model)
        placed.append(model)
    tables = tables_folder(lab, run)
    if (staging / "runs" / run).is_dir() and not tables.exists():
        tables.parent.mkdir(parents=True, exist_ok=True)
        (staging / "runs" / run).rename(tables)
        placed.append(tables)
    write_whole(target, (staging / "runs" / target.name).read_text(encoding="utf-8"))
    placed.append(target)
    done.runs.append(run)


def _take_ledger(lab: Lab, manifest: Manifest) -> int:
    """How many rows of the archive's runs were new to the ledger."""
    rows = [row for row in manifest.ledger if row.get("run") in manifest.runs]
    return len(append_rows(lab.ledger, rows, skip_known=True))
