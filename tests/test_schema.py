"""The reference and the JSON Schema of spec files are what the loader takes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """The script that writes the generated pages."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_fresh(
    generate: ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().out
    monkeypatch.setitem(generate.PAGES, "reference/spec.md", lambda: "other")
    assert generate.main(["--check"]) == 1
    assert "stale: docs/reference/spec.md" in capsys.readouterr().out
