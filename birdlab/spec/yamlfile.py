"""YAML files as plain data plus the line every field came from."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import (
    CommentedBase,
    CommentedMap,
    CommentedOrderedMap,
    CommentedSeq,
    TaggedScalar,
)
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from birdlab.errors import SpecError
from birdlab.spec.named import item_name

_PARSER_FAULTS = (
    ValueError,
    TypeError,  # `? {a: 1}`: a mapping as a key
    LookupError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    RecursionError,
)
"""What ruamel.yaml raises, beside its own errors, for text that is no sensible YAML."""

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
MAX_DEPTH = 40


@dataclass
class Document:
    """Plain data and, by dotted name, the place (`file:line`) of each field."""

    data: dict[str, Any]
    places: dict[str, str] = field(default_factory=dict)

    def place(self, dotted: str) -> str | None:
        """The place of a field, else of the nearest mapping around it."""
        parts = dotted.split(".")
        for end in range(len(parts), -1, -1):
            place = self.places.get(".".join(parts[:end]))
            if place is not None:
                return place
        return None


def load_yaml(path: Path) -> Document:
    """The mapping in a YAML 1.2 file; SpecError for anything that is not one."""
    try:
        at = path.stat()
        if not stat.S_ISREG(at.st_mode):  # a pipe or /dev/zero would be read without an end
            raise SpecError(
                "a spec file cannot be read",
                where=str(path),
                got="no plain file",
                expected="a YAML file",
            )
        if at.st_size > MAX_BYTES:
            raise SpecError(
                "a spec file is larger than 1 MB", where=str(path), expected="1 MB or less"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SpecError(
            "a spec file cannot be read",
            where=str(path),
            got=error.strerror,
            fix="check the path; `ls experiments/` lists the ones of this lab",
        ) from None
    except UnicodeDecodeError as error:
        raise SpecError(
            "a spec file is not UTF-8 text", where=str(path), got=error, fix="save it as UTF-8"
        ) from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, origin: str) -> Document:
    """The mapping in YAML 1.2 `text`; `origin` names it in errors."""
    try:
        parser = YAML(typ="rt")
        parser.Composer = _ShallowComposer
        tree = parser.load(text)
    except _TooDeepError:
        raise _too_much(origin) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"{origin}:{mark.line + 1}" if mark else origin
        raise SpecError(
            "a file is not valid YAML",
            where=line,
            got=error.problem,
            fix="correct the line that is named",
        ) from None
    except (YAMLError, *_PARSER_FAULTS) as error:
        raise SpecError(
            "a file is not valid YAML",
            where=origin,
            got=str(error),
            fix="correct the line that is named",
        ) from None
    if tree is None:
        tree = CommentedMap()
    if not isinstance(tree, CommentedMap):
        raise SpecError("a spec file holds no mapping", where=origin, expected="key: value lines")
    document = Document({}, {"": f"{origin}:1"})
    document.data = _Reader(origin, document.places).read(tree, "", 0)
    return document


class _TooDeepError(Exception):
    """A file has more than MAX_DEPTH brackets in brackets."""


class _ShallowComposer(Composer):
    """Stops at brackets in brackets, of which building a tree takes seconds for thousands."""

    levels = 0

    def compose_sequence_node(self, anchor: Any) -> Any:
        return self._composed(super().compose_sequence_node, anchor)

    def compose_mapping_node(self, anchor: Any) -> Any:
        return self._composed(super().compose_mapping_node, anchor)

    def _composed(self, compose: Callable[[Any], Any], anchor: Any) -> Any:
        self.levels += 1
        if self.levels > MAX_DEPTH:
            raise _TooDeepError
        node = compose(anchor)
        self.levels -= 1
        return node


def _too_much(origin: str) -> SpecError:
    return SpecError(
        "a file is nested too deeply or holds too much",
        where=origin,
        expected=f"at most {MAX_DEPTH} levels and {MAX_NODES:,} values, aliases counted",
    )


def parse_value(text: str) -> Any:
    """The YAML value in `text`, as typed after `--set a.b=`: 1e-3 is a number, no is text."""
    return parse_yaml("value: " + text, f"--set {text}").data["value"]


def _refuse_half_characters(text: str, where: str) -> None:
    """SpecError for text that no file can hold: half of a character, as "\\ud800" in YAML is."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SpecError(
            "a text holds half of a character",
            where=where,
            got=ascii(text[error.start : error.end]),
            fix="write the character itself, in UTF-8",
        ) from None


class _Reader:
    """Turns ruamel's tree into plain data, noting places; aliases may not blow it up."""

    def __init__(self, origin: str, places: dict[str, str]) -> None:
        self.origin, self.places, self.nodes = origin, places, 0

    def read(self, node: Any, dotted: str, depth: int) -> Any:
        self.nodes += 1
        if depth > MAX_DEPTH or self.nodes > MAX_NODES:
            raise _too_much(self.origin)
        if isinstance(node, CommentedMap | CommentedSeq):
            self._refuse_extras(node, dotted)
        if isinstance(node, CommentedMap):
            return self._mapping(node, dotted, depth)
        if isinstance(node, CommentedSeq):
            return [self._item(node, i, dotted, depth) for i in range(len(node))]
        return _scalar(node, dotted, self.origin)

    def _refuse_extras(self, node: Any, dotted: str) -> None:
        """Raise for a tag, and for a merge key, which YAML 1.2 does not have."""
        if node.tag.value is not None or isinstance(node, CommentedOrderedMap):
            raise SpecError(
                "YAML tags are not allowed in a spec", where=f"{self.origin}, field {dotted}"
            )
        if getattr(node, "merge", None):
            raise SpecError(
                "YAML merge keys (<<) are not allowed in a spec",
                where=f"{self.origin}, field {dotted}",
                fix="write the fields out, or put them into a base file: `base: common.yaml`",
            )

    def _mapping(self, node: CommentedMap, dotted: str, depth: int) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in node.items():
            line = node.lc.key(key)[0] + 1
            if not isinstance(key, str):
                raise SpecError(
                    f"the key {key!r} is not text",
                    where=f"{self.origin}:{line}",
                    fix=f'put it in quotes: "{key}"',
                )
            _refuse_half_characters(key, f"{self.origin}:{line}")
            inner = f"{dotted}.{key}" if dotted else key
            self.places[inner] = f"{self.origin}:{line}"
            out[str(key)] = self.read(value, inner, depth + 1)
        return out

    def _item(self, node: CommentedSeq, index: int, dotted: str, depth: int) -> Any:
        """A list item; one of the form `name: body` is placed under its name."""
        value = node[index]
        name = item_name(value) if isinstance(value, CommentedMap | str) else None
        inner = f"{dotted}.{name or index}"
        self.places[inner] = f"{self.origin}:{node.lc.item(index)[0] + 1}"
        if isinstance(value, CommentedMap) and list(value) == [name] and name is not None:
            return {str(name): self.read(value[name], inner, depth + 1)}
        return self.read(value, inner, depth + 1)


def _scalar(node: Any, dotted: str, origin: str) -> Any:
    if isinstance(node, TaggedScalar) or (
        isinstance(node, CommentedBase) and getattr(node, "tag", None) is not None
    ):
        raise SpecError("YAML tags are not allowed in a spec", where=f"{origin}, field {dotted}")
    if node is None or isinstance(node, bool):
        return node
    if isinstance(node, int):
        return int(node)
    if isinstance(node, float):
        return float(node)
    if isinstance(node, str):
        _refuse_half_characters(node, f"{origin}, field {dotted}")
        return str(node)
    raise SpecError(
        f"the value {node!s} is not text, a number, true or false",
        where=f"{origin}, field {dotted}",
        fix=f'put it in quotes: "{node!s}"',
    )
