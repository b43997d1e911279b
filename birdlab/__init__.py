"""birdlab: experiment tracking and ablations for bird-sound detection."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# ONNX Runtime reads it when it is imported; else it keeps an id of the machine in the home folder
# and sends what it observes to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from birdlab.run import run_experiment
    from birdlab.runresult import RunResult
    from birdlab.spec import ExperimentSpec, load_spec
    from birdlab.tracking.readback import load_model, load_oof, load_runs

__all__ = [
    "ExperimentSpec",
    "RunResult",
    "__version__",
    "load_model",
    "load_oof",
    "load_runs",
    "load_spec",
    "run_experiment",
]

_HOMES = {
    "ExperimentSpec": "birdlab.spec",
    "load_spec": "birdlab.spec",
    "RunResult": "birdlab.runresult",
    "run_experiment": "birdlab.run",
    "load_model": "birdlab.tracking.readback",
    "load_oof": "birdlab.tracking.readback",
    "load_runs": "birdlab.tracking.readback",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when first used, so that `birdlab --help` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'birdlab' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
