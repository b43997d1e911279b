"""The registry of kinds: what a `kind:` in a spec may name, and the function behind it.

A kind is one frozen pydantic class with a `kind` field and one function. birdlab's own
kinds and those of an extension file register in the same way:

    @register("augmentation")
    class PolarityFlip(AugmentationSpec):
        kind: Literal["polarity_flip"] = "polarity_flip"

    @implements(PolarityFlip)
    def flip_polarity(spec, batch, draws): ...

`semantics` is a number that its author raises when the same fields start to give other
numbers; it is part of the identity of every cell that uses the kind. For kinds of an
extension the hash of the extension's source is part of it too.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from birdlab.errors import SpecError
from birdlab.spec.base import Spec

S = TypeVar("S", bound=type[Spec])
F = TypeVar("F", bound=Callable[..., Any])

FAMILIES = (
    "frontend",
    "backbone",
    "head",
    "augmentation",
    "loss",
    "sampler",
    "optimizer",
    "schedule",
    "clean",
    "folds",
    "source",
    "estimator",
    "postprocess",
)


@dataclass(frozen=True)
class Kind:
    """One registered kind: its class, its semantics number, the source hash of its extension."""

    family: str
    name: str
    cls: type[Spec]
    semantics: int
    source_hash: str | None


_KINDS: dict[tuple[str, str], Kind] = {}
_FUNCTIONS: dict[type[Spec], Callable[..., Any]] = {}
_loading: list[str] = []
_loaded: dict[Path, str] = {}


def register(family: str, *, semantics: int = 1) -> Callable[[S], S]:
    """Register the decorated class under its `kind` in `family`.

    Raises SpecError when the family is unknown, the class has no `kind` default, or the
    name is taken by another class.
    """
    if family not in FAMILIES:
        raise SpecError(f"unknown family of kinds {family!r}", expected=", ".join(FAMILIES))

    def add(cls: S) -> S:
        field = cls.__pydantic_fields__.get("kind")
        name = field.default if field is not None else None
        if not isinstance(name, str):
            raise SpecError(
                f"{cls.__name__} has no `kind` with a default",
                fix='add: kind: Literal["its_name"] = "its_name"',
            )
        taken = _KINDS.get((family, name))
        if taken is not None and _home(taken.cls) != _home(cls):
            raise SpecError(
                f"the {family} kind {name!r} is registered twice",
                where=f"{taken.cls.__module__} and {cls.__module__}",
                fix="give one of them another kind",
            )
        source = _loading[-1] if _loading else None
        if taken is not None and taken.source_hash != source:
            _forget(taken.source_hash)
        _KINDS[family, name] = Kind(family, name, cls, semantics, source)
        return cls

    return add


def _forget(source_hash: str | None) -> None:
    """An extension whose kind was replaced is to be loaded again when its lab is opened."""
    for path in [path for path, loaded in _loaded.items() if loaded == source_hash]:
        del _loaded[path]


def _home(cls: type[Spec]) -> tuple[str, str]:
    """Where a class was written: a file that is loaded again gives the same."""
    return cls.__module__, cls.__qualname__


def implements(cls: type[Spec], **extra: Any) -> Callable[[F], F]:
    """Register the decorated function as what `cls` does.

    `extra` is what else is to be known of it: further functions by role, or a trait.
    """

    def add(function: F) -> F:
        function.__dict__.update(extra)
        _FUNCTIONS[cls] = function
        return function

    return add


def function_of(spec: Spec) -> Callable[..., Any]:
    """The function registered for the kind of `spec`; SpecError when there is none."""
    try:
        return _FUNCTIONS[type(spec)]
    except KeyError:
        raise SpecError(
            f"the kind {getattr(spec, 'kind', type(spec).__name__)!r} has no function",
            fix=f"decorate one with @implements({type(spec).__name__})",
        ) from None


def kind_of(spec: Spec) -> Kind:
    """The registration of the kind of `spec`; SpecError when another file replaced it since."""
    for kind in _KINDS.values():
        if kind.cls is type(spec):
            return kind
    raise SpecError(
        f"the kind {getattr(spec, 'kind', type(spec).__name__)!r} is no longer registered",
        fix="load the spec again: its extension was replaced by another lab's",
    )


def kinds(family: str) -> dict[str, Kind]:
    """All registered kinds of one family by name."""
    return {name: kind for (fam, name), kind in sorted(_KINDS.items()) if fam == family}


def built_in_kinds(family: str) -> dict[str, Kind]:
    """The kinds of one family that birdlab itself brings, whatever else is loaded."""
    own = kinds(family).items()
    return {name: kind for name, kind in own if kind.cls.__module__.startswith("birdlab.")}


def kinds_in(value: object) -> Iterator[Kind]:
    """Every kind used anywhere inside a spec."""
    if isinstance(value, Spec):
        if "kind" in type(value).model_fields:
            yield kind_of(value)
        for name in type(value).model_fields:
            yield from kinds_in(getattr(value, name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from kinds_in(item)


def nearest(name: object, known: list[str]) -> str:
    """`known` as a sentence part that leads with the name closest to `name`."""
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    names = ", ".join(known) or "none"
    return f"did you mean {close[0]!r}? known: {names}" if close else f"known: {names}"


class KindOf:
    """Annotation of a field that holds any registered kind of one family.

    A mapping without `kind` means the `default` kind, so that one field of it can be
    changed by its dotted name (`train.optimizer.lr`) where the file names no kind.
    """

    def __init__(self, family: str, default: str | None = None, *, text: bool = False) -> None:
        self.family, self.default, self.text = family, default, text

    def parse(self, value: Any) -> Spec | str:
        """The kind instance for `value`: an instance, a kind name, or a mapping with `kind`.

        A field that also takes plain text keeps a string that names no kind.
        """
        if isinstance(value, Spec):
            return value
        if isinstance(value, str):
            if self.text and (self.family, value) not in _KINDS:
                return value
            value = {"kind": value}
        if isinstance(value, dict) and "kind" not in value and self.default is not None:
            value = {"kind": self.default, **value}
        if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
            raise PydanticCustomError("kind_missing", "needs a kind; " + self._known(None))
        kind = _KINDS.get((self.family, value["kind"]))
        if kind is None:
            raise PydanticCustomError(
                "kind_unknown",
                "unknown {family} {name}; {known}",
                {
                    "family": self.family,
                    "name": repr(value["kind"]),
                    "known": self._known(value["kind"]),
                },
            )
        return kind.cls.model_validate(value)

    def _known(self, name: object) -> str:
        return nearest(name, list(kinds(self.family)))

    def __get_pydantic_core_schema__(
        self, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value if isinstance(value, str) else value.model_dump(mode="json")
            ),
        )


@contextmanager
def _attributed_to(source_hash: str) -> Iterator[None]:
    _loading.append(source_hash)
    try:
        yield
    finally:
        _loading.pop()


def load_extension(path: Path) -> str:
    """The source hash of the extension file at `path`, whose kinds are now registered.

    A file that is loaded already is not loaded again unless its content changed. Raises
    SpecError when the file is missing or fails while it is imported.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise SpecError(
            "an extension cannot be read",
            where=str(path),
            got=error.strerror,
            fix="correct `extensions` in birdlab.toml",
        ) from None
    source_hash = hashlib.sha256(source).hexdigest()[:16]
    if _loaded.get(path) == source_hash:
        return source_hash
    name = f"birdlab_extension_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise SpecError(
            "an extension is not a Python file",
            where=str(path),
            expected="a file that ends with .py",
        )
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    with _attributed_to(source_hash):
        try:
            module_spec.loader.exec_module(module)
        except SpecError:
            raise
        except Exception as error:
            raise SpecError(
                "an extension failed while it was imported",
                where=str(path),
                got=f"{type(error).__name__}: {error}",
                fix="correct the file, or take it out of `extensions` in birdlab.toml",
            ) from error
    _loaded[path] = source_hash
    return source_hash
