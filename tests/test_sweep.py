"""Sweeps: a ranking from trained cells, failures beside it."""

from __future__ import annotations

from typing import Any

from conftest import MakeLab

from birdlab.errors import CellError
from birdlab.lab import Lab
from birdlab.spec.sweep import load_sweep
from birdlab.sweep.driver import SweepResult, plan_sweep, run_sweep
from birdlab.sweep.local import LocalExecutor
from birdlab.sweep.slots import Inventory
from birdlab.tasks import Event, InProcess
from birdlab.tracking.index import load_sweeps
