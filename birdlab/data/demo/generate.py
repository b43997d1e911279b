"""Makes the demo competition on disk, whole or not at all."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import soxr

from birdlab.data.demo.mislabelled import link_competition, relabel_competition
from birdlab.data.demo.oggfile import write_ogg
from birdlab.data.demo.parts import build_part
from birdlab.data.demo.rendering import Plan, Truth, render_plan
from birdlab.data.demo.settings import SAMPLE_RATE_HZ, DemoSettings, Part
from birdlab.data.demo.tables import save_tables
from birdlab.data.demo.world import BackgroundPlan, RecordingPlan, World
from birdlab.errors import LabError

MANIFEST = "demo.json"
COMPETITION = "demo"
"""The name of the folder that holds the competition itself, beside those of its parts."""
FORMAT = 1
_STALE_S = 3600.0

Task = tuple[str, DemoSettings, Plan]
Heard = dict[str, Mapping[str, Truth]]


def build_demo(
    root: Path,
    settings: DemoSettings | None = None,
    *,
    part: Part = "competition",
    jobs: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """The folder of the demo competition made from `settings` (the default ones when None).

    With another `part`, that of a data set that goes with it. A folder that already holds it is
    returned as it is; one that holds a demo of other settings is replaced. Files are made by
    `jobs` processes (1: in this one) in a folder beside `root` that takes its name when complete.
    `progress` gets files done and files in all. The part `mislabelled` links the files of a folder
    `demo` beside `root` where that holds this competition, and makes none of them again.
    Raises LabError when `root` holds something else.
    """
    root, settings = Path(root), settings or DemoSettings()
    made_of: dict[str, object] = {"format": FORMAT, "settings": settings.as_json()}
    manifest = made_of if part == "competition" else {**made_of, "part": part}
    if _holds_demo(root, manifest):
        return root
    world = build_part(settings, part)
    with _partial_folder(root) as partial:
        if part == "mislabelled" and _is_demo(root.with_name(COMPETITION), made_of):
            link_competition(root.with_name(COMPETITION), partial)
            (partial / MANIFEST).unlink()
        else:
            audible = _render_all(partial, settings, world, jobs, progress)
            save_tables(partial, settings, world, audible)
        if part == "mislabelled":
            relabel_competition(partial, settings)
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        _replace_folder(partial, root, manifest)
    return root


def _holds_demo(root: Path, manifest: dict[str, object]) -> bool:
    """Whether `root` holds the demo of this manifest; LabError when it holds no demo at all."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabError(
            "the demo competition is not written over a folder that holds something else",
            where=str(root),
            got=f"no readable {MANIFEST} in it",
            fix="name another folder for the demo, or move this one away",
        ) from error
    return bool(found == manifest)


def _is_demo(root: Path, manifest: dict[str, object]) -> bool:
    try:
        return _holds_demo(root, manifest)
    except LabError:
        return False


@contextmanager
def _partial_folder(root: Path) -> Iterator[Path]:
    """A new folder beside `root`, gone at the end; leftovers of killed processes go with it."""
    root.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{root.name}-partial-"
    for leftover in root.parent.glob(f"{prefix}*"):
        if time.time() - leftover.stat().st_mtime > _STALE_S:
            shutil.rmtree(leftover, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=prefix, dir=root.parent))
    try:
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _replace_folder(partial: Path, root: Path, manifest: dict[str, object]) -> None:
    """Give the finished folder its name, unless another process was first with an equal one."""
    if _holds_demo(root, manifest):
        return
    partial.chmod(0o755)
    if root.exists():
        root.rename(partial.with_name(f"{partial.name}-old"))
    partial.rename(root)
    shutil.rmtree(partial.with_name(f"{partial.name}-old"), ignore_errors=True)


def _path_of(plan: Plan) -> str:
    if isinstance(plan, RecordingPlan):
        return f"train_audio/{plan.filename}"
    folder = "background" if isinstance(plan, BackgroundPlan) else "soundscapes"
    return f"{folder}/{plan.filename}"


def render_file(task: Task) -> tuple[str, Mapping[str, Truth]]:
    """Write one file of the competition; its name and the audible frames of each species."""
    folder, settings, plan = task
    rendering = render_plan(settings, plan)
    rate_hz = plan.rate_hz if isinstance(plan, RecordingPlan) else SAMPLE_RATE_HZ
    wave = rendering.wave
    if rate_hz != SAMPLE_RATE_HZ:
        wave = soxr.resample(wave, SAMPLE_RATE_HZ, rate_hz)
    write_ogg(Path(folder) / _path_of(plan), wave, rate_hz)
    return plan.filename, rendering.audible


def _render_all(
    partial: Path,
    settings: DemoSettings,
    world: World,
    jobs: int,
    progress: Callable[[int, int], None] | None,
) -> Heard:
    """Write all audio below `partial`, the longest files first, so that the jobs end together."""
    plans: list[Plan] = [*world.recordings, *world.backgrounds, *world.soundscapes]
    plans.sort(key=lambda plan: (-plan.duration_s, plan.filename))
    for plan in plans:
        (partial / _path_of(plan)).parent.mkdir(parents=True, exist_ok=True)
    for folder in ("background", "soundscapes") if world.recordings else ():
        (partial / folder).mkdir(exist_ok=True)
    tasks = [(str(partial), settings, plan) for plan in plans]
    if jobs <= 1:
        return _collect(map(render_file, tasks), len(tasks), progress)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_leave_with_parent)
    try:
        return _collect(pool.map(render_file, tasks, chunksize=4), len(tasks), progress)
    finally:
        pool.shutdown(cancel_futures=True)


def _collect(
    results: Iterable[tuple[str, Mapping[str, Truth]]],
    total: int,
    progress: Callable[[int, int], None] | None,
) -> Heard:
    audible: Heard = {}
    for filename, heard in results:
        audible[filename] = heard
        if progress is not None:
            progress(len(audible), total)
    return audible


def _leave_with_parent() -> None:
    """End this worker when its parent is killed; it would wait for work for ever otherwise."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
