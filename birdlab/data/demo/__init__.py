"""The built-in demo competition: invented birds, generated from a seed."""

from __future__ import annotations

from birdlab.data.demo.generate import build_demo
from birdlab.data.demo.mislabelled import find_mislabelled
from birdlab.data.demo.settings import DemoSettings
from birdlab.data.demo.truth import find_truth

__all__ = ["DemoSettings", "build_demo", "find_mislabelled", "find_truth"]
