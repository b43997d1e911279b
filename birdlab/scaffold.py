"""What `birdlab init` writes: a lab file, the built-in experiments, a .gitignore."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from birdlab.errors import LabError
from birdlab.lab import LAB_FILE
from birdlab.schemafiles import add_editor_line

_LAB = """\
#:schema ./experiments/.schema/lab.json
# The lab file: where things lie. Specs name data sets; this file says where they are.
# birdlab.local.toml beside it overrides it on one machine and is not committed.

# jobs = 2                       # at most so many cells at once (default: all there is room for)
# cores = 8                      # CPU cores that cells may use (default: those of the process)
# gpus = 2                       # GPUs for cells: a number, or names: [0, 1] (default: all visible)
# cells_per_gpu = 1              # so many cells share a GPU
# stores = "mlruns"              # everything birdlab writes
# tracking_uri = ""              # an MLflow server; default: SQLite in the stores
extensions = [
    "experiments/extensions/constant_q.py",
    "experiments/extensions/ecapa_tdnn.py",
    "experiments/extensions/leaf.py",
    "experiments/extensions/minus_median.py",
    "experiments/extensions/pcen.py",
    "experiments/extensions/pitch_speed.py",
    "experiments/extensions/polarity_flip.py",
    "experiments/extensions/worst_fold.py",
]

[data]
# birdclef-2023 = "data/birdclef-2023"     # a folder with train_metadata.csv and train_audio/

[weights]
# my-backbone = "weights/my_backbone.pth"  # a state dict or safetensors, for model.weights
"""

_IGNORE = """\
mlruns/
birdlab.local.toml
submission*.csv
"""


def init_lab(folder: Path) -> list[Path]:
    """The files that were made in `folder`; those that exist are left as they are."""
    wanted = {LAB_FILE: _LAB, ".gitignore": _IGNORE}
    wanted |= {f"experiments/{name}": text for name, text in built_in_experiments().items()}
    wanted = {
        name: add_editor_line(text, ".schema") if name.endswith(".yaml") else text
        for name, text in wanted.items()
    }
    made = []
    try:
        for name, text in wanted.items():
            path = folder / name
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
                made.append(path)
    except OSError as error:
        raise LabError(
            "a lab cannot be made here",
            where=str(folder),
            got=error.strerror,
            fix="name a folder where you may write",
        ) from None
    return made


def built_in_experiments() -> dict[str, str]:
    """The experiments that come with birdlab, by path below `experiments/`."""
    checkout = Path(__file__).resolve().parents[1] / "experiments"
    packaged = Path(str(files("birdlab"))) / "experiments"
    root = packaged if packaged.is_dir() else checkout
    found = sorted([*root.rglob("*.yaml"), *root.rglob("*.py")])
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in found}
