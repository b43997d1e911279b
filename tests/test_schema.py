"""The reference and the JSON Schema of spec files are what the loader takes."""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import birdlab.lab
import birdlab.spec
from birdlab.spec.base import Spec
from birdlab.spec.kinds import FAMILIES, built_in_kinds, kinds, load_extension
from birdlab.spec.meanings import class_meaning, holds_number, meaning_of
from birdlab.spec.model import LogMelSpec
from birdlab.spec.optimizers import Adam, Sgd

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
    load_extension(ROOT / "experiments/extensions/pcen.py")  # not a built-in kind: not on a page
    assert "pcen" in kinds("frontend")
    assert generate.main(["--check"]) == 0, capsys.readouterr().out
    monkeypatch.setattr(generate, "PAGES", {"reference/spec.md": lambda: "other"})
    assert generate.main(["--check"]) == 1
    assert "stale: docs/reference/spec.md" in capsys.readouterr().out


def find_models() -> Iterator[type[Spec]]:
    """Every model that a spec file or the lab file is made of."""
    for module in pkgutil.iter_modules(birdlab.spec.__path__):
        importlib.import_module(f"birdlab.spec.{module.name}")
    below = list(Spec.__subclasses__())
    for cls in below:
        below += cls.__subclasses__()
        if cls.__module__.startswith(("birdlab.spec.", "birdlab.lab")):
            yield cls


MODELS = sorted(set(find_models()), key=lambda cls: (cls.__module__, cls.__name__))


@pytest.mark.parametrize("cls", MODELS, ids=lambda cls: cls.__name__)
def test_every_field_says_what_it_means(cls: type[Spec]) -> None:
    for name, field in cls.model_fields.items():
        meaning = meaning_of(cls, name)
        assert meaning.text.endswith((".", ")")), f"{cls.__name__}.{name} says nothing below it"
        if holds_number(field.annotation):
            assert meaning.unit not in ("", "none"), f"{cls.__name__}.{name} has no unit"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_kind_says_where_it_comes_from(family: str) -> None:
    for name, kind in built_in_kinds(family).items():
        assert class_meaning(kind.cls).source, f"{family} {name} has no `Source:`"


def test_every_model_is_on_a_page(generate: ModuleType) -> None:
    shown = "".join(generate.PAGES[f"reference/{page}.md"]() for page in ("spec", "lab"))
    for cls in MODELS:
        is_base = any(other is not cls and issubclass(other, cls) for other in MODELS)
        if not is_base:
            assert class_meaning(cls).text in shown, cls.__name__


def test_a_docstring_is_told_apart_into_text_unit_and_source() -> None:
    lr = meaning_of(Sgd, "lr")
    assert lr.text.startswith("The learning rate of the head")
    assert (lr.unit, lr.source) == ("rate", "birdlab")
    assert meaning_of(Adam, "lr").source.startswith("first place of BirdCLEF 2023")
    assert meaning_of(Sgd, "momentum").source.startswith("Sutskever et al. 2013")
    assert meaning_of(Adam, "weight_decay").source == "birdlab"
    assert meaning_of(LogMelSpec, "f_min_hz").unit == "Hz"
    assert meaning_of(LogMelSpec, "kind").text == "Which kind it is."
