"""birdlab.infer and what it imports as a single file that Python runs."""

from __future__ import annotations

import zipfile
from pathlib import Path

import birdlab

PREDICTOR_FILE = "predictor.pyz"
BESIDE = (
    "__init__",
    "errors",
    "timing",
    "data.__init__",
    "data.audio",
    "data.audiofile",
    "evaluate.__init__",
    "evaluate.blends",
    "evaluate.passes",
    "evaluate.pooling",
    "evaluate.postprocess",
    "evaluate.poststeps",
    "evaluate.probabilities",
    "evaluate.stepchecks",
    "evaluate.windows",
)
"""The modules of birdlab that birdlab.infer may import."""
_ROOT = Path(birdlab.__file__).parent
_MAIN = "import sys\n\nfrom birdlab.infer.__main__ import main\n\nsys.exit(main())\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def list_modules() -> list[Path]:
    """The files of the predictor, as they are here."""
    beside = [_ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in BESIDE]
    return sorted([*beside, *(_ROOT / "infer").glob("*.py")])


def write_predictor(path: Path) -> Path:
    """The path of the written file: `python predictor.pyz` is `python -m birdlab.infer`.

    The same modules give the same bytes.
    """
    with path.open("wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo("__main__.py", _EPOCH), _MAIN)
            for module in list_modules():
                name = f"birdlab/{module.relative_to(_ROOT).as_posix()}"
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, module.read_bytes())
    return path
