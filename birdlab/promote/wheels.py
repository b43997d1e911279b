"""The wheels that a bundle needs, for the Python of another machine, with their hashes."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from birdlab.errors import PromotionError
from birdlab.infer.checksums import file_sha256

PACKAGES = ("numpy", "pandas", "soundfile", "soxr", "onnxruntime")
"""What birdlab.infer imports; pip adds what these need themselves."""
EXPECTED_BYTES = {"onnxruntime": 60_000_000, "openvino": 119_000_000}
"""What all wheels of an engine took for Linux on x86-64 in November 2026 (`birdlab bundle`)."""
REQUIREMENTS = "requirements.txt"
_PYTHON = re.compile(r"3\.(1[1-9])")
_MANYLINUX = re.compile(r"manylinux_2_(\d{1,3})_([a-z0-9_]+)")
_PLATFORM = re.compile(r"[a-z0-9]+(_[a-z0-9]+)+")
_OLDEST, _OLDEST_NAME = 17, "manylinux2014"
"""The oldest Linux that packages are still built for, and the other name of its wheels."""


def name_requirements(engine: str) -> list[str]:
    """The packages at the versions that are installed here: those that parity was shown with."""
    packages = [*PACKAGES, *(["openvino"] if engine == "openvino" else [])]
    return [f"{package}=={version(package)}" for package in packages]


def expect_bytes(engine: str, source: Path | None) -> int:
    """About how many bytes the wheels take: those of a folder, else what they took before."""
    if source is None:
        return EXPECTED_BYTES[engine]
    return sum(wheel.stat().st_size for wheel in source.glob("*.whl"))


def download_wheels(
    folder: Path,
    requirements: Sequence[str],
    *,
    python: str,
    platform: str,
    source: Path | None = None,
) -> list[Path]:
    """The wheels in `folder` for that Python and platform, and beside them `requirements.txt`.

    The latter names each wheel as a file with its SHA-256, for `pip install --require-hashes` in
    that folder. They come from where pip is told to look; wheels of the folder `source` come
    first. Raises PromotionError for a Python or platform that is none, and when pip cannot fetch
    them, with the command to run where it can.
    """
    options = _options(requirements, python, platform)
    given = [] if source is None else [str(wheel) for wheel in sorted(source.glob("*.whl"))]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--dest", str(folder), *options, *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PromotionError(
            "the wheels cannot be fetched",
            where="the package index" if source is None else str(source),
            got=_complaint(done.stderr),
            fix="where there is a network: pip download --dest wheels "
            f"{shlex.join(options)}; then here: --wheels-from wheels. Or --no-wheels",
        )
    wheels = sorted(folder.glob("*.whl"))
    (folder / REQUIREMENTS).write_text("".join(map(_pinned, wheels)), encoding="utf-8")
    return wheels


def _options(requirements: Sequence[str], python: str, platform: str) -> list[str]:
    if not _PYTHON.fullmatch(python):
        raise PromotionError("this is no Python for birdlab", got=python, expected="3.11 to 3.19")
    tag = f"cp{python.replace('.', '')}"
    options = ["--only-binary=:all:", "--implementation", "cp", "--abi", tag]
    options += ["--python-version", python]
    for name in _platforms(platform):
        options += ["--platform", name]
    return [*options, *requirements]


def _platforms(platform: str) -> list[str]:
    """The platform and, of a Linux, every older one whose wheels run there: pip takes tags as
    they are."""
    found = _MANYLINUX.fullmatch(platform)
    if found is None:
        if not _PLATFORM.fullmatch(platform):
            raise PromotionError(
                "this is no platform of wheels",
                got=platform,
                expected="for example manylinux_2_28_x86_64, macosx_14_0_arm64 or win_amd64",
            )
        return [platform]
    newest = int(found[1])
    names = [f"manylinux_2_{minor}_{found[2]}" for minor in range(newest, _OLDEST - 1, -1)]
    return [*names, f"{_OLDEST_NAME}_{found[2]}"]


def _pinned(wheel: Path) -> str:
    return f"./{wheel.name} --hash=sha256:{file_sha256(wheel)}\n"


def _complaint(stderr: str) -> str:
    """What pip says is wrong, without its warnings."""
    lines = [line for line in stderr.splitlines() if line.startswith("ERROR:")]
    if not lines:  # not pip's own words: there is no pip, for one
        return (stderr.strip() or "no reason given").splitlines()[-1][:600]
    return " ".join(line.removeprefix("ERROR:").strip() for line in lines)[:600]
