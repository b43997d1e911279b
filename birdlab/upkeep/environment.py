"""Checks of the environment: packages, device, audio formats, disk, clock."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from birdlab.lab import Lab
from birdlab.upkeep.finding import Finding

_FORMATS = ("WAV", "FLAC", "OGG", "MP3")
_LEAST_FREE = 5_000_000_000
_EARLIEST = 1_735_689_600  # 2025-01-01


def check_packages() -> Iterator[Finding]:
    """A line for each package that birdlab needs and that is missing or out of its range."""
    from packaging.requirements import Requirement

    wrong = 0
    for text in metadata.requires("birdlab") or ():
        needed = Requirement(text)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(needed.name)
        except metadata.PackageNotFoundError:
            version = "missing"
        if version == "missing" or not needed.specifier.contains(version, prereleases=True):
            wrong += 1
            fix = f"pip install '{needed}'"
            yield Finding("bad", needed.name, f"{version}, needs {needed.specifier}", fix)
    if not wrong:
        named = ("torch", "mlflow", "optuna", "onnxruntime")
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in named)
        yield Finding("ok", "packages", versions)


def check_device() -> Finding:
    """The device that cells train on."""
    from birdlab.network import device_name, pick_device

    kind = pick_device().type
    return Finding("ok", "device", f"{kind}: {device_name() or 'unnamed'}")


def check_audio() -> Iterator[Finding]:
    """What libsndfile reads, and whether ffmpeg is there for the rest."""
    import soundfile

    known = soundfile.available_formats()
    lacking = [name for name in _FORMATS if name not in known]
    if lacking:
        yield Finding(
            "bad", "audio", f"libsndfile reads no {', '.join(lacking)}", "pip install -U soundfile"
        )
    else:
        yield Finding("ok", "audio", f"libsndfile {soundfile.__libsndfile_version__}")
    try:
        import imageio_ffmpeg

        yield Finding("ok", "ffmpeg", imageio_ffmpeg.get_ffmpeg_version())
    except (ImportError, RuntimeError) as error:
        yield Finding("warn", "ffmpeg", str(error), "pip install imageio-ffmpeg")


def check_disk(lab: Lab) -> Finding:
    """How much room is left where the stores lie."""
    place = next(p for p in (lab.stores, *lab.stores.resolve().parents) if p.exists())
    usage = shutil.disk_usage(place)
    said = f"{usage.free / 1e9:.1f} GB free of {usage.total / 1e9:.1f} GB at {place}"
    if usage.free < _LEAST_FREE:
        return Finding("warn", "disk", said, "birdlab gc, or move stores (birdlab.toml: stores)")
    return Finding("ok", "disk", said)


def check_clock(lab: Lab) -> Finding:
    """Whether the clock can be right: records are ordered by it."""
    now = time.time()
    newest = max((p.stat().st_mtime for p in _files(lab.runs)), default=0.0)
    if now < _EARLIEST or newest > now + 60:
        said = f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(now))} UTC"
        said += "" if newest <= now + 60 else "; files of the lab are from the future"
        return Finding("warn", "clock", said, "set the clock: runs are ordered by it")
    return Finding("ok", "clock", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now)))


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []
